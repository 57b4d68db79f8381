"""How long the golden model takes, beside LiteRT's reference kernels, one thread each.

    ZEROPOINT_MODELS=folder OMP_NUM_THREADS=1 python benchmarks/against_litert.py [--batch 32] [--repeats 5]

Both compute the same random batch with the same network of MLPerf Tiny, in turns, and the outputs are compared bit for
bit. The best of the repeats counts; since machines differ, only the ratio says much. Preparing the network (LiteRT's
allocation, Zeropoint's importing) is left out of both. Needs ai-edge-litert 1.2.0 (CPython 3.11 and 3.12).
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from zeropoint import golden, importers
from zeropoint.cli import terminal
from zeropoint.cli.failures import exit_status
from zeropoint.errors import ZeropointError
from zeropoint.model import QuantizedModel

NETWORKS = ("pretrainedResnet_quant", "kws_ref_model", "ad01_int8")


def seconds(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a computation takes, and its result."""
    began = time.perf_counter()
    result = compute()
    return time.perf_counter() - began, result


def litert(path: Path, x: np.ndarray) -> Callable[[], np.ndarray]:
    """Return what runs a batch through LiteRT's reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(source, [len(x), *interpreter.get_input_details()[0]["shape"][1:]])
    interpreter.allocate_tensors()

    def compute() -> np.ndarray:
        interpreter.set_tensor(source, x)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return compute


@click.command()
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
def main(batch: int, repeats: int) -> None:
    """Time the golden model beside LiteRT's reference kernels."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise ZeropointError("set OMP_NUM_THREADS=1, so that both have one thread")
    folder = os.environ.get("ZEROPOINT_MODELS")
    if folder is None:
        raise ZeropointError("set ZEROPOINT_MODELS to the folder with the networks of MLPerf Tiny")
    rows = []
    for name in NETWORKS:
        path = Path(folder, f"{name}.tflite")
        model = importers.load(path)
        assert isinstance(model, QuantizedModel)
        shape = model.tensor(model.input).shape
        x = np.random.default_rng(0).integers(-128, 128, (batch, *shape)).astype(np.int8)
        reference = litert(path, x)
        ours, theirs = [], []
        for _ in range(repeats):
            taken, output = seconds(partial(golden.run, model, x))
            ours.append(taken)
            taken, expected = seconds(reference)
            theirs.append(taken)
            if not np.array_equal(output.reshape(expected.shape), expected):
                raise ZeropointError(f"{name}: the outputs differ")
        rows.append([name, f"{min(ours) * 1e3:.1f}", f"{min(theirs) * 1e3:.1f}", f"{min(theirs) / min(ours):.1f}"])
    terminal.table(
        f"A batch of {batch}, one thread", ["network", "golden model, ms", "LiteRT, ms", "times faster"], rows
    )


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
