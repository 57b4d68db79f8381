"""How fast the engines simulate the accelerator.

    python benchmarks/engines.py [--arrays 4x4 --arrays 8x8]

Each runs the demo network: Amaranth's simulator one inference, CXXRTL ten, and clock cycles are counted. Building the
CXXRTL simulator is timed with an empty cache, as after a change of the gateware; later runs take it from the cache.
Only the ratio of the engines says much about other machines.
"""

import os
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import click
import numpy as np

from zeropoint import arrays, golden, importers
from zeropoint.cli import terminal
from zeropoint.cli.demo import PIXEL
from zeropoint.cli.failures import exit_status
from zeropoint.compiler import compile_model
from zeropoint.compiler.storage import load, save
from zeropoint.model import FloatModel
from zeropoint.quantize import quantize
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.simulate import simulate

DEMO = Path(str(resources.files("zeropoint"))) / "demo"
INFERENCES = {"amaranth": 1, "cxxrtl": 10}


def measure(lanes: int, columns: int) -> list[Any]:
    """Return a row of the table."""
    network = importers.load(DEMO / "fashion_mnist.onnx")
    assert isinstance(network, FloatModel)
    calibration, images = (arrays.load_real(DEMO / f"{name}.npy", network, PIXEL) for name in ("calibration", "images"))
    model = quantize(network, calibration)
    x = model.tensor(model.input).quantize(images)
    speed = {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["ZEROPOINT_CACHE"] = str(Path(name, "cache"))
        save(compile_model(model, AcceleratorConfig(lanes=lanes, columns=columns)), Path(name, "program"))
        program = load(Path(name, "program"))
        began = time.perf_counter()
        simulate(program, x[:1], golden.run(model, x[:1]), engine="cxxrtl")
        built = time.perf_counter() - began
        for engine, count in INFERENCES.items():
            result = simulate(program, x[:count], golden.run(model, x[:count]), engine=engine)
            assert not np.any(result.mismatches)
            speed[engine] = result.cycles_per_second
    ratio = speed["cxxrtl"] / speed["amaranth"]
    return [f"{lanes} × {columns}", *(f"{speed[engine]:,.0f}" for engine in INFERENCES), f"{ratio:.0f}", f"{built:.0f}"]


@click.command(help=__doc__)
@click.option("--arrays", "sizes", multiple=True, default=("4x4", "8x8"), show_default=True, help="LANESxCOLUMNS.")
def main(sizes: tuple[str, ...]) -> None:
    rows = [measure(*map(int, size.split("x"))) for size in sizes]
    columns = ["array", "Amaranth, cycles/s", "CXXRTL, cycles/s", "times faster", "building and a first run, s"]
    terminal.table("Engines", columns, rows)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
