"""The loop: what it calls in which order, and that a broken run goes on to the same bits."""

import copy
import io
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from rich.console import Console  # noqa: E402
from torch import nn  # noqa: E402

from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.train import Inq, Stage, train_inq  # noqa: E402

INPUTS = torch.linspace(-1, 1, 64).reshape(16, 4)


def start(bits=4):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    return model, Inq(model, bits)


def fit(model, portion):
    """Training whose randomness is torch's own."""
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(3):
        noise = torch.randn(16, 4)
        optimizer.zero_grad()
        (model(INPUTS + noise) - portion).square().mean().backward()
        optimizer.step()


def evaluate(model):
    with torch.no_grad():
        return model(INPUTS).mean().item()


def quiet():
    return Console(file=io.StringIO())


def assert_same(one, other):
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), other.state_dict()[name].numpy(), err_msg=name)


def test_quantizes_retrains_and_measures_in_turn():
    model, inq = start()
    calls = []

    def watched_fit(network, portion):
        assert network is model
        calls.append(("fit", portion, inq.portion))

    def measured(network):
        calls.append(("measure", inq.portion))
        return len(calls) / 100

    stages = train_inq(model, inq, watched_fit, measured, console=quiet())
    portions = (0.3, 0.5, 0.8, 0.9, 0.95, 1.0)
    assert calls == [call for portion in portions for call in (("fit", portion, portion), ("measure", portion))]
    assert stages == [Stage(portion, (index + 1) * 2 / 100) for index, portion in enumerate(portions)]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert sum(inq.histogram()["0"].values()) == 24


@pytest.mark.parametrize("failing", [1, 3, 6])
def test_a_broken_run_goes_on_to_the_same_bits(tmp_path, failing):
    expected, inq = start()
    stages = train_inq(expected, inq, fit, evaluate, console=quiet())

    checkpoint = tmp_path / "checkpoint.pt"
    model, inq = start()
    calls = 0

    def breaking(network, portion):
        nonlocal calls
        calls += 1
        fit(network, portion)
        if calls == failing:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_inq(model, inq, breaking, evaluate, checkpoint=checkpoint, console=quiet())
    assert checkpoint.exists() == (failing > 1)
    model, inq = start()
    torch.manual_seed(5 if failing == 1 else 99)
    if failing == 1:
        model, inq = start()
    assert train_inq(model, inq, fit, evaluate, checkpoint=checkpoint, console=quiet()) == stages
    assert_same(expected, model)

    # Done already: nothing is trained, and the result is there again.
    model, inq = start()
    torch.manual_seed(7)
    assert train_inq(model, inq, None, None, checkpoint=checkpoint, console=quiet()) == stages
    assert_same(expected, model)
    # The comparison would notice another seed.
    model, inq = start()
    torch.manual_seed(7)
    assert train_inq(model, inq, fit, evaluate, console=quiet()) != stages


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    train_inq(*start(), fit, evaluate, checkpoint=checkpoint, console=quiet())
    begin = f"^cannot go on from the checkpoint '{checkpoint}': "
    with pytest.raises(ZeropointError, match=begin + r"the state of INQ has bits 4, expected 5; remove the file"):
        train_inq(*start(5), fit, evaluate, checkpoint=checkpoint, console=quiet())
    for content in (b"", b"no archive", checkpoint.read_bytes()[:900]):
        checkpoint.write_bytes(content)
        with pytest.raises(ZeropointError, match=begin):
            train_inq(*start(), fit, evaluate, checkpoint=checkpoint, console=quiet())
    torch.save({"model": start()[0].state_dict()}, checkpoint)
    with pytest.raises(ZeropointError, match=begin):
        train_inq(*start(), fit, evaluate, checkpoint=checkpoint, console=quiet())
    with pytest.raises(ZeropointError, match="there is no folder"):
        train_inq(*start(), fit, evaluate, checkpoint=tmp_path / "none" / "x.pt", console=quiet())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a checkpoint holds after the last portion."""
    checkpoint = tmp_path_factory.mktemp("finished") / "checkpoint.pt"
    train_inq(*start(), fit, evaluate, checkpoint=checkpoint, console=quiet())
    return torch.load(checkpoint, weights_only=True)


def without(content, key):
    return {name: value for name, value in content.items() if name != key}


def changed(content, part, **entries):
    return {**content, part: {**content[part], **entries}}


NONE = "it is no checkpoint of INQ: "


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: "hi", NONE + "it holds a str, expected a dict"),
        (lambda c: [c], NONE + "it holds a list, expected a dict"),
        (lambda c: torch.zeros(2, 3), NONE + "it holds a Tensor of shape (2, 3), expected a dict"),
        (lambda c: c["model"], NONE + "it has no 'model', 'inq', 'accuracies', 'generator'"),
        (lambda c: without(c, "accuracies"), NONE + "it has no 'accuracies'"),
        (lambda c: {**c, "inq": 3}, NONE + "its 'inq' is an int, expected a dict"),
        (lambda c: {**c, "generator": [1]}, NONE + "its 'generator' is a list, expected a Tensor"),
        (lambda c: {**c, "generator": c["generator"][:9]}, "its 'generator' is no state of this PyTorch's random"),
        (lambda c: {**c, "generator": torch.zeros(4)}, "its 'generator' is no state of this PyTorch's random"),
        (lambda c: {**c, "accuracies": [0.5]}, "it has not one accuracy for each of its 6 portions"),
        (lambda c: {**c, "accuracies": ["0.5"] * 6}, "it has not one accuracy for each of its 6 portions"),
        (lambda c: changed(c, "model", extra=torch.ones(1)), "it is of another network: it has 'extra', which the"),
        (lambda c: {**c, "model": without(c["model"], "2.bias")}, "it is of another network: it has no '2.bias'"),
        (
            lambda c: changed(c, "model", **{"2.bias": torch.ones(4)}),
            "it is of another network: its '2.bias' is a Tensor of shape (4,), expected a Tensor of shape (3,)",
        ),
        (lambda c: changed(c, "inq", bits=5), "the state of INQ has bits 5, expected 4"),
        (lambda c: changed(c, "inq", bits=4.0), "the state of INQ has bits 4.0, expected 4"),
        (lambda c: changed(c, "inq", layers=["0"]), "the state of INQ is of another network: it has no layer '2'"),
        (
            lambda c: changed(c, "inq", layers=["0", "2", "3"]),
            "the state of INQ is of another network: it has a layer '3', which the model has not",
        ),
        (
            lambda c: changed(c, "inq", layers=["2", "0"]),
            "the state of INQ is of another network: its layers come in another order",
        ),
        (
            lambda c: changed(c, "inq", least_exponents={"0": -3, "2": -99}),
            "the state of INQ does not fit the model: ",
        ),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said_and_nothing_is_changed(tmp_path, finished, change, reason):
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save(change(finished), checkpoint)
    model, inq = start()
    before, state, generator = copy.deepcopy(model), inq.state_dict(), torch.get_rng_state()
    message = f"cannot go on from the checkpoint '{checkpoint}': {reason}"
    with pytest.raises(
        ZeropointError, match=f"^{re.escape(message)}.*; remove the file, or name another, to "
    ) as caught:
        train_inq(model, inq, None, None, checkpoint=checkpoint, console=quiet())
    assert "\n" not in str(caught.value)
    assert_same(before, model)
    assert inq.state_dict() == state
    assert torch.equal(torch.get_rng_state(), generator)


# Bytes that are read as opcodes of pickle, each ending in another exception of its own.
@pytest.mark.parametrize(
    "content", [b"", b"hi", b"no archive", b"0", b"(t.", b"]a.", b"\x80\x02.", b"PK\x03\x04", b"\xff"]
)
def test_files_of_other_kinds_are_no_checkpoints(tmp_path, content):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(content)
    message = f"cannot go on from the checkpoint '{checkpoint}': it is no checkpoint of INQ, or is damaged; remove"
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}"):
        train_inq(*start(), None, None, checkpoint=checkpoint, console=quiet())


def test_a_checkpoint_may_be_named_by_a_str(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    stages = train_inq(*start(), fit, evaluate, checkpoint=str(checkpoint), console=quiet())
    assert checkpoint.is_file()
    assert train_inq(*start(), None, None, checkpoint=str(checkpoint), console=quiet()) == stages
    with pytest.raises(ZeropointError, match=r"^the checkpoint must be a path, as a str or a Path, not bool$"):
        train_inq(*start(), fit, evaluate, checkpoint=True, console=quiet())


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def test_a_checkpoint_cannot_run_code(tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"model": Hostile()}, checkpoint)
    with pytest.raises(ZeropointError, match=r"^cannot go on from the checkpoint"):
        train_inq(*start(), fit, evaluate, checkpoint=checkpoint, console=quiet())
    assert capsys.readouterr().out == ""
    torch.load(checkpoint, weights_only=False)  # would have
    assert capsys.readouterr().out == "executed\n"
