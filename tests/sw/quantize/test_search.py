"""The search finds formats that keep the accuracy, and narrower ones than it needs to begin with."""

from dataclasses import replace

import numpy as np
import pytest
from support.float_networks import fully_connected

from zeropoint import float_reference, golden
from zeropoint.errors import ZeropointError
from zeropoint.model import FloatModel
from zeropoint.model.formats import fixed_point, power_of_two
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint.quantize import Scheme, search
from zeropoint.quantize.search import ACTIVATIONS, INPUTS, WIDTHS

RNG = np.random.default_rng(3)


def classifier() -> tuple[FloatModel, np.ndarray, np.ndarray]:
    """A network that tells apart points about eight corners, and such points."""
    corners = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], np.float32)
    labels = RNG.integers(8, size=300)
    x = corners[labels] + RNG.normal(size=(300, 3)).astype(np.float32) * 0.4
    return fully_connected(corners * 1.37), x.astype(np.float32), labels


def accuracy(model, x, labels):
    got = golden.run(model, model.tensor(model.input).quantize(x))
    return float(np.mean(got.argmax(axis=1) == labels))


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("scheme", WIDTHS)
@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_found_is_what_was_asked_for(scheme, loss, labelled):
    network, x, labels = classifier()
    right = labels if labelled else float_reference.run_output(network, x).argmax(axis=1)
    found = search(network, x, labels if labelled else None, scheme=scheme, acceptable_loss=loss + 0.01)
    assert found.accuracy == accuracy(found.model, x, right)
    assert found.float_accuracy == float(np.mean(float_reference.run_output(network, x).argmax(axis=1) == right))
    assert found.accuracy >= found.float_accuracy - loss - 0.01
    (operator,) = found.model.operators
    bits = found.bits[f"{operator.name} weights"]
    form = found.model.tensor(operator.weights).format
    if scheme is Scheme.MINIFLOAT:
        exponent_bits = int(found.model.metadata["exponent bits"])
        assert form == MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)
        wanted = MinifloatFormat(exponent_bits, found.bits[ACTIVATIONS] - 1 - exponent_bits)
        assert found.model.tensor(found.model.output).format == wanted
        return
    if bits == 8:
        assert form is None
    else:
        assert form == (power_of_two(bits - 1, zero=False) if scheme is Scheme.POW2 else fixed_point(bits))
    if scheme is Scheme.DYNAMIC_FIXED:
        for name, group in {operator.input: INPUTS, operator.output: f"{operator.name} outputs"}.items():
            wanted = found.bits[group]
            assert found.model.tensor(name).format == (fixed_point(wanted) if wanted < 8 else None)


def test_weights_that_are_powers_of_two_need_no_more_than_their_signs():
    network, x, labels = classifier()
    weights = network.tensors["w"] if "w" in network.tensors else network.tensors[network.operators[0].weights]
    signs = replace(weights, data=np.sign(weights.data).astype(np.float32))
    network = replace(network, tensors={**network.tensors, signs.name: signs})
    found = search(network, x, labels, scheme=Scheme.POW2, acceptable_loss=0.03)
    assert list(found.bits.values()) == [1]


def test_more_loss_allows_fewer_bits():
    network, x, labels = classifier()
    bits = [
        sum(search(network, x, labels, scheme=Scheme.DYNAMIC_FIXED, acceptable_loss=loss).bits.values())
        for loss in (0.01, 0.1, 0.6)
    ]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > bits[-1]


@pytest.mark.parametrize("scheme", WIDTHS)
def test_a_bit_less_in_any_group_was_too_few(scheme):
    network, x, labels = classifier()
    found = search(network, x, labels, scheme=scheme, acceptable_loss=0.05)
    tried = {tuple(trial.bits.values()): trial.accuracy for trial in found.trials}
    for group, bits in found.bits.items():
        narrower = [width for width in WIDTHS[scheme] if (found.exponent_bits or 0) < width < bits]
        if narrower:
            less = tried[tuple((found.bits | {group: max(narrower)}).values())]
            assert less < found.float_accuracy - 0.05


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_minifloats_have_the_exponent_bits_with_which_all_are_narrowest(loss):
    network, x, labels = classifier()
    (operator,) = network.operators
    weights = network.tensor(operator.weights).shape
    values = {f"{operator.name} weights": np.prod(weights), ACTIVATIONS: x[0].size + weights[0]}

    def size(found):
        return sum(values[group] * bits for group, bits in found.bits.items())

    found = search(network, x, labels, scheme=Scheme.MINIFLOAT, acceptable_loss=loss)
    sizes = {}
    for exponent_bits in range(1, 8):
        try:
            each = search(
                network, x, labels, scheme=Scheme.MINIFLOAT, acceptable_loss=loss, exponent_bits=exponent_bits
            )
        except ZeropointError:
            continue
        assert each.exponent_bits == exponent_bits
        sizes[exponent_bits] = size(each)
    assert size(found) == sizes[found.exponent_bits] == min(sizes.values())


def test_each_groups_own_curve_goes_from_wide_to_narrow_and_ends_where_it_fails():
    network, x, labels = classifier()
    found = search(network, x, labels, scheme=Scheme.DYNAMIC_FIXED, acceptable_loss=0.02)
    for group, trials in found.alone.items():
        widths = [trial.bits[group] for trial in trials]
        assert widths == list(WIDTHS[Scheme.DYNAMIC_FIXED][1 : 1 + len(widths)])
        assert all(other == 8 for trial in trials for name, other in trial.bits.items() if name != group)
        assert all(trial.accuracy >= found.float_accuracy - 0.02 for trial in trials[:-1])
        assert found.bits[group] >= widths[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scheme": Scheme.INQ},
            r"^the scheme 'inq' has no widths to search; there are dynamic-fixed, pow2, minifloat$",
        ),
        ({"exponent_bits": 4}, r"^exponent bits are for the scheme 'minifloat', not for 'dynamic-fixed'$"),
        ({"scheme": Scheme.MINIFLOAT, "exponent_bits": 8}, r"^minifloats of 8 bits have 1 to 7 exponent bits, not 8$"),
        ({"acceptable_loss": 1.5}, r"^the acceptable loss must be 0 to below 100 points, not 150$"),
        ({"labels": np.zeros(3, np.int64)}, r"^the labels must be 300 integers, one for each sample, not int64\(3,\)$"),
        (
            {"labels": np.arange(300) % 9},
            r"^the labels must be 0 to 7, which number .* outputs, not 0 to 8$",
        ),
        ({"labels": np.arange(300) % 8 - 1}, r"^the labels must be 0 to 7, .*, not -1 to 6$"),
        ({"labels": np.full(300, 1 << 63, np.uint64)}, r"^the labels must be 0 to 7, .*, not 9223372036854775808 to "),
        (
            {"labels": np.zeros(300, np.int64)},
            r"less the acceptable 10 points is no more than chance; check ",
        ),
        ({"acceptable_loss": 0.9}, r"the float network is right on .* is no more than chance"),
        ({"labels": np.zeros(300)}, r"^the labels must be 300 integers, one for each sample, not float64"),
    ],
)
def test_what_cannot_be_searched(options, message):
    network, x, labels = classifier()
    entries = {"labels": labels, "scheme": Scheme.DYNAMIC_FIXED, "acceptable_loss": 0.1} | options
    with pytest.raises(ZeropointError, match=message):
        search(network, x, **entries)


def test_a_loss_that_even_the_widest_formats_exceed_is_refused():
    # Classes a millionth apart, which 8 bits do not tell from each other.
    x = RNG.normal(size=(100, 3)).astype(np.float32)
    network = fully_connected(np.array([[1, 0, 0], [1, 1e-6, 0], [1, 0, 1e-6]]))
    with pytest.raises(ZeropointError, match=r"with 8 bits everywhere \d+\.\d% of the samples are right, and 100"):
        search(network, x, scheme=Scheme.DYNAMIC_FIXED, acceptable_loss=0.1)
