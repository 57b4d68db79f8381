"""What the hardware leaves to the host: the operators after a program's output."""

from typing import Any

import numpy.typing as npt

from zeropoint import golden
from zeropoint.compiler.program import Buffer, HostStep, HostTensor, Program
from zeropoint.errors import ZeropointError
from zeropoint.model import OPERATORS, Quantization, QuantizedModel, Tensor
from zeropoint.model.formats import Format, fixed_point
from zeropoint.numerics.minifloat import MinifloatFormat

Array = npt.NDArray[Any]


def apply_host_steps(program: Program, output: Array) -> Array:
    """Return the network's outputs ``(n, *shape)`` for the hardware's ``(n, *shape of program.output)``.

    Raises
    ------
    ZeropointError
        If this version of Zeropoint does not know an operator.
    """
    for step in program.host_steps:
        output = _host_step(step, output)
    return output


def model_tensor(tensor: HostTensor | Buffer) -> Tensor:
    """Return a program's tensor as a model has it."""
    return Tensor(
        tensor.tensor,
        tensor.shape,
        tensor.dtype,
        Quantization((tensor.scale,), (tensor.zero_point,)),
        format=_format(tensor),
    )


def _format(tensor: HostTensor | Buffer) -> Format | None:
    if tensor.minifloat is not None:
        return MinifloatFormat(*tensor.minifloat)
    return None if tensor.bits is None else fixed_point(tensor.bits)


def _host_step(step: HostStep, values: Array) -> Array:
    """Return what the golden model makes of an operator that the hardware leaves to the host."""
    if step.op == "Reshape":
        return values.reshape(-1, *step.output.shape)
    source, target = model_tensor(step.input), model_tensor(step.output)
    if step.op not in OPERATORS:
        raise ZeropointError(f"host step '{step.name}' ({step.op}) is unknown to this version of Zeropoint")
    operator = OPERATORS[step.op](name=step.name, input=source.name, output=target.name, **step.parameters)
    model = QuantizedModel(step.name, {source.name: source, target.name: target}, (operator,), source.name, target.name)
    return golden.run(model, values.reshape(-1, *source.shape))
