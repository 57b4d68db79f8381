"""PyTorch is needed for training alone."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else real(name, *rest)
class Refuse:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("torch", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import zeropoint, zeropoint.cli", ""),
        ("import zeropoint.train", "zeropoint.train needs PyTorch: pip install 'zeropoint[train]'"),
    ],
)
def test_import_without_torch(statement, message):
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH + statement], capture_output=True, text=True, check=False)
    assert (run.returncode != 0) == bool(message)
    assert message in run.stderr
