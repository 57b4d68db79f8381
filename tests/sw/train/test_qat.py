"""Quantization-aware training: its schedule, its state, its arguments."""

import re
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from support.qat_networks import Depthwise, Plain, Residual, fit, inputs, network, optimizer, trained  # noqa: E402

from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.train import Qat  # noqa: E402


def assert_same(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value.numpy(), other[name].numpy(), err_msg=name)


@pytest.mark.parametrize("ranges", ["averaged", "learned"])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_resuming_gives_the_same_bits(tmp_path, ranges, steps):
    """Through a file that torch reads without running code; before, between and after delay and freeze."""
    settings = {"ranges": ranges, "delay": 3, "freeze": 6}

    def start():
        made = network(Plain)
        qat = Qat(made, **settings)
        torch.manual_seed(3)
        return qat, optimizer(qat)

    whole, own = start()
    fit(whole, own, Plain.shape, 9)

    broken, own = start()
    fit(broken, own, Plain.shape, steps)
    state = {"qat": broken.state_dict(), "optimizer": own.state_dict(), "generator": torch.get_rng_state()}
    torch.save(state, tmp_path / "state.pt")
    resumed, own = start()
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(loaded["qat"])
    own.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["generator"])
    fit(resumed, own, Plain.shape, 9 - steps)
    assert_same(whole.state_dict(), resumed.state_dict())
    assert int(resumed.passes) == 9
    # The comparison would notice another seed.
    other, own = start()
    torch.manual_seed(4)
    fit(other, own, Plain.shape, 9)
    assert any((value != other.state_dict()[name]).any() for name, value in whole.state_dict().items())


def test_the_schedule():
    """Activations are floats until the delay is over, statistics move until they are frozen."""
    made = network(Residual)
    qat = Qat(made, delay=2, freeze=4).train()
    x = inputs(made)
    means, different = [], []
    for _ in range(6):
        stem = qat.network.get_submodule("stem")
        seen = []
        hook = stem.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.detach()))
        qat(x)
        hook.remove()
        means.append(made.body[1].running_mean.clone())
        steps = seen[0] / stem.target.scale
        different.append(float((steps - steps.round()).abs().max()))
    assert all(value > 0.4 for value in different[:2])
    assert all(value < 1e-3 for value in different[2:])
    moved = [bool((one != other).any()) for one, other in pairwise(means)]
    assert moved == [True, True, True, False, False]


def test_training_teaches():
    """Against noise that no float network of its size would mind, the loss falls; so do the ranges' own errors."""
    for ranges in ("averaged", "learned"):
        made = network(Depthwise)
        qat = Qat(made, "affine-uint8", ranges=ranges).train()
        x = inputs(made, 64)
        target = torch.stack([x.mean((1, 2, 3)), x[:, 0].mean((1, 2)), x[:, 1].mean((1, 2))], 1)
        own, losses = torch.optim.Adam(qat.parameters(), 0.01), []
        for _ in range(40):
            own.zero_grad()
            loss = (qat(x) - target).square().mean()
            loss.backward()
            own.step()
            losses.append(loss.item())
        assert min(losses[-5:]) < losses[0] / 4
        exact = (qat.eval()(x) - target).square().mean().item()
        assert exact < losses[0] / 2


def test_learned_ranges_move_and_averaged_ones_have_no_parameters():
    qat = trained(Plain, ranges="learned", steps=1)
    before = qat.ranges()
    fit(qat, optimizer(qat), Plain.shape, 3)
    after = qat.ranges()
    assert list(before) == ["input_1", "0", "5", "8"]
    assert all(before[name] != after[name] for name in before)
    # Behind rectifiers only the high end is learned.
    assert len(list(qat.range_parameters())) == 2 + 1 + 1 + 2
    assert before["0"][0] == after["0"][0] == 0
    assert list(trained(Plain).range_parameters()) == []


def test_evaluation_changes_nothing():
    qat = trained(Residual)
    x = inputs(Residual)
    before = {name: value.clone() for name, value in qat.state_dict().items()}
    first = qat(x)
    qat.simulate(x)
    qat.train().tensors(x)
    assert qat.training
    assert all(module.training for module in qat.network.modules())
    assert_same(before, qat.state_dict())
    np.testing.assert_array_equal(qat.eval()(x), first)
    assert not first.requires_grad
    # A batch at a time is the same as one after the other.
    np.testing.assert_array_equal(torch.cat([qat(part) for part in x.split(3)]), first)


def test_the_known_range_of_the_input_is_used():
    qat = trained(Plain, "affine-uint8", input_range=(0.0, 1.0))
    assert qat.ranges()["input_1"] == (0, 1)
    assert qat.tensors(torch.full((1, *Plain.shape), 0.6))["input_1"].flat[0] == 153


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "inq"}, "quantization-aware training has the schemes affine-int8, affine-uint8, not 'inq'"),
        ({"ranges": "fixed"}, "ranges are 'averaged' or 'learned', not 'fixed'"),
        ({"momentum": 0}, "the momentum of ranges is above 0 and 1 at most, not 0"),
        ({"momentum": float("nan")}, "the momentum of ranges is above 0 and 1 at most, not nan"),
        ({"momentum": "1"}, "the momentum of ranges is above 0 and 1 at most, not '1'"),
        ({"delay": -1}, "'delay' is a number of training passes, from 0 on, not -1"),
        ({"freeze": 1.5}, "'freeze' is a number of training passes, from 0 on, not 1.5"),
        ({"freeze": True}, "'freeze' is a number of training passes, from 0 on, not True"),
        ({"input_range": (1, 0)}, "the range of inputs is two finite numbers, the less one first, not (1, 0)"),
        ({"input_range": 3}, "the range of inputs is two finite numbers, the less one first, not 3"),
        (
            {"input_range": (0, float("inf"))},
            "the range of inputs is two finite numbers, the less one first, not (0, inf)",
        ),
    ],
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}$"):
        Qat(network(), **settings)
