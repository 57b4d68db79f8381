"""INQ against its definition: what is frozen, bit for bit; what is chosen; and what it becomes, by brute force."""

import io
import re
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from torch import nn  # noqa: E402

from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.numerics.power_of_two import InqThreshold  # noqa: E402
from zeropoint.train import SCHEDULES, Inq  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(seed=0):
    """Layers of usual networks, a depthwise one and a normalization among them."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv1d(1, 3, 3, padding=1),
        nn.Unflatten(2, (4, 4)),
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 2, groups=6),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


LAYERS = ["0", "2", "5", "7"]
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.05, weight_decay=0.1),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, 0.05, weight_decay=0.1, amsgrad=True),
}


def train(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        inputs = torch.randn(8, 1, 16, generator=generator)
        labels = torch.randint(5, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def weights(model):
    return {name: model.get_submodule(name).weight.detach().clone() for name in LAYERS}


def bits_of(tensor):
    return tensor.detach().numpy().view(np.int32)


def levels_by_definition(peak, bits):
    """n1 = ⌊log2(4s/3)⌋ and n2 = n1 + 1 − 2^(b−1)/2, by search in exact arithmetic."""
    n1 = max(n for n in range(-60, 60) if Fraction(2) ** n <= 4 * Fraction(peak) / 3)
    n2 = n1 + 1 - 2 ** (bits - 1) // 2
    magnitudes = [2.0**n for n in range(n2, n1 + 1)]
    return sorted([-m for m in magnitudes] + [0.0] + magnitudes)


def nearest_by_definition(weight, levels):
    """The level nearest to it, of two as near the one farther from 0: for magnitudes up to 3/2 of the greatest."""
    return min(levels, key=lambda level: (abs(Fraction(level) - Fraction(weight)), -abs(level)))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("early", [True, False], ids=["optimizer made before", "optimizer made after"])
def test_frozen_weights_stay_bit_for_bit(make, early):
    model = network()
    if early:  # momentum and moments of the very weights that are frozen later
        optimizer = make(model.parameters())
        train(model, optimizer, 3)
        inq = Inq(model, 4)
    else:
        inq = Inq(model, 4)
        optimizer = make(model.parameters())
        train(model, optimizer, 3)
    frozen = {name: np.zeros(model.get_submodule(name).weight.shape, bool) for name in LAYERS}
    constants = weights(model)
    while not inq.done:
        inq.advance()
        for name in LAYERS:
            now = bits_of(model.get_submodule(name).weight)
            np.testing.assert_array_equal(now[frozen[name]], bits_of(constants[name])[frozen[name]])
            assert (inq.frozen(name) | frozen[name] == inq.frozen(name)).all()
            frozen[name] = inq.frozen(name)
        constants = weights(model)
        train(model, optimizer, 5, seed=1)
        for name in LAYERS:
            now, then = bits_of(model.get_submodule(name).weight), bits_of(constants[name])
            np.testing.assert_array_equal(now[frozen[name]], then[frozen[name]])
            # The check would notice: nearly all weights that are not frozen have moved.
            if not frozen[name].all():
                assert (now != then)[~frozen[name]].mean() > 0.9


def test_without_inq_the_same_training_moves_what_would_be_frozen():
    model = network()
    before = weights(model)
    train(model, OPTIMIZERS["sgd"](model.parameters()), 1)
    assert all((bits_of(weights(model)[name]) != bits_of(before[name])).mean() > 0.9 for name in LAYERS)


def test_gradients_of_frozen_weights_are_zero_and_others_are_not_touched():
    model, inputs = network(), torch.randn(8, 1, 16)
    inq = Inq(model, 5)
    inq.advance()
    model(inputs).square().sum().backward()
    for name in LAYERS:
        gradient = model.get_submodule(name).parametrizations.weight.original.grad.numpy()
        assert (gradient[inq.frozen(name)] == 0).all()
        assert (gradient[~inq.frozen(name)] != 0).any()


def test_hostile_writes_do_not_reach_frozen_weights():
    model = network()
    inq = Inq(model, 3)
    inq.advance()
    before = weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    for name in LAYERS:
        now, mask = model.get_submodule(name).weight, inq.frozen(name)
        np.testing.assert_array_equal(bits_of(now)[mask], bits_of(before[name])[mask])
        assert now.isnan().numpy()[~mask].all()
    with pytest.raises(ZeropointError, match=r"^layer '0' has weights that are not finite: its training has diverged$"):
        inq.advance()
    assert inq.portion == 0.2


@pytest.mark.parametrize("bits", [5, 4, 3, 2])
def test_levels_are_those_of_the_definition(bits):
    model = network()
    inq = Inq(model, bits)
    peaks = {name: weight.abs().max().item() for name, weight in weights(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9)
    while not inq.done:
        before, old = weights(model), {name: inq.frozen(name) for name in LAYERS}
        inq.advance()
        for name, weight in weights(model).items():
            levels = levels_by_definition(peaks[name], bits)
            for was, now, fresh in zip(
                before[name].flatten().tolist(),
                weight.flatten().tolist(),
                (inq.frozen(name) & ~old[name]).ravel(),
                strict=True,
            ):
                limited = max(-1.5 * levels[-1], min(1.5 * levels[-1], was))
                assert now == (nearest_by_definition(limited, levels) if fresh else was)
        train(model, optimizer, 4)
    for name, weight in weights(model).items():
        levels = levels_by_definition(peaks[name], bits)
        assert len(levels) == 2 ** (bits - 1) + 1
        assert set(weight.flatten().tolist()) <= set(levels)
        assert list(inq.histogram()[name]) == levels
        assert inq.histogram()[name] == {level: int((weight == level).sum()) for level in levels}
        # It would notice: the levels of another peak are others.
        assert not set(weight.flatten().tolist()) <= set(levels_by_definition(2.0**20 * peaks[name], bits))
    # The float network's weights are no levels.
    assert not set(weights(network())["2"].flatten().tolist()) <= set(levels_by_definition(peaks["2"], bits))


def test_truncation_takes_what_is_below_the_least_level_for_zero():
    def quantized(threshold):
        model = nn.Linear(4, 1)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[1.0, 0.3, 0.49, -0.6]]))
        Inq(model, 3, (1.0,), threshold=threshold).advance()
        return model.weight.tolist()[0]

    assert quantized(InqThreshold.TRUNCATE) == [1.0, 0.0, 0.0, -0.5]
    assert quantized(InqThreshold.NEAREST) == [1.0, 0.5, 0.5, -0.5]


@pytest.mark.parametrize("name", SCHEDULES)
def test_portions_are_reached_by_the_greatest_magnitudes(name):
    model = network()
    inq = Inq(model, 5, name)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert inq.portion == 0
    for portion in SCHEDULES[name]:
        before, old = weights(model), {layer: inq.frozen(layer) for layer in LAYERS}
        assert inq.advance() == portion == inq.portion
        for layer in LAYERS:
            frozen, magnitude = inq.frozen(layer), before[layer].abs().numpy()
            assert frozen.sum() == int(portion * frozen.size + 0.5)
            fresh = frozen & ~old[layer]
            if fresh.any() and not frozen.all():
                assert magnitude[fresh].min() >= magnitude[~frozen].max()
        train(model, optimizer, 1)
    assert inq.done
    with pytest.raises(ZeropointError, match=r"^all weights are quantized: no portion is left$"):
        inq.advance()


def test_published_schedules():
    assert SCHEDULES["alexnet"] == (0.3, 0.6, 0.8, 1)
    assert SCHEDULES["vgg"] == SCHEDULES["resnet"] == SCHEDULES["5-bit"] == (0.5, 0.75, 0.875, 1)
    assert SCHEDULES["googlenet"] == (0.2, 0.4, 0.6, 0.8, 1)
    assert SCHEDULES["4-bit"] == (0.3, 0.5, 0.8, 0.9, 0.95, 1)
    assert SCHEDULES["3-bit"] == (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
    assert SCHEDULES["2-bit"] == (0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1)


def test_random_partition_is_of_the_seed():
    def chosen(seed, partition="random"):
        model = network()
        inq = Inq(model, 5, partition=partition, seed=seed)
        inq.advance()
        return np.concatenate([inq.frozen(name).ravel() for name in LAYERS])

    np.testing.assert_array_equal(chosen(7), chosen(7))
    assert (chosen(7) != chosen(8)).any()
    assert (chosen(7) != chosen(7, "magnitude")).any()
    np.testing.assert_array_equal(chosen(7, "magnitude"), chosen(8, "magnitude"))
    assert chosen(7).sum() == chosen(8).sum() == chosen(7, "magnitude").sum()


def saved(**parts):
    """What a file gives back: through torch's serialization, with nothing but plain data in it."""
    file = io.BytesIO()
    torch.save(parts, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize("partition", ["magnitude", "random"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_resumed_is_uninterrupted_bit_for_bit(make, partition, stop):
    def start():
        model = network()
        inq = Inq(model, 4, partition=partition, seed=3)
        return model, inq, make(model.parameters())

    def go_on(model, inq, optimizer, until):
        for step in range(inq.portions.index(inq.portion) + 1 if inq.portion else 0, until):
            inq.advance()
            train(model, optimizer, 2, seed=step)

    model, inq, optimizer = start()
    go_on(model, inq, optimizer, 6)

    first = start()
    go_on(*first, stop)
    state = saved(model=first[0].state_dict(), inq=first[1].state_dict(), optimizer=first[2].state_dict())
    train(first[0], first[2], 2)  # what happens after saving does not matter
    second, resumed, optimizer = start()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(1.0)
    second.load_state_dict(state["model"])
    resumed.load_state_dict(state["inq"])
    optimizer.load_state_dict(state["optimizer"])
    go_on(second, resumed, optimizer, 6)

    assert resumed.histogram() == inq.histogram()
    assert model.state_dict().keys() == second.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), second.state_dict()[name].numpy(), err_msg=name)
    # It would notice: without its optimizer's state, the same training ends elsewhere.
    if stop == 3:
        third, resumed, optimizer = start()
        third.load_state_dict(state["model"])
        resumed.load_state_dict(state["inq"])
        go_on(third, resumed, optimizer, 6)
        assert any((value != third.state_dict()[name]).any() for name, value in model.state_dict().items())


def test_finish_leaves_a_plain_network_of_the_same_values():
    model = network()
    inq = Inq(model, 3, (0.5, 1.0))
    inq.advance()
    with pytest.raises(ZeropointError, match=re.escape("INQ is not done: 0.5 of the weights are quantized, not all")):
        inq.finish()
    inq.advance()
    inputs = torch.randn(8, 1, 16)
    output, histogram, before = model.eval()(inputs), inq.histogram(), weights(model)
    inq.finish()
    inq.finish()
    assert list(model.state_dict()) == list(network().state_dict())
    assert [type(module) for module in model.modules()] == [type(module) for module in network().modules()]
    assert all(isinstance(model.get_submodule(name).weight, nn.Parameter) for name in LAYERS)
    for name in LAYERS:
        np.testing.assert_array_equal(bits_of(model.get_submodule(name).weight), bits_of(before[name]))
    np.testing.assert_array_equal(bits_of(model(inputs)), bits_of(output))
    assert inq.histogram() == histogram
    with torch.no_grad():
        model.get_submodule("2").weight[0, 0, 0, 0] = 0.3
    with pytest.raises(ZeropointError, match=r"^layer '2' is no longer quantized: .* is not ±2"):
        inq.histogram()


def test_biases_and_normalizations_stay_floats_that_train_to_the_end():
    model = network()
    inq = Inq(model, 5, (1.0,))
    inq.advance()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train(model, torch.optim.SGD(model.parameters(), 0.1), 2)
    free = [name for name in before if not name.endswith("original")]
    assert sorted(free) == ["0.bias", "3.bias", "3.weight", "5.bias", "7.bias"]
    # The normalization takes away what is constant, so that this one's gradient is but rounding.
    free.remove("0.bias")
    parameters = dict(model.named_parameters())
    assert [name for name in free if not (parameters[name] != before[name]).any()] == []


def test_a_layer_of_zeros_and_a_module_used_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.again = nn.Linear(3, 3)
            self.zero = nn.Linear(3, 3)
            nn.init.zeros_(self.zero.weight)

        def forward(self, x):
            return self.zero(self.again(self.first(x)))

    model = Twice()
    inq = Inq(model, 5, (1.0,))
    inq.advance()
    assert list(inq.formats) == ["first", "zero"]
    assert inq.histogram()["zero"][0.0] == 9
    assert model(torch.ones(1, 3)).shape == (1, 3)


CONVOLUTIONS = {
    "conv1d": lambda: nn.Conv1d(4, 6, 3, groups=2),
    "conv2d": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "conv3d": lambda: nn.Conv3d(4, 6, 3, groups=2),
    "transposed 1d": lambda: nn.ConvTranspose1d(4, 6, 3, groups=2),
    "transposed 2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed 3d": lambda: nn.ConvTranspose3d(4, 6, 3, groups=2),
    "linear": lambda: nn.Linear(4, 6),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_every_kind_of_layer_is_quantized_and_trains(kind):
    torch.manual_seed(2)
    model = CONVOLUTIONS[kind]()
    peak, dimensions = model.weight.abs().max().item(), model.weight.dim() - 2
    plain = [(name, value.shape) for name, value in model.state_dict().items()]
    inq = Inq(model, 3, (0.5, 1.0))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(2, 4, *[5] * dimensions)
    while not inq.done:
        inq.advance()
        before, frozen = model.weight.detach().clone(), inq.frozen("")
        model(x).square().sum().backward()
        optimizer.step()
        assert torch.equal(model.weight[frozen], before[frozen])
        assert frozen.all() or (model.weight[~frozen] != before[~frozen]).any()
    output = model(x)
    inq.finish()
    assert set(model.weight.flatten().tolist()) <= set(levels_by_definition(peak, 3))
    assert [(name, value.shape) for name, value in model.state_dict().items()] == plain
    assert torch.equal(model(x), output)


class Others(nn.Module):
    """Weights in modules that INQ does not quantize."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.lstm = nn.LSTM(4, 3)
        self.gru = nn.GRU(4, 3, bidirectional=True)
        self.position = nn.Parameter(torch.zeros(1, 4))
        self.scale = nn.Parameter(torch.ones(4))
        self.table = nn.Parameter(torch.zeros(2, 2, dtype=torch.int64), requires_grad=False)
        self.activation = nn.PReLU(4)
        self.head = nn.Linear(4, 2)


def test_weights_that_stay_floats_are_named_in_one_warning():
    model = Others()
    named = [
        "position",
        "embedding.weight",
        "attention.in_proj_weight",
        *(f"lstm.weight_{kind}_l0" for kind in ("ih", "hh")),
        *(f"gru.weight_{kind}_l0{end}" for end in ("", "_reverse") for kind in ("ih", "hh")),
    ]
    message = (
        f"INQ leaves these weights floats, as it quantizes only convolutions and Linear layers of torch.nn: "
        f"{', '.join(named)}"
    )
    # A warning that is an error leaves the model as it was.
    with pytest.raises(UserWarning, match=f"^{re.escape(message)}$"):
        Inq(model, 5)
    assert list(model.state_dict()) == list(Others().state_dict())
    with pytest.warns(UserWarning, match="^INQ leaves") as caught:
        inq = Inq(model, 5, (1.0,))
    assert [str(warning.message) for warning in caught] == [message]
    assert caught[0].filename == __file__
    inq.advance()
    # What the attention computes with is its quantized projection.
    assert list(inq.histogram()) == ["attention.out_proj", "head"]
    x = torch.randn(1, 3, 4)
    output = model.attention(x, x, x)[0]
    output.sum().backward()
    inq.finish()
    torch.testing.assert_close(model.attention(x, x, x)[0], output, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_has_no_weights_beside_its_layers_gives_no_warning():
    # Warnings are errors here.
    Inq(network(), 5)
    Inq(nn.Sequential(nn.Linear(3, 3), nn.LazyBatchNorm1d()), 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 6}, "INQ's bits must be an integer from 2 to 5, not 6"),
        ({"bits": True}, "INQ's bits must be an integer from 2 to 5, not True"),
        ({"bits": 5.0}, "INQ's bits must be an integer from 2 to 5, not 5.0"),
        ({"bits": "5"}, "INQ's bits must be an integer from 2 to 5, not '5'"),
        ({"bits": None}, "INQ's bits must be an integer from 2 to 5, not None"),
        ({"partition": "size"}, "INQ's partition is 'magnitude' or 'random', not 'size'"),
        ({"threshold": "nearest"}, "INQ's threshold is an InqThreshold, not 'nearest'"),
        ({"seed": -1}, "a seed is a whole number from 0 on, not -1"),
        (
            {"portions": "lenet"},
            "there is no schedule 'lenet'; there are alexnet, vgg, resnet, googlenet, 5-bit, 4-bit, 3-bit, 2-bit",
        ),
        ({"portions": ()}, "accumulated portions ascend from above 0 and end in 1; () do not"),
        ({"portions": (0.5, 0.9)}, "accumulated portions ascend from above 0 and end in 1; (0.5, 0.9) do not"),
        ({"portions": (0.5, 0.5, 1)}, "accumulated portions ascend from above 0 and end in 1; (0.5, 0.5, 1) do not"),
        ({"portions": (0, 1)}, "accumulated portions ascend from above 0 and end in 1; (0, 1) do not"),
        ({"portions": (float("nan"), 1)}, "accumulated portions ascend from above 0 and end in 1; (nan, 1) do not"),
        ({"portions": ("a", 1)}, "accumulated portions are numbers, not ('a', 1)"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}$"):
        Inq(network(), **{"bits": 5, **arguments})


def tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU()), "the model has no convolution and no Linear layer of torch.nn"),
        (tied, "layer '0' shares its weight with '1.weight'; INQ needs it to have its own"),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
            "layer '0' has a weight that is parametrized already",
        ),
        (lambda: nn.Sequential(nn.Linear(0, 2)), "layer '0' has no weights"),
        (
            lambda: nn.Sequential(nn.LazyLinear(2)),
            "layer '0' has a weight that is no parameter, or one without a shape",
        ),
        (
            lambda: nn.Sequential(nn.Conv3d(1, 1, 1), nn.LazyConvTranspose3d(2, 1)),
            "layer '1' has a weight that is no parameter, or one without a shape",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors", "ignore:Lazy modules")
def test_networks_that_cannot_be_quantized_are_refused_unchanged(make, message):
    model = make()
    types = [type(module) for module in model.modules()]
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}"):
        Inq(model, 5)
    assert [type(module) for module in model.modules()] == types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_hold_the_levels_exactly_or_are_refused(dtype):
    model = nn.Linear(8, 8).to(dtype)
    peak = model.weight.abs().max().item()
    inq = Inq(model, 5, (1.0,))
    inq.advance()
    assert set(model.weight.flatten().tolist()) <= set(levels_by_definition(peak, 5))
    assert model.weight.dtype == dtype


@pytest.mark.parametrize("factor", [1e-200, 1e200, 5e-324])
def test_levels_beyond_all_formats_are_refused(factor):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.25, -1.0]], dtype=torch.float64) * factor)
    inq, before = Inq(model, 5), model[0].weight.detach().clone()
    message = (
        f"layer '1' has weights of up to {factor:.3g}, and INQ's least level must be from 2^-256 to 2^256; rescale"
    )
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)} the layer's weights$"):
        inq.advance()
    assert inq.portion == 0
    assert inq.formats == {}
    assert torch.equal(model[0].weight, before)


def test_levels_below_the_range_of_the_type_are_refused():
    model = nn.Linear(2, 1).to(torch.float16)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0**-19, 2.0**-24]]))  # levels from 2^-26 on; the second one stays
    inq = Inq(model, 5, (1.0,))
    inq.advance()
    assert model.weight.tolist() == [[2.0**-19, 2.0**-24]]

    model = nn.Linear(2, 1).to(torch.float16)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[65504.0, 1.0]]))  # 1.9990 · 2^15 becomes 2^16
    inq = Inq(model, 5, (1.0,))
    message = "layer '' has levels from 2^9 to 2^16, which torch.float16 cannot hold; train in float32"
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}$"):
        inq.advance()
    assert inq.portion == 0


def test_states_that_do_not_fit_are_refused():
    model = network()
    inq = Inq(model, 4)
    inq.advance()
    state = inq.state_dict()
    with pytest.raises(ZeropointError, match=r"^the state of INQ has bits 4, expected 3$"):
        Inq(network(), 3).load_state_dict(state)
    with pytest.raises(ZeropointError, match=r"^the state of INQ has partition 'magnitude', expected 'random'$"):
        Inq(network(), 4, partition="random").load_state_dict(state)
    with pytest.raises(ZeropointError, match=r"^layer '0' has 0 frozen weights of 9, which is not the portion 0.3 of"):
        Inq(network(), 4).load_state_dict(state)
    with pytest.raises(ZeropointError, match=r"^the state of INQ is a dict of Inq\.state_dict, not list$"):
        inq.load_state_dict([])
    for change, message in (
        ({"layers": ["0", "2", "5"]}, "the state of INQ is of another network: it has no layer '7'"),
        ({"step": 7}, "the state of INQ has step 7, expected 0 … 6"),
        ({"step": "1"}, "the state of INQ has step '1', expected 0 … 6"),
        ({"least_exponents": {}}, "the state of INQ has not one exponent for each layer"),
        ({"least_exponents": {**state["least_exponents"], "0": 300}}, "the state of INQ does not fit the model: "),
        ({"least_exponents": {**state["least_exponents"], "2": -30}}, "the state of INQ does not fit the model: "),
    ):
        with pytest.raises(ZeropointError, match=f"^{re.escape(message)}"):
            inq.load_state_dict({**state, **change})
    assert inq.state_dict() == state
    inq.load_state_dict(state)
