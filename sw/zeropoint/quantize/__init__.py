"""Post-training quantization: a float model and calibration data to a quantized model.

Modules, in the order in which data meets them:

- ``schemes``: the schemes' names, and what distinguishes one from another.
- ``affine``: the affine schemes; ``power_of_two``: INQ and Ristretto's multiplier-free weights; ``fixed_point``:
  Ristretto's fixed point and dynamic fixed point; ``minifloat``: its minifloats, and ``means``: what divides without a
  multiplier.
- ``means``: means as convolutions, for formats that cannot divide.
- ``calibration``: ranges of activations.
- ``bias_correction``: the mean error of quantized weights, and what it takes to know it.
- ``convert``: ranges and a scheme's rules to a quantized model.
- ``observe``: what all of these learn from the calibration data.
- ``search``: the narrowest formats that keep the accuracy.
- ``noise``: how far the quantized model's tensors are from the float model's.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TypeVar

import numpy.typing as npt

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.model import FloatModel, QuantizedModel, Softmax
from zeropoint.quantize import means
from zeropoint.quantize.affine import AFFINE_INT8, AFFINE_UINT8
from zeropoint.quantize.calibration import CalibrationMethod
from zeropoint.quantize.convert import convert
from zeropoint.quantize.fixed_point import dynamic_rules, fixed_rules
from zeropoint.quantize.minifloat import exponent_bits_for, minifloat_rules
from zeropoint.quantize.noise import LayerNoise, noise_table
from zeropoint.quantize.observe import observe, peak
from zeropoint.quantize.power_of_two import inq_rules, pow2_rules, untrained
from zeropoint.quantize.schemes import Rules, Scheme, Weighted
from zeropoint.quantize.search import Found, search

__all__ = ["CalibrationMethod", "Found", "LayerNoise", "Scheme", "noise_table", "quantize", "search"]

Choice = TypeVar("Choice", bound=Enum)

#: The bits that each scheme can have, the first one by default.
BITS: dict[Scheme, tuple[int, ...]] = {
    Scheme.AFFINE_INT8: (8,),
    Scheme.AFFINE_UINT8: (8,),
    Scheme.INQ: (5, 4, 3, 2),
    Scheme.POW2: (4,),
    Scheme.FIXED: (8, 16, 7, 6, 5, 4, 3, 2),
    Scheme.DYNAMIC_FIXED: (8, 16, 7, 6, 5, 4, 3, 2),
    Scheme.MINIFLOAT: (8, 7, 6, 5, 4, 3, 2),
}


def _observed_with(scheme: Scheme, bits: int) -> Rules:
    """Return the rules for which ranges are observed: the scheme's, but for what follows from all of them."""
    rules: dict[Scheme, Callable[[], Rules]] = {
        Scheme.AFFINE_INT8: lambda: AFFINE_INT8,
        Scheme.AFFINE_UINT8: lambda: AFFINE_UINT8,
        Scheme.INQ: lambda: inq_rules(bits),
        Scheme.POW2: pow2_rules,
        Scheme.FIXED: lambda: dynamic_rules(bits),
        Scheme.DYNAMIC_FIXED: lambda: dynamic_rules(bits),
        Scheme.MINIFLOAT: lambda: dynamic_rules(8),
    }
    return rules[scheme]()


def quantize(
    model: FloatModel,
    calibration: npt.ArrayLike,
    *,
    scheme: Scheme | str,
    bits: int | None = None,
    exponent_bits: int | None = None,
    method: CalibrationMethod | str = CalibrationMethod.MINMAX,
    percentile: float = 99.99,
    bias_correction: bool = True,
    means_as_weights: bool = False,
    progress: Callable[[float], object] = lambda done: None,
) -> QuantizedModel:
    """Return ``model`` in integers; its tensors and operators keep their names.

    Fused activations are those of the float model, and the range of a tensor is observed after them. The quantized
    model's metadata are the float model's, with ``scheme``, ``calibration`` (the method, the percentile too if it has
    one), ``calibration samples`` and ``bias correction`` (``yes`` or ``no``) added; and with ``warning`` where some
    activations have one value only on ``calibration``, which leaves their ranges open, or where INQ has to round
    weights that it has not trained.

    Parameters
    ----------
    model
        The network.
    calibration
        Inputs typical of those to come: float values ``(N, *input shape)``, NHWC, N at least 1.
    scheme
        The formats of activations and weights: a ``Scheme``, or its name; likewise ``method``.
    bits
        Of weights, and of fixed point's activations too; None for the scheme's default. :data:`BITS` has what each
        scheme can have.
    exponent_bits
        Of minifloats, 1 to ``bits`` − 1; None for as many as the greatest value wants, 4 at least, if there is room.
    method
        How the ranges of the activations follow from the values that ``calibration`` gives them. On the demo network
        the methods give int8 accuracies within a tenth of a point, and ``MINMAX`` the best uint8 accuracy.
    percentile
        For ``CalibrationMethod.PERCENTILE``: the part of the values, in percent, that lies below the high end, and
        likewise above the low end. Above 50, 100 at most.
    bias_correction
        Whether the mean error that the rounding of weights causes on ``calibration`` is taken out of the biases. An
        operator without a bias gets one. On the demo network this is worth a point of accuracy where weights have one
        scale, and nothing where each channel has its own.
    means_as_weights
        Whether means become convolutions with weights of 1 divided by the count
        (:func:`zeropoint.quantize.means.means_as_weights`), which hardware without a multiplier for scales can run.
        Minifloats and networks of 16 bits have no other means.
    progress
        Called with the part of the work that is done, 0 … 1.

    Raises
    ------
    ZeropointError
        If there is no such scheme or method; if ``calibration`` has the wrong shape or type, no samples, or values
        that are NaN or infinite; if some activation overflows on it; if some operator's scales, multipliers or sums are
        beyond what the integers hold.
    """
    scheme, method = _member(Scheme, scheme, "scheme"), _member(CalibrationMethod, method, "calibration method")
    bits = BITS[scheme][0] if bits is None else bits
    if bits not in BITS[scheme]:
        allowed = quoted_list(str(each) for each in sorted(BITS[scheme]))
        raise ZeropointError(f"the scheme '{scheme.value}' has {allowed} bits, not {bits}")
    notes = {"scheme": scheme.value, "bits": str(bits)}
    original = model
    for operator in model.operators:
        if bits > 8 and isinstance(operator, Softmax):
            raise ZeropointError(
                f"operator '{operator.name}' (Softmax): there is no softmax of {bits} bits; end the network before it, "
                f"where the classes have the same order, or quantize with 8"
            )
    if scheme is Scheme.MINIFLOAT or bits > 8 or means_as_weights:
        model = means.means_as_weights(model)
    if scheme is not Scheme.MINIFLOAT and exponent_bits is not None:
        raise ZeropointError(f"exponent bits are for the scheme 'minifloat', not for '{scheme.value}'")
    rules = _observed_with(scheme, bits)
    seen = observe(model, calibration, rules, method, percentile, bias_correction, progress)
    if scheme is Scheme.FIXED:
        # A count is not the network's doing: 1 divided by it has a unit of its own.
        own = dict.fromkeys(_means(original, model), rules.weights)
        rules = replace(fixed_rules(bits, peak(original, seen.ranges)), layers=own)
    if scheme is Scheme.MINIFLOAT:
        chosen = exponent_bits_for(peak(model, seen.ranges), bits) if exponent_bits is None else exponent_bits
        if not 1 <= chosen < bits:
            raise ZeropointError(f"minifloats of {bits} bits have 1 to {bits - 1} exponent bits, not {chosen}")
        rules = minifloat_rules(bits, chosen)
        notes["exponent bits"] = str(chosen)
    notes |= seen.notes
    quantized = convert(model, seen.ranges, seen.inputs, rules, {**model.metadata, **notes})
    if scheme is Scheme.INQ and (rounded := untrained(model, quantized)):
        warnings = [seen.notes["warning"]] if "warning" in seen.notes else []
        warnings.append(
            f"the weights of {quoted_list(rounded)} are rounded to powers of two that {bits} bits hold; to keep the "
            f"accuracy, train the network with zeropoint.train.Inq and as many bits"
        )
        quantized = replace(quantized, metadata={**quantized.metadata, "warning": "; ".join(warnings)})
    return quantized


def _means(original: FloatModel, model: FloatModel) -> list[str]:
    """Return the names of the operators that have become weighted."""
    before = {operator.name for operator in original.operators if isinstance(operator, Weighted)}
    return [each.name for each in model.operators if isinstance(each, Weighted) and each.name not in before]


def _member(kind: type[Choice], value: Choice | str, what: str) -> Choice:
    """Return a member of ``kind``, given it or its name."""
    try:
        return kind(value)
    except ValueError:
        names = quoted_list(member.value for member in kind)
        raise ZeropointError(f"the {what} {value!r} is unknown; there are {names}") from None
