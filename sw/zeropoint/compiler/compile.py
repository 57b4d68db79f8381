"""The compiler: a quantized model and a configuration to a program."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from zeropoint.compiler.allocate import DoesNotFit, Request, allocate
from zeropoint.compiler.capacity import check_fits, shortage
from zeropoint.compiler.copies import byte_steps
from zeropoint.compiler.emit import Emitter, Place, map_shape
from zeropoint.compiler.encode import pack_words
from zeropoint.compiler.extents import EXTENTS, shortages
from zeropoint.compiler.features import FEATURES, features
from zeropoint.compiler.lower import LOWERINGS, lower
from zeropoint.compiler.normalize import normalize
from zeropoint.compiler.plan import Part, Step, plan, row_pitches, written_in_place
from zeropoint.compiler.powers import obstacle, parameter_rows
from zeropoint.compiler.program import Buffer, HostStep, HostTensor, Layer, Parameters, Program
from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.model import AveragePool2D, Mean, Operator, QuantizedModel, Reshape, Softmax, Tensor, zp_file
from zeropoint.numerics.dynamic_fixed_point import FixedPointFormat
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.isa import TABLE_ENTRIES, Instruction


@dataclass(frozen=True)
class Partition:
    """Who computes what: the hardware the first operators, the host the rest."""

    hardware: tuple[Operator, ...]
    host: tuple[Operator, ...]


def partition(model: QuantizedModel) -> Partition:
    """Split a model's operators into those that the hardware runs and those left to the host at the end.

    The host's part begins with the first SOFTMAX, after which only others and reshapes may follow.

    Raises
    ------
    ZeropointError
        If an operator that only the host runs comes before one for the hardware, or neither runs an operator; or if
        the host's operators are no chain that ends in the model's output.
    """
    operators = model.operators
    cut = next((index for index, operator in enumerate(operators) if isinstance(operator, Softmax)), len(operators))
    hardware, host = operators[:cut], operators[cut:]
    for operator in hardware:
        if not isinstance(operator, (Reshape, *LOWERINGS)):
            raise ZeropointError(
                f"operator '{operator.name}' ({operator.kind}) is not for the hardware; only the golden model "
                f"computes it: change the network to do without it"
            )
    for operator in host:
        if not isinstance(operator, Softmax | Reshape):
            raise ZeropointError(
                f"operator '{host[0].name}' ({host[0].kind}) runs on the host, so only Softmax and Reshape may follow "
                f"it, not '{operator.name}' ({operator.kind}); split the model after '{host[0].output}'"
            )
    wanted = [*(operator.input for operator in host[1:]), model.output]
    for operator, following in zip(host, wanted, strict=False):
        if operator.output != following:
            raise ZeropointError(
                f"operator '{operator.name}' ({operator.kind}) runs on the host, so what follows must read its output "
                f"'{operator.output}', not '{following}'; remove what the model's output does not need"
            )
    return Partition(hardware, host)


def compile_model(model: QuantizedModel, config: AcceleratorConfig, fuse: bool = True) -> Program:
    """Compile a model for an accelerator.

    Activations get their places by liveness: a tensor's memory is used again once its last reader is done. Weights and
    parameters follow each other in the order of the layers.

    Parameters
    ----------
    fuse
        Whether a convolution and the max pooling after it, and a layer and the table after it, become one layer, whose
        tensor in between is never written.

    Raises
    ------
    ZeropointError
        If the model does not fit the configuration's memories (by how much, and which option would make it fit), or
        has an operator that the hardware cannot run where it stands.
    """
    if isinstance(form := model.tensor(model.input).format, MinifloatFormat) != (config.pe is PEKind.MINIFLOAT):
        kind = "minifloats" if isinstance(form, MinifloatFormat) else "integers"
        raise ZeropointError(
            f"model '{model.name}' computes with {kind}, which --pe {config.pe} does not; leave the option out, so "
            f"that the network decides"
        )
    wide = model.tensor(model.input).dtype == "int16"
    if wide != (config.element_bits == 16):
        raise ZeropointError(
            f"model '{model.name}' has activations of {16 if wide else 8} bits, which --pe {config.pe} "
            f"--activation-bits {config.activation_bits} does not take; leave the options out, so that the network "
            f"decides"
        )
    digest = zp_file.digest(model)
    model = normalize(model)
    parts = partition(model)
    if not any(type(operator) in LOWERINGS for operator in parts.hardware):
        raise ZeropointError(
            f"model '{model.name}' has no operator for the hardware to run; compute it with the golden model"
        )
    output = parts.host[0].input if parts.host else model.output
    steps = plan(model, parts.hardware, output, fuse)
    places = _places(model, steps, output, config)

    emitter = Emitter(config)
    layers = []
    for step in steps:
        if isinstance(step.operator, Reshape):
            continue
        first, parameters = len(emitter.instructions), len(emitter.shifts)
        lower(model, step, places, emitter)
        _check_features(step, config, emitter, first, parameters)
        count = len(emitter.instructions) - first
        if count == 0:  # a concatenation whose parts have been written where they belong
            continue
        layers.append(Layer(step.operator.name, step.label, step.output, first, count, model.macs(step.operator)))
    emitter.instructions[-1] = replace(emitter.instructions[-1], end=1)
    # Before the instructions are encoded, whose addresses may be too wide.
    words = sum(len(part) for part in emitter.weight_words)
    check_fits(model.name, config, "weight_bytes", -(-words * config.stored_bits // 8))
    check_fits(model.name, config, "parameter_channels", len(emitter.biases))
    check_fits(model.name, config, "program_words", len(emitter.instructions) * Instruction.WORDS)
    check_fits(model.name, config, "tables", len(emitter.tables))

    buffers = {name: _buffer(place) for name, place in places.items() if name in model.tensors}
    return Program(
        config=config,
        name=model.name,
        model_sha256=digest,
        instructions=tuple(emitter.instructions),
        weights=pack_words(config, np.concatenate(emitter.weight_words)),
        parameters=Parameters(
            np.asarray(emitter.biases, np.int32),
            np.asarray(emitter.multipliers, np.uint32),
            np.asarray(emitter.shifts, np.int8),
            config.shifts,
        ),
        tables=np.frombuffer(b"".join(emitter.tables), np.uint8).reshape(-1, TABLE_ENTRIES),
        input=buffers[model.input],
        output=buffers[output],
        tensors=buffers,
        layers=tuple(layers),
        host_steps=tuple(_host_step(model, operator) for operator in parts.host),
        metadata=dict(model.metadata),
    )


def _check_features(step: Step, config: AcceleratorConfig, emitter: Emitter, first: int, parameters: int) -> None:
    """Refuse a step that wants what the configuration leaves out, given where its instructions and parameters begin."""
    operator = step.operator
    for feature in sorted(features(config, emitter.instructions[first:], emitter.shifts[parameters:])):
        if feature == "elementwise" and config.requantizer is RequantizerKind.SERIAL:
            raise ZeropointError(
                f"operator '{operator.name}' ({operator.kind}) {FEATURES[feature]}, which --requantizer "
                f"{config.requantizer} cannot do; choose --requantizer {RequantizerKind.MULTIPLIER}, or quantize with "
                "--scheme dynamic-fixed, for which --requantizer shift does"
            )
        if not getattr(config, feature):
            raise ZeropointError(
                f"operator '{operator.name}' ({operator.kind}) {FEATURES[feature]}, which this configuration leaves "
                f"out; --{feature.replace('_', '-')} puts it in"
            )
    for field, bits in shortages(config, emitter.instructions[first:]):
        raise ZeropointError(
            f"operator '{operator.name}' ({operator.kind}) {EXTENTS[field]} with {bits} bits, more than this "
            f"configuration has; --{field.replace('_', '-')} {bits} makes room"
        )
    for instruction in emitter.instructions[first:]:
        rows = parameter_rows(config, instruction)
        multipliers, shifts = np.asarray(emitter.multipliers[rows]), np.asarray(emitter.shifts[rows])
        if problem := obstacle(config, instruction, multipliers, shifts):
            means = ", or quantize with --means-as-weights" if isinstance(operator, AveragePool2D | Mean) else ""
            raise ZeropointError(
                f"operator '{operator.name}' ({operator.kind}) {problem}, which --requantizer {config.requantizer} "
                f"cannot do; choose --requantizer {RequantizerKind.MULTIPLIER}{means}"
            )


def _places(model: QuantizedModel, steps: tuple[Step, ...], output: str, config: AcceleratorConfig) -> dict[str, Place]:
    """Return where every activation tensor lies that is written, scratch tensors included.

    A reshaped tensor shares the bytes of what it was; a scratch tensor is there for its step alone.
    """
    within = written_in_place(model, steps, output)
    try:
        return _placed(model, steps, output, config, within)
    except ZeropointError:
        # A concatenated tensor is there from its first part on: copying what is written late may take less.
        if not within:
            raise
        return _placed(model, steps, output, config, {})


def _placed(
    model: QuantizedModel,
    steps: tuple[Step, ...],
    output: str,
    config: AcceleratorConfig,
    within: Mapping[str, Part],
) -> dict[str, Place]:
    """Return the places if tensors that are ``within`` another one are written there."""
    shares = {step.output: step.operator.input for step in steps if isinstance(step.operator, Reshape)}
    shares |= {name: part.whole for name, part in within.items()}
    roots = {}
    for name in (model.input, *(step.output for step in steps)):
        root = name
        while root in shares:
            root = shares[root]
        roots[name] = root
    first_use = {model.input: 0}
    last_use = {model.input: 0}
    for index, step in enumerate(steps):
        for name in (*step.operator.inputs, step.output):
            first_use.setdefault(roots[name], index)
            last_use[roots[name]] = index
    last_use[roots[output]] = len(steps)

    pitches = row_pitches(model, steps, output, config)
    scratch = {each.tensor.name: each.tensor for step in steps for each in step.scratch}
    requests = [
        Request(each.tensor.name, prod(each.tensor.shape), index, index)
        for index, step in enumerate(steps)
        for each in step.scratch
    ]
    for root, first in first_use.items():
        rows, columns, channels = map_shape(model.tensor(root).shape)
        size = (rows - 1) * pitches.get(root, columns * channels) + columns * channels
        requests.append(Request(root, size, first, last_use[root]))
    try:
        addresses = allocate(requests, config.activation_elements, config.lanes)
    except DoesNotFit as error:
        reason = f"where {quoted_list(error.buffers)} are in use at once"
        raise shortage(model.name, config, "activation_bytes", error.needed * config.element_bytes, reason) from None
    places: dict[str, Place] = {}
    tensors = {name: model.tensor(name) for name in roots} | scratch
    # From the end: what a tensor lies within is made later.
    for name, tensor in reversed(tensors.items()):
        rows, columns, channels = map_shape(tensor.shape)
        pitch = pitches.get(name, columns * channels)
        if name in within:
            whole, part = places[within[name].whole], within[name]
            address = whole.address + part.first * byte_steps(whole)[part.axis]
            gap = whole.column_pitch - channels if columns > 1 else 0
            places[name] = Place(tensor, address, whole.row_pitch if rows > 1 else pitch, gap)
        else:
            places[name] = Place(tensor, addresses[roots.get(name, name)], pitch)
    return {name: places[name] for name in tensors}


def _buffer(place: Place) -> Buffer:
    tensor = place.tensor
    pitches = place.row_pitch if place.map_shape[0] > 1 else 0, place.column_pitch if place.column_gap else 0
    return Buffer(
        tensor.name,
        place.address,
        tensor.shape,
        tensor.dtype,
        tensor.scale,
        tensor.zero_point,
        *pitches,
        *_format(tensor),
    )


def _format(tensor: Tensor) -> tuple[tuple[int, int] | None, int | None]:
    """Return the bits of minifloats' exponents and mantissas, and those of narrow integers; None where it is not so."""
    form = tensor.format
    if isinstance(form, MinifloatFormat):
        return (form.exponent_bits, form.mantissa_bits), None
    return None, form.bits if isinstance(form, FixedPointFormat) else None


def _host_step(model: QuantizedModel, operator: Operator) -> HostStep:
    source, target = (
        HostTensor(tensor.name, tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point, *_format(tensor))
        for tensor in (model.tensor(operator.input), model.tensor(operator.output))
    )
    parameters = {"beta": operator.beta} if isinstance(operator, Softmax) else {}
    return HostStep(operator.name, operator.kind, source, target, parameters)
