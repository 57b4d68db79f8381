"""The narrowest formats that keep a network's accuracy, as Ristretto looks for them.

Source: Gysel et al., Ristretto: A Framework for Empirical Study of Resource-Efficient Inference in Convolutional Neural
Networks, 2018, section IV: each group of tensors is narrowed by itself while all others are wide, then all at once.
Here a group is one layer's weights, or the activations that have one quantization: the network's inputs, or what a
layer gives. Minifloats have all activations in one group, as the hardware has one format for them. Where all groups at
once lose too much, which Ristretto leaves to fine-tuning, the one that has lost most by itself gets a bit back, and so
on; and when that is enough, each gives up again what it can do without, until none can. For minifloats this is done
with each number of exponent bits from Ristretto's down to 1, with which they saturate sooner and may be narrower.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt

from zeropoint import float_reference, golden
from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.model import FloatModel, QuantizedModel
from zeropoint.quantize import means
from zeropoint.quantize.calibration import CalibrationMethod
from zeropoint.quantize.convert import convert, observed_tensors
from zeropoint.quantize.fixed_point import dynamic_rules
from zeropoint.quantize.minifloat import exponent_bits_for, minifloat_rules, minifloat_weights
from zeropoint.quantize.observe import observe, peak
from zeropoint.quantize.power_of_two import pow2_rules, ristretto_weights
from zeropoint.quantize.schemes import Rules, Scheme, Weighted, WeightsFunction

#: The group of all activations, and that of the network's inputs, of which a layer's others are named after the layer.
ACTIVATIONS = "activations"
INPUTS = "inputs"

#: The bits that groups may have, the widest, with which the others are tried, first.
WIDTHS: dict[Scheme, tuple[int, ...]] = {
    Scheme.DYNAMIC_FIXED: (8, 7, 6, 5, 4, 3, 2),
    # 8 bits are integers, which weights become that powers of two do not do for.
    Scheme.POW2: (8, 4, 3, 2, 1),
    # Without those that leave no room for the exponent.
    Scheme.MINIFLOAT: (8, 7, 6, 5, 4, 3, 2),
}


@dataclass(frozen=True)
class Trial:
    """The accuracy with which a network was found that has these bits, by group."""

    bits: Mapping[str, int]
    accuracy: float


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    model
        The network in the narrowest formats.
    bits
        Of each group.
    exponent_bits
        Of the minifloats; None for others.
    accuracy, float_accuracy
        Of ``model`` and of the float network: the part of the samples, 0 … 1.
    alone
        For each group, the trials in which it alone was narrow, widest first.
    trials
        All networks that were tried, in this order; for minifloats, with so many exponent bits.
    """

    model: QuantizedModel
    bits: Mapping[str, int]
    exponent_bits: int | None
    accuracy: float
    float_accuracy: float
    alone: Mapping[str, tuple[Trial, ...]]
    trials: tuple[Trial, ...]


def search(
    model: FloatModel,
    calibration: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    scheme: Scheme,
    acceptable_loss: float,
    exponent_bits: int | None = None,
    method: CalibrationMethod = CalibrationMethod.MINMAX,
    percentile: float = 99.99,
    bias_correction: bool = True,
    means_as_weights: bool = False,
    progress: Callable[[float], object] = lambda done: None,
) -> Found:
    """Return the network in the narrowest formats whose accuracy on ``calibration`` is no worse than acceptable.

    Parameters
    ----------
    model, calibration, exponent_bits, method, percentile, bias_correction, means_as_weights, progress
        As of :func:`zeropoint.quantize.quantize`.
    labels
        The right class of each sample, integers ``(N,)``. Without them, the class that the float network gives counts
        as right.
    scheme
        ``DYNAMIC_FIXED``; ``MINIFLOAT``, where all have as many exponent bits, those with which the network takes
        fewest bits; or ``POW2``, where each layer's weights are powers of two of as few exponents as will do, or 8-bit
        integers where none will.
    acceptable_loss
        The part of the samples, 0 … 1, by which the accuracy may be below the float network's.

    Raises
    ------
    ZeropointError
        If the scheme has nothing to search, the labels do not fit the samples, or the loss is not 0 … 1; if even the
        widest formats lose more; and as :func:`zeropoint.quantize.quantize`.
    """
    if scheme not in WIDTHS:
        names = quoted_list(each.value for each in WIDTHS)
        raise ZeropointError(f"the scheme '{scheme.value}' has no widths to search; there are {names}")
    if exponent_bits is not None and scheme is not Scheme.MINIFLOAT:
        raise ZeropointError(f"exponent bits are for the scheme 'minifloat', not for '{scheme.value}'")
    if not 0 <= acceptable_loss < 1:
        raise ZeropointError(f"the acceptable loss must be 0 to below 100 points, not {100 * acceptable_loss:g}")
    if scheme is Scheme.MINIFLOAT or means_as_weights:
        model = means.means_as_weights(model)
    x = float_reference.check_input(model, calibration)
    scores = float_reference.run_output(model, x)
    reference, classes = _classes(scores), scores[0].size
    right = reference if labels is None else _checked(labels, len(x), classes)
    float_accuracy = float(np.mean(reference == right))
    limit = float_accuracy - acceptable_loss
    if limit <= 1 / classes:
        raise ZeropointError(
            f"model '{model.name}': the float network is right on {float_accuracy:.1%} of the samples, which less the "
            f"acceptable {100 * acceptable_loss:g} points is no more than chance; check the labels, or accept less"
        )
    seen = observe(model, x, dynamic_rules(8), method, percentile, bias_correction, lambda done: progress(done / 4))
    exponents: Sequence[int | None] = [exponent_bits]
    if scheme is Scheme.MINIFLOAT:
        greatest = exponent_bits_for(peak(model, seen.ranges), 8) if exponent_bits is None else exponent_bits
        if not 1 <= greatest <= 7:
            raise ZeropointError(f"minifloats of 8 bits have 1 to 7 exponent bits, not {greatest}")
        exponents = range(greatest, 0 if exponent_bits is None else greatest - 1, -1)
    groups = _groups(model, scheme)

    def quantized(exponent: int | None, bits: Mapping[str, int]) -> QuantizedModel:
        notes = {"scheme": scheme.value, **seen.notes, "bits": ", ".join(f"{name} {n}" for name, n in bits.items())}
        if exponent is not None:
            notes["exponent bits"] = str(exponent)
        rules = _rules(scheme, {groups[name]: width for name, width in bits.items()}, exponent or 0)
        return convert(model, seen.ranges, seen.inputs, rules, {**model.metadata, **notes})

    def accuracy(network: QuantizedModel) -> float:
        outputs = golden.run(network, network.tensor(network.input).quantize(x))
        return float(np.mean(_classes(outputs) == right))

    def part(index: int, done: float) -> None:
        progress(0.25 + 0.75 * (index + done) / len(exponents))

    found: list[Found] = []
    widest: list[float] = []
    for index, exponent in enumerate(exponents):
        widths = tuple(width for width in WIDTHS[scheme] if exponent is None or width > exponent)
        tries = _Tries(partial(quantized, exponent), accuracy)
        widest.append(tries(dict.fromkeys(groups, widths[0])).accuracy)
        if widest[-1] >= limit:
            bits, alone = _narrowest(tries, groups, widths, limit, partial(part, index))
            network, trial = tries.tried[tuple(bits.values())]
            trials = tuple(trial for _, trial in tries.tried.values())
            found.append(Found(network, bits, exponent, trial.accuracy, float_accuracy, alone, trials))
        part(index, 1.0)
    if not found:
        raise ZeropointError(
            f"model '{model.name}': with {WIDTHS[scheme][0]} bits everywhere {max(widest):.1%} of the samples are "
            f"right, and {float_accuracy:.1%} in floats, which is more than {100 * acceptable_loss:g} points apart; "
            f"accept more, or use affine-int8"
        )

    def size(each: Found) -> int:
        return sum(groups[name].values * width for name, width in each.bits.items())

    return min(found, key=lambda each: (size(each), -each.accuracy))


class _Tries:
    """What has been tried of networks with the same groups, by their bits.

    Parameters
    ----------
    quantized
        Returns the network with these bits.
    accuracy
        Returns a network's accuracy.
    """

    def __init__(
        self, quantized: Callable[[Mapping[str, int]], QuantizedModel], accuracy: Callable[[QuantizedModel], float]
    ) -> None:
        self._quantized, self._accuracy = quantized, accuracy
        self.tried: dict[tuple[int, ...], tuple[QuantizedModel, Trial]] = {}

    def __call__(self, bits: Mapping[str, int]) -> Trial:
        """Return the accuracy with these bits, in the order of the groups."""
        key = tuple(bits.values())
        if key not in self.tried:
            network = self._quantized(bits)
            self.tried[key] = network, Trial(dict(bits), self._accuracy(network))
        return self.tried[key][1]


def _narrowest(
    tries: _Tries,
    groups: "Mapping[str, _Group]",
    widths: tuple[int, ...],
    limit: float,
    progress: Callable[[float], object],
) -> tuple[dict[str, int], dict[str, tuple[Trial, ...]]]:
    """Return the bits of each group with which the accuracy is within the limit, and each group's curve by itself."""
    wide = dict.fromkeys(groups, widths[0])
    alone: dict[str, tuple[Trial, ...]] = {}
    narrow = dict(wide)
    for index, group in enumerate(groups):
        curve = []
        for bits in widths[1:]:
            curve.append(tries(wide | {group: bits}))
            if curve[-1].accuracy < limit:
                break
            narrow[group] = bits
        alone[group] = tuple(curve)
        progress(0.9 * (index + 1) / len(groups))
    while tries(narrow).accuracy < limit:
        worst = min(
            (name for name in groups if narrow[name] != widths[0]), key=lambda name: _by_itself(alone, narrow, name)
        )
        narrow[worst] = widths[widths.index(narrow[worst]) - 1]
    # On the way back groups got bits that they can do without once others have theirs; those of most values first. One
    # that could not do with less may, once others have less: accuracy does not always fall with the bits.
    order = sorted(groups, key=lambda name: -groups[name].values)
    before: dict[str, int] = {}
    while before != narrow:
        before = dict(narrow)
        for name in order:
            narrower = widths[min(widths.index(narrow[name]) + 1, len(widths) - 1)]
            if tries(narrow | {name: narrower}).accuracy >= limit:
                narrow[name] = narrower
    return narrow, alone


def _by_itself(alone: Mapping[str, tuple[Trial, ...]], bits: Mapping[str, int], group: str) -> tuple[float, int]:
    """Return the accuracy with the group alone as narrow as it is now; of equal ones, the narrowest comes first."""
    accuracy = next(trial.accuracy for trial in alone[group] if trial.bits[group] == bits[group])
    return accuracy, bits[group]


@dataclass(frozen=True)
class _Group:
    """What has bits of its own: the weights of the operator ``name``, or the activations whose first is ``name``.

    There are as many ``values`` of it.
    """

    name: str
    weights: bool
    values: int


def _groups(model: FloatModel, scheme: Scheme) -> dict[str, _Group]:
    """Return the groups, in the order of the data, by what reports call them."""

    def activations(name: str) -> _Group:
        return _Group(name, False, prod(model.tensor(name).shape))

    outputs = observed_tensors(model) if scheme is Scheme.DYNAMIC_FIXED else {}
    groups = {INPUTS: activations(model.input)} if outputs else {}
    for operator in model.operators:
        if isinstance(operator, Weighted):
            groups[f"{operator.name} weights"] = _Group(operator.name, True, prod(model.tensor(operator.weights).shape))
        if operator.output in outputs:
            groups[f"{operator.name} outputs"] = activations(operator.output)
    if scheme is Scheme.MINIFLOAT:
        groups[ACTIVATIONS] = _Group(ACTIVATIONS, False, sum(prod(each.shape) for each in model.activations()))
    return groups


def _rules(scheme: Scheme, bits: Mapping[_Group, int], exponent_bits: int) -> Rules:
    """Return the rules of a network with these bits."""
    weights = {group.name: width for group, width in bits.items() if group.weights}
    layers: dict[str, WeightsFunction]
    if scheme is Scheme.MINIFLOAT:
        floats = partial(minifloat_weights, exponent_bits=exponent_bits)
        layers = {name: partial(floats, bits=width) for name, width in weights.items()}
        (activations,) = (width for group, width in bits.items() if not group.weights)
        return replace(minifloat_rules(activations, exponent_bits), layers=layers)
    if scheme is Scheme.POW2:
        integers = dynamic_rules(8).weights
        layers = {
            name: integers if width == 8 else partial(ristretto_weights, bits=width) for name, width in weights.items()
        }
        return replace(pow2_rules(), layers=layers)
    layers = {name: dynamic_rules(width).weights for name, width in weights.items()}
    groups = {group.name: dynamic_rules(width) for group, width in bits.items() if not group.weights}
    return replace(dynamic_rules(8), layers=layers, groups=groups)


def _classes(outputs: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    return np.argmax(outputs.reshape(len(outputs), -1), axis=1)


def _checked(labels: npt.ArrayLike, count: int, classes: int) -> npt.NDArray[np.int64]:
    """Return labels, one for each sample."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise ZeropointError(
            f"the labels must be {count} integers, one for each sample, not {array.dtype}{array.shape}"
        )
    if array.min() < 0 or array.max() >= classes:
        raise ZeropointError(
            f"the labels must be 0 to {classes - 1}, which number the network's outputs, not {array.min()} to "
            f"{array.max()}"
        )
    return array.astype(np.int64)
