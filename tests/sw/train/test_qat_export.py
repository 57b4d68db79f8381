"""What is evaluated, the exported file, the golden model and the hardware are the same bits."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra: train)")

from support.engines import SHAPES, assert_exact, simulated  # noqa: E402
from support.qat_networks import NETWORKS, Depthwise, Plain, Residual, inputs, network, trained  # noqa: E402
from torch import nn  # noqa: E402

from zeropoint import golden  # noqa: E402
from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.importers import layout  # noqa: E402
from zeropoint.model import Quantization  # noqa: E402
from zeropoint.train import Qat  # noqa: E402
from zeropoint.train.qat_export import check_equal  # noqa: E402

SCHEMES = ("affine-int8", "affine-uint8")


def channels_last(q):
    return np.moveaxis(q, 1, -1) if q.ndim > 2 else q


#: Ranges are found in either way with either scheme: one of each is enough.
RANGES = {"affine-int8": "averaged", "affine-uint8": "learned"}


@cache
def exported(kind, scheme="affine-int8"):
    """A trained network and what its file holds; exporting takes seconds."""
    qat = trained(kind, scheme, ranges=RANGES[scheme])
    return qat, qat.quantized(inputs(kind, 2))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_tensor_of_the_golden_model_has_the_bits_of_the_evaluation(kind, scheme):
    qat, model = exported(kind, scheme)
    x = inputs(kind, 60)
    own = qat.tensors(x)
    q = model.tensor(model.input).quantize(layout.to_model(model, x.numpy()))
    computed = golden.run_tensors(model, q)
    for name, expected in own.items():
        assert expected.dtype == computed[name].dtype == scheme.removeprefix("affine-")
        expected = channels_last(expected)
        np.testing.assert_array_equal(computed[name].reshape(expected.shape), expected, err_msg=name)
    # The output in real values, too; and there is something to compare, even where the output is clipped.
    target = model.tensor(model.output)
    np.testing.assert_array_equal(qat(x).numpy(), target.dequantize(computed[model.output]).reshape(qat(x).shape))
    assert min(len(np.unique(values)) for values in list(own.values())[:-1]) > 20
    assert model.metadata["scheme"] == scheme


@pytest.mark.parametrize("seed", range(2))
def test_networks_of_all_scales(seed):
    """Weights, statistics and inputs over many orders of magnitude, idle channels among them."""
    rng = np.random.default_rng(seed)
    made = network(Residual, seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= float(2.0 ** rng.integers(-9, 9))
        made.body[1].weight[:2] = torch.tensor([0.0, 1e-30])
        made.stem.weight[3] = 0
    qat = Qat(made, SCHEMES[seed % 2]).train()
    x = inputs(made, 40, seed) * float(2.0 ** rng.integers(-9, 9))
    for _ in range(3):
        qat(x)
    qat.eval()
    # Raises if a bit differs; the negative controls are below.
    model = qat.quantized(x)
    assert model.tensor(model.input).scale == qat.network.get_submodule("x").target.scale


def test_floating_point_differs_by_ties_only():
    qat, _ = exported(Residual)
    x = inputs(Residual, 500)
    exact, simulated_values = qat(x), qat.simulate(x).detach()
    steps = ((exact - simulated_values) / qat.network.get_submodule("head").target.scale).abs()
    # A step, now and then two, where a sum lies next to a tie in some layer.
    assert steps.max() < 2.5
    assert (steps > 0.5).float().mean() < 0.25


def wrong_scale(tensor):
    (scale,) = tensor.quantization.scale
    return replace(tensor, quantization=Quantization((scale * 1.001,), tensor.quantization.zero_point))


def wrong_zero_point(tensor):
    (zero_point,) = tensor.quantization.zero_point
    return replace(tensor, quantization=Quantization(tensor.quantization.scale, (zero_point + 1,)))


def wrong_bit(tensor):
    data = tensor.data.copy()
    data.reshape(-1)[7] ^= 1
    return replace(tensor, data=data)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("change", [wrong_scale, wrong_zero_point, wrong_bit])
def test_the_check_notices(change, scheme):
    qat, model = exported(Plain, scheme)
    expected = qat.tensors(inputs(Plain, 50))
    check_equal(expected, model)
    name = next(iter(model.operators)).weights if change is wrong_bit else "5"
    changed = replace(model, tensors={**model.tensors, name: change(model.tensor(name))})
    with pytest.raises(ZeropointError, match=r"^activation '\w+' of model 'network' differs in \d+ of \d+ values; the"):
        check_equal(expected, changed)
    with pytest.raises(ZeropointError, match=r"^model 'network' has no activation 'other'; export the network again$"):
        check_equal({**expected, "other": expected["5"]}, model)
    with pytest.raises(ZeropointError, match=r"^activation '5' of model 'network' has 450 values, not 50$"):
        check_equal({**expected, "5": expected["5"][:, 0]}, model)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    qat, _ = exported(Plain)
    x = inputs(Plain)
    real = Qat.tensors
    monkeypatch.setattr(Qat, "tensors", lambda *args: {name: q ^ 1 for name, q in real(*args).items()})
    with pytest.raises(ZeropointError, match="differs in"):
        qat.export(tmp_path / "network.onnx", x)
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_integers_and_names_and_is_the_same_each_time(tmp_path):
    qat = trained(Depthwise)
    qat.export(tmp_path / "a.onnx", inputs(Depthwise))
    qat.export(str(tmp_path / "b.onnx"), inputs(Depthwise))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert [node.name for node in layers] == ["depthwise", "grouped", "classifier"]
    for node in layers:
        weights, bias = (producers[name] for name in node.input[1:])
        assert {weights.op_type, bias.op_type} == {"DequantizeLinear"}
        assert types[weights.input[0]] == onnx.TensorProto.INT8
        assert types[bias.input[0]] == onnx.TensorProto.INT32
    assert not any("BatchNorm" in node.op_type for node in model.graph.node)
    assert not any(node.doc_string or len(node.metadata_props) for node in model.graph.node)
    assert [value.name for value in model.graph.output] == ["classifier"]


def test_onnx_runtime_is_within_steps_of_it(tmp_path):
    """An engine of another arithmetic sees the same network."""
    runtime = pytest.importorskip("onnxruntime")
    qat = trained(Residual)
    x = inputs(Residual, 100)
    qat.export(tmp_path / "network.onnx", x)
    session = runtime.InferenceSession((tmp_path / "network.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    steps = (got - qat(x).numpy()) / qat.network.get_submodule("head").target.scale
    assert np.abs(steps).max() < 3.5


def test_the_simulated_hardware_computes_the_same():
    qat, model = exported(Plain)
    x = inputs(Plain, 3)
    q = model.tensor(model.input).quantize(layout.to_model(model, x.numpy()))
    result = simulated(model, q, SHAPES["4x4-fold"])
    assert_exact(result)
    np.testing.assert_array_equal(result.outputs.reshape(3, -1), qat.tensors(x)["8"])


def test_without_examples_or_ranges_there_is_no_file(tmp_path):
    with pytest.raises(ZeropointError, match=r"^the export needs one example or more$"):
        exported(Plain)[0].export(tmp_path / "a.onnx", inputs(Plain)[:0])
    untrained = Qat(network()).eval()
    with pytest.raises(ZeropointError, match=r"^activation 'input_1' has no range yet: train, or run some batches in"):
        untrained.export(tmp_path / "a.onnx", inputs(Plain))
    with pytest.raises(ZeropointError, match="there is no folder"):
        exported(Plain)[0].export(str(tmp_path / "none" / "a.onnx"), inputs(Plain))
    with pytest.raises(
        ZeropointError, match=r"^the first argument of export must be a path, as a str or a Path, not Te"
    ):
        exported(Plain)[0].export(inputs(Plain), tmp_path / "a.onnx")
    broken = trained(Plain)
    nn.init.constant_(broken.network.get_submodule("5.layer").weight, float("nan"))
    with pytest.raises(ZeropointError, match=r"^layer '5' has weights that are not finite: its training has diverged$"):
        broken.export(tmp_path / "a.onnx", inputs(Plain))
    assert list(tmp_path.iterdir()) == []
