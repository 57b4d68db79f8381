"""The plan: which operators share a pass over the array, and how rows of activations lie in memory."""

from dataclasses import dataclass, replace
from math import prod

from zeropoint.model import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Operator,
    Pad,
    Padding,
    QuantizedModel,
    Requantize,
    Reshape,
    ResizeNearestNeighbor,
    StridedSlice,
    Sub,
    Tensor,
    Transpose,
)
from zeropoint_hw.config import AcceleratorConfig

#: The widest pooling window that an instruction holds.
_POOL_LIMIT = 16

#: Layers that slide a window over a feature map, and layers that copy values, by a table or as they are.
_WINDOWS = (Conv2D, DepthwiseConv2D, MaxPool2D, AveragePool2D)
_COPIES = (Pad, Concatenation, StridedSlice, Transpose, ResizeNearestNeighbor, LeakyRelu, Logistic)

#: Layers that write pixels by a step, so that there may be gaps between them.
_WRITE_ANY_PITCH = (*_WINDOWS, *_COPIES)

#: Layers that find rows by a step, so that rows need not follow each other without gaps.
_TAKE_ANY_PITCH = (*_WINDOWS, Mean, Requantize, *_COPIES)

#: Layers whose results may be looked up on their way out, rather than by a copy.
_TAKE_TABLE = (*_WINDOWS, FullyConnected, Mean, Requantize, Add, Sub, Mul)


@dataclass(frozen=True)
class Scratch:
    """A tensor in activation memory that only one step writes and reads: an operand in the output's shape.

    Attributes
    ----------
    tensor
        What it is; its name is none of the model's.
    source
        The model's tensor that it holds, broadcast: a constant or an activation.
    """

    tensor: Tensor
    source: str


@dataclass(frozen=True)
class Step:
    """What the hardware computes in one pass: an operator, and what becomes of its outputs on their way out.

    Attributes
    ----------
    operator
        The operator.
    pool, table
        The max pooling of its outputs, or the operator that looks them up, if there is either.
    scratch
        What is to be written before, and read in the place of the operand that it holds.
    """

    operator: Operator
    pool: MaxPool2D | None = None
    table: LeakyRelu | Logistic | None = None
    scratch: tuple[Scratch, ...] = ()

    @property
    def output(self) -> str:
        """The tensor that is written."""
        return (self.pool or self.table or self.operator).output

    @property
    def label(self) -> str:
        """What the step computes, by kind."""
        return "+".join(each.kind for each in (self.operator, self.pool, self.table) if each)


def plan(model: QuantizedModel, operators: tuple[Operator, ...], output: str, fuse: bool = True) -> tuple[Step, ...]:
    """Return the passes that compute ``operators``, in order.

    A max pooling whose windows neither overlap nor reach into padding, and which alone reads a convolution's output,
    goes with the convolution: the maximum of requantized values is the requantized maximum's clamp, value by value.
    A table that alone reads the output of a layer that is no copy goes with that layer, unless a pooling does already,
    which would come after the table.

    Parameters
    ----------
    output
        A tensor that must be written.
    fuse
        Whether to do so; without it, every operator's output is written.
    """
    steps: list[Step] = []
    by_input = {each.input: each for each in operators if isinstance(each, MaxPool2D | LeakyRelu | Logistic)}
    fused: set[str] = set()
    for operator in operators:
        if operator.name in fused:
            continue
        step = Step(operator, scratch=_scratch(model, operator))
        reader = by_input.get(operator.output)
        if fuse and operator.output != output and len(model.consumers(operator.output)) == 1:
            if isinstance(operator, Conv2D) and isinstance(reader, MaxPool2D) and _pools_apart(reader):
                step = replace(step, pool=reader)
            elif isinstance(operator, _TAKE_TABLE) and isinstance(reader, LeakyRelu | Logistic):
                step = replace(step, table=reader)
        fused |= {each.name for each in (step.pool, step.table) if each}
        steps.append(step)
    return tuple(steps)


def _pools_apart(pool: MaxPool2D) -> bool:
    """Return whether windows neither overlap nor reach into padding, and are no larger than an instruction holds."""
    return pool.stride == pool.window and pool.padding == Padding() and max(pool.window) <= _POOL_LIMIT


def _scratch(model: QuantizedModel, operator: Operator) -> tuple[Scratch, ...]:
    """Return the operands that do not lie in memory as the array reads two of them: side by side, in one shape."""
    if not isinstance(operator, Add | Sub | Mul):
        return ()
    shape = model.tensor(operator.output).shape
    found = []
    for name in (operator.input, operator.other):
        source = model.tensor(name)
        if source.data is not None or prod(source.shape) != prod(shape):
            own = f"{name} as {operator.name} reads it"
            while own in model.tensors:
                own += "'"
            found.append(Scratch(Tensor(own, shape, source.dtype, source.quantization), name))
    return tuple(found)


@dataclass(frozen=True)
class Part:
    """Where in a concatenated tensor another one lies.

    Attributes
    ----------
    whole
        The concatenated tensor.
    axis, first
        The dimension along which they are concatenated, and the place along it of the part's first element.
    """

    whole: str
    axis: int
    first: int


def written_in_place(model: QuantizedModel, steps: tuple[Step, ...], output: str) -> dict[str, Part]:
    """Return the tensors that can be written into a concatenated one from the start, so that nobody has to copy them.

    Only a concatenation may read them, once, and what writes them must leave the gaps that the others' channels fill.
    """
    writers = {step.output: step.operator for step in steps if not isinstance(step.operator, Reshape)}
    found: dict[str, Part] = {}
    gaps: set[str] = set()
    # From the end, since a concatenated tensor may itself lie in another one, and have gaps.
    for operator in (step.operator for step in reversed(steps)):
        if not isinstance(operator, Concatenation):
            continue
        whole, first = model.tensor(operator.output), 0
        for name in operator.inputs:
            shape = model.tensor(name).shape
            gapped = len(shape) == 3 and shape[1] > 1 and (operator.axis == 2 or whole.name in gaps)
            if (
                name in writers
                and name != output
                and model.consumers(name) == (operator,)
                and operator.inputs.count(name) == 1
                and model.tensor(name).quantization == whole.quantization
                and (len(shape) == 3 or prod(shape[: operator.axis]) == 1)
                and (not gapped or isinstance(writers[name], _WRITE_ANY_PITCH))
            ):
                found[name] = Part(whole.name, operator.axis, first)
                gaps |= {name} if gapped else set()
            first += shape[operator.axis]
    return found


def pairs_rows(operator: Operator, run: int, config: AcceleratorConfig) -> bool:
    """Return whether a convolution would read two kernel rows at once if its input's rows lay so."""
    return (
        isinstance(operator, Conv2D)
        and operator.groups == 1
        and operator.dilation == (1, 1)
        and 2 * run <= config.lanes
    )


def row_pitches(
    model: QuantizedModel, steps: tuple[Step, ...], output: str, config: AcceleratorConfig
) -> dict[str, int]:
    """Return the bytes from row to row of the tensors whose rows had better not follow each other directly.

    Two kernel rows can be read at once if the second begins in the bank after the first one's end, which is a matter of
    the distance between rows, modulo ``lanes``.
    """
    pitches = {}
    for tensor in model.activations():
        readers = [step.operator for step in steps if tensor.name in step.operator.inputs]
        runs = set()
        for reader in readers:
            if isinstance(reader, Conv2D) and model.tensor(reader.weights).shape[1] > 1:
                run = model.tensor(reader.weights).shape[2] * tensor.shape[2]
                if pairs_rows(reader, run, config):
                    runs.add(run)
        made_by_reshape = any(isinstance(step.operator, Reshape) and step.output == tensor.name for step in steps)
        if len(runs) == 1 and all(isinstance(reader, _TAKE_ANY_PITCH) for reader in readers):
            if tensor.name == output or made_by_reshape:
                continue
            row_bytes = tensor.shape[1] * tensor.shape[2]
            pitches[tensor.name] = row_bytes + (runs.pop() - row_bytes) % config.lanes
    return pitches
