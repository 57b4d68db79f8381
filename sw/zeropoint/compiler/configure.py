"""The processing elements and requantizers that a network wants, where the user does not say."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zeropoint.compiler.powers import only_shifts
from zeropoint.model import Add, Conv2D, DepthwiseConv2D, FullyConnected, Mul, QuantizedModel, Sub
from zeropoint.numerics.dynamic_fixed_point import FixedPointFormat
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint.numerics.power_of_two import PowerOfTwoFormat
from zeropoint_hw.config import WIDE_BITS, AcceleratorConfig, PEKind, RequantizerKind

#: The fields of which 0 stands for what suits the network.
_WIDTHS = ("weight_bits", "activation_bits", "exponent_bits")


def configure(
    model: QuantizedModel, entries: Mapping[str, Any], defaults: Mapping[str, Any] = MappingProxyType({})
) -> AcceleratorConfig:
    """Return the configuration with these fields.

    ``defaults`` has fields that count where neither ``entries`` nor the network say otherwise; of requantizers there
    are no more than the array can have, and ``digit_bits`` count for serial ones.

    Where they are not given (a width of 0 counts as not given), the kind of PE is ``shift`` for a network whose weights
    are all powers of two, ``mixed`` for one in which some are, ``minifloat`` for minifloats, and ``mac`` for all
    others; weights have as many bits as the widest of the network's; and requantizers shift where that is all that the
    network's scales want.

    Raises
    ------
    ValueError, TypeError
        As ``AcceleratorConfig.from_dict``.
    """
    entries = {name: value for name, value in entries.items() if value != 0 or name not in _WIDTHS}
    weights = [
        model.tensor(operator.weights)
        for operator in model.operators
        if isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected)
    ]
    # Constants come out of the weight memory as integers of all bits that an activation has.
    constants = any(isinstance(operator, Add | Sub | Mul) and operator.constant for operator in model.operators)
    powers = [tensor.format for tensor in weights if isinstance(tensor.format, PowerOfTwoFormat)]
    chosen: dict[str, Any] = {}
    floats = [tensor.format for tensor in weights if isinstance(tensor.format, MinifloatFormat)]
    activations = model.tensor(model.input).format
    if isinstance(activations, MinifloatFormat) and entries.get("pe", PEKind.MINIFLOAT) == PEKind.MINIFLOAT:
        chosen["pe"] = PEKind.MINIFLOAT.value
        chosen |= {"exponent_bits": activations.exponent_bits, "activation_bits": activations.bits}
        chosen["weight_bits"] = max((form.bits for form in floats), default=activations.bits)
    if model.tensor(model.input).dtype == "int16" and entries.get("activation_bits", WIDE_BITS) == WIDE_BITS:
        wide = constants or not weights or any(tensor.dtype == "int16" for tensor in weights)
        chosen |= {"activation_bits": WIDE_BITS, "weight_bits": WIDE_BITS if wide else 8}
    if powers and "pe" not in entries:
        only = len(powers) == len(weights) and not constants
        chosen["pe"] = (PEKind.SHIFT if only else PEKind.MIXED).value
    pe = entries.get("pe", chosen.get("pe", defaults.get("pe")))
    if pe == PEKind.SHIFT and len(powers) == len(weights) > 0:
        chosen["weight_zero"] = any(form.zero for form in powers)
        zero = entries.get("weight_zero", chosen["weight_zero"])
        chosen["weight_bits"] = max(form.exponent_bits for form in powers) + 1 + zero
    narrow = [tensor.format.bits for tensor in weights if isinstance(tensor.format, FixedPointFormat)]
    if pe not in (PEKind.SHIFT, PEKind.MIXED, PEKind.MINIFLOAT) and len(narrow) == len(weights) > 0 and not constants:
        chosen["weight_bits"] = max(narrow)
    if "requantizer" not in entries and pe != PEKind.MINIFLOAT and only_shifts(model):
        chosen["requantizer"] = RequantizerKind.SHIFT.value
    together = {**defaults, **chosen, **entries}
    if "requantizers" in defaults and "requantizers" not in entries:
        array = AcceleratorConfig.from_dict({name: together[name] for name in ("lanes", "columns") if name in together})
        together["requantizers"] = min(defaults["requantizers"], array.channels)
    if "digit_bits" not in entries and together.get("requantizer") != RequantizerKind.SERIAL:
        together.pop("digit_bits", None)
    return AcceleratorConfig.from_dict(together)
