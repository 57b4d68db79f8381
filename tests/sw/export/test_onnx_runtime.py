"""How far ONNX Runtime is from the golden model: what is counted, and that it is what double rounding explains."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from support.files import random_input
from support.random_models import ModelBuilder, random_model

from zeropoint import golden
from zeropoint.arithmetic import requantize_scaling
from zeropoint.errors import ZeropointError
from zeropoint.export import onnx_runtime
from zeropoint.export.onnx_runtime import Difference, differences
from zeropoint.model import Quantization, QuantizedModel, Requantize, Softmax, Tensor
from zeropoint.numerics import Rounding

#: Operators whose results onnxruntime scales in floating point, or compares, exactly or nearly so.
EXACT = {"MaxPool2D", "Pad", "Reshape", "Add"}


def probable(model: QuantizedModel) -> bool:
    """Return whether a network ends in more than one probability: see below for the others."""
    last = model.operators[-1]
    return not (isinstance(last, Softmax) and model.tensor(last.output).shape[-1] == 1)


@pytest.mark.parametrize("seed", [seed for seed in range(24) if probable(random_model(seed))])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_each_layer_alone_is_within_a_step(seed: int, rounding: Rounding) -> None:
    model = replace(random_model(seed), rounding=rounding)
    for difference in differences(model, random_input(model, 10)):
        assert difference.alone_greatest <= 1, difference
        if difference.kind in EXACT:
            assert difference.alone == 0, difference
        # One rounding is what ONNX Runtime does; ties go to even there, and up here.
        if rounding is Rounding.SINGLE and difference.kind not in ("AveragePool2D", "Softmax"):
            assert difference.alone <= 0.001 * difference.elements, difference


def test_counts_are_those_of_the_second_rounding() -> None:
    """A ratio of 0.312 is a multiplier with a right shift of 1: a quarter of the values are rounded otherwise."""
    source = Tensor("x", (256,), "int8", Quantization((0.0312,), (0,)))
    target = Tensor("y", (256,), "int8", Quantization((0.1,), (0,)))
    operator = Requantize(name="r", input="x", output="y")
    model = QuantizedModel("m", {"x": source, "y": target}, (operator,), "x", "y")
    assert int(requantize_scaling(model, operator).shift) == -1
    x = np.arange(-128, 128, dtype=np.int8)[None]
    ours = golden.run(model, x).astype(int)
    exact = np.rint(x * np.float64(np.float32(0.0312)) / np.float64(np.float32(0.1)))
    count = int(np.count_nonzero(ours != exact))
    assert 40 < count < 90
    assert differences(model, x) == [Difference("r", "Requantize", 256, count, 1, count, 1)]


def test_differences_grow_in_the_network() -> None:
    """A layer that gives the same alone differs after one that does not."""
    model = random_model(17)
    found = differences(model, random_input(model, 40))
    assert (found[0].alone, found[0].alone_greatest) == (found[0].network, found[0].network_greatest)
    assert any(difference.network > max(100, 10 * difference.alone) for difference in found)
    sizes = [np.prod(model.tensor(operator.output).shape) * 40 for operator in model.operators]
    assert [difference.elements for difference in found] == sizes


def test_every_difference_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: integers that the golden model has otherwise are found, in their layer."""
    model = replace(random_model(2), rounding=Rounding.SINGLE)
    x = random_input(model, 50)
    plain = differences(model, x)
    middle = len(model.operators) // 2
    name = model.operators[middle].output
    run = golden.run_tensors

    def tampered(*arguments: object) -> dict[str, np.ndarray]:
        tensors = run(*arguments)
        tensors[name] = tensors[name].copy()
        tensors[name].reshape(len(tensors[name]), -1)[:, 0] ^= 0x10
        return tensors

    monkeypatch.setattr(golden, "run_tensors", tampered)
    found = differences(model, x)
    assert found[middle].alone == plain[middle].alone + 50
    assert found[middle].network == plain[middle].network + 50
    assert found[middle].network_greatest >= 16
    assert found[:middle] == plain[:middle]


@pytest.mark.parametrize("metadata", [{"input_shape": "3,6", "input_permutation": "1,0"}, {"input_shape": "6,3"}])
def test_input_in_the_layout_of_its_file(metadata: dict[str, str]) -> None:
    builder = ModelBuilder(np.random.default_rng(0))
    model = builder.build(builder.requantize(builder.input(1, 6, 3)))
    plain = differences(model, random_input(model, 50))
    model = replace(model, metadata={"source": "onnx", **metadata})
    assert differences(model, random_input(model, 50)) == plain


def test_progress() -> None:
    model, done = random_model(0), []
    differences(model, random_input(model, 70), done.append)
    assert done == [32, 64, 70]


def test_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = random_model(0)
    with pytest.raises(
        ZeropointError, match=r"^ONNX Runtime is not installed; .* pip install 'zeropoint\[onnxruntime\]'$"
    ):
        differences(model, random_input(model, 1))


def test_network_that_onnx_runtime_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    convert = onnx_runtime.convert_named

    def broken(model: QuantizedModel) -> object:
        exported, names = convert(model)
        exported.graph.node[0].op_type = "Nothing"
        return exported, names

    monkeypatch.setattr(onnx_runtime, "convert_named", broken)
    model = random_model(0)
    with pytest.raises(ZeropointError, match=r"^ONNX Runtime refuses model 'random': .*Nothing"):
        differences(model, random_input(model, 1))
