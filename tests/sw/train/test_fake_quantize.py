"""Fake quantization: the values and zero points of the affine schemes, straight-through gradients, and ranges."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.quantize.affine import affine_quantization, asymmetric_weights, symmetric_weights  # noqa: E402
from zeropoint.train.fake_quantize import Quantizer, fake_quantize_weights  # noqa: E402

DTYPES = ("int8", "uint8")


def quantizer(dtype="int8", ranges="averaged", momentum=0.25, positive=False, low=-1.0, high=2.0):
    """A quantizer whose range is known, but not given."""
    made = Quantizer("x", dtype, ranges, momentum, positive=positive)
    made.observed.fill_(True)
    with torch.no_grad():
        made.low.fill_(low)
        made.high.fill_(high)
    return made.eval()


ends = st.floats(0, 1e6, width=32)


@given(low=ends, high=ends, dtype=st.sampled_from(DTYPES), ranges=st.sampled_from(("averaged", "learned")))
@example(low=0.0, high=8.407790785948902e-45, dtype="int8", ranges="averaged")
@settings(max_examples=100, deadline=None)
def test_values_are_those_of_the_scheme_and_0_is_among_them(low, high, dtype, ranges):
    made = quantizer(dtype, ranges, low=-low, high=high)
    tensor = made.quantized
    assert tensor.quantization == affine_quantization(-low, high, dtype)
    least, greatest = (float(tensor.scale) * (limit - tensor.zero_point) for limit in tensor.limits)
    width = greatest - least
    x = torch.linspace(least - width / 9, greatest + width / 9, 1001)
    values = made(x).detach().numpy()
    # The integers behind them are whole, within the limits, and no farther than half a step from x.
    steps = values.astype(np.float64) / tensor.scale + tensor.zero_point
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert set(np.rint(steps)) == set(range(tensor.limits[0], tensor.limits[1] + 1))
    inside = np.clip(x.numpy().astype(np.float64), least, greatest)
    assert np.abs(values - inside).max() <= tensor.scale * 0.501
    assert (made(torch.zeros(3)) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_go_straight_through_inside_and_not_beyond(dtype):
    made = quantizer(dtype)
    x = torch.tensor([-1.5, -0.9, 0.0, 0.3, 1.9, 2.5], requires_grad=True)
    made(x).backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]
    made.active = False
    assert made(x) is x


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_the_ends_are_those_of_lsq_plus(dtype):
    """Against automatic differentiation of scale and offset with a straight-through rounding."""
    made = quantizer(dtype, "learned", low=-1.0, high=1.55)  # a scale of 0.01, and no nudge
    torch.manual_seed(0)
    x, gradient = torch.randn(4, 60, dtype=torch.float64), torch.randn(4, 60, dtype=torch.float64)
    low, high = (torch.tensor(end, dtype=torch.float64, requires_grad=True) for end in (-1.0, 1.55))
    scale = (high - low) / 255
    steps = (x - low) / scale
    # What rounds to an end is inside, as for PyTorch's own fake quantization.
    steps = torch.where((steps.round() < 0) | (steps.round() > 255), steps.clamp(0, 255), steps)
    (((steps.round() - steps).detach() + steps) * scale + low).backward(gradient)
    ours = x.clone().requires_grad_()
    made(ours).backward(gradient)
    factor = 255**2 / (255 * 60) ** 0.5
    np.testing.assert_allclose(made.low.grad.item(), low.grad.item() * factor, rtol=1e-3)
    np.testing.assert_allclose(made.high.grad.item(), high.grad.item() * factor, rtol=1e-3)
    assert low.grad.abs() > 0.1
    assert high.grad.abs() > 0.1
    np.testing.assert_array_equal(ours.grad, gradient * ((x > -1.005) & (x < 1.555)))


def test_averaged_ranges_follow_the_batches():
    made = Quantizer("x", "int8", "averaged", 0.25, positive=False)
    assert not list(made.parameters())
    with pytest.raises(
        ZeropointError, match=r"^activation 'x' has no range yet: train, or run some batches in training$"
    ):
        made.quantized  # noqa: B018
    made(torch.tensor([-4.0, 8.0]))
    assert made.range == (-4, 8)
    made(torch.tensor([2.0, 4.0]))  # widened to contain 0
    assert made.range == (-3, 7)
    made.active = False  # observed nevertheless
    made(torch.tensor([-7.0, -1.0]))
    assert made.range == (-4, 5.25)
    made.eval()
    made(torch.tensor([-70.0, 70.0]))
    assert made.range == (-4, 5.25)


def test_learned_ranges_are_averaged_before_they_are_active_and_moved_by_gradients_then():
    made = Quantizer("x", "int8", "learned", 0.5, positive=False)
    made.active = False
    made(torch.tensor([[-4.0, 8.0]]))
    made(torch.tensor([[0.0, 4.0]]))
    assert made.range == (-2, 6)
    made.active = True
    optimizer = torch.optim.SGD(made.parameters(), 1e-4)
    for _ in range(3):
        optimizer.zero_grad()
        x = torch.tensor([[-40.0, 1.0, 80.0]])
        (made(x) - x).square().sum().backward()
        optimizer.step()
    low, high = made.range
    assert low < -2.1
    assert high > 6.1


def test_the_low_end_behind_a_rectifier_and_given_ranges_stay():
    made = quantizer(ranges="learned", positive=True, low=0.0)
    assert [name for name, _ in made.named_parameters()] == ["high"]
    given_range = Quantizer("x", "uint8", "learned", 0.5, positive=False, given=(0.0, 1.0))
    assert not list(given_range.parameters())
    given_range(torch.tensor([-3.0, 3.0]))
    assert given_range.range == (0, 1)
    assert given_range.quantized.scale == np.float32(1 / 255)


def test_a_range_that_diverged_is_refused():
    message = r"^activation 'x' has a range that is not finite: its training has diverged$"
    for end in (float("nan"), float("inf")):
        with pytest.raises(ZeropointError, match=message):
            quantizer(high=end)(torch.ones(3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("dtype", "rule"), [("int8", symmetric_weights), ("uint8", asymmetric_weights)])
def test_weights_are_those_of_the_scheme(dtype, rule, seed):
    torch.manual_seed(seed)
    weights = torch.randn(6, 5, 3, 3) * torch.logspace(-3, 3, 6).reshape(6, 1, 1, 1)
    weights[2] = 0
    weights.requires_grad_()
    expected = rule(weights.detach().double().numpy(), 0, np.zeros(6), 1.0).tensor("w").real
    got = fake_quantize_weights(weights, dtype)
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-6)
    assert len(np.unique(got[4].detach())) > (20 if dtype == "int8" else 1)
    gradient = torch.randn_like(weights)
    got.backward(gradient)
    np.testing.assert_array_equal(weights.grad, gradient)
