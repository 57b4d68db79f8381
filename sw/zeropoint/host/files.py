"""Array files of a compiled program's inputs and outputs, for a host that has no model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zeropoint import arrays
from zeropoint.compiler.program import Buffer, HostTensor, Program
from zeropoint.host.host_steps import model_tensor
from zeropoint.model import QuantizedModel, Reshape
from zeropoint.numerics import Rounding

Array = npt.NDArray[Any]


def load_input(path: Path, program: Program) -> Array:
    """Return the inputs in a ``.npy`` file as a program takes them: see :func:`zeropoint.arrays.load_input`."""
    return arrays.load_input(path, _interface(program, program.input))


def save_output(path: Path, program: Program, y: Array) -> None:
    """Write a program's outputs to a ``.npy`` file: see :func:`zeropoint.arrays.save_output`."""
    last = program.host_steps[-1].output if program.host_steps else program.output
    arrays.save_output(path, _interface(program, last), y)


def _interface(program: Program, end: Buffer | HostTensor) -> QuantizedModel:
    """Return a model that has a program's tensor as its input and as its output, and the program's metadata."""
    first = model_tensor(end)
    last = replace(first, name=f"{first.name}'")
    step = Reshape(name="interface", input=first.name, output=last.name, shape=end.shape)
    tensors = {first.name: first, last.name: last}
    # Nothing is rounded here, but a model of wide activations says how.
    rounding = Rounding.EVEN if first.dtype == "int16" else Rounding.DOUBLE
    return QuantizedModel(program.name, tensors, (step,), first.name, last.name, program.metadata, rounding)
