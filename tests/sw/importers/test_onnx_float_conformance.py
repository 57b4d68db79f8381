"""ONNX's own conformance cases, one node each, of the operators that the importer takes."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from zeropoint import float_reference
from zeropoint.errors import ZeropointError
from zeropoint.importers import layout, onnx_float
from zeropoint.importers.onnx_float_translate import HANDLERS


@pytest.mark.slow
def test_conformance(tmp_path: Path) -> None:
    """Each case is refused or computed as ONNX says; of what it computes nothing else may slip through."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    passed, refused, failed = set(), set(), []
    path = tmp_path / "case.onnx"
    for case in cases:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        if len(model.graph.node) != 1 or model.graph.node[0].op_type not in HANDLERS:
            continue
        (inputs, outputs), *_ = case.data_sets
        if not all(isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "fiub" for array in inputs):
            continue
        # The cases have their weights as inputs.
        for info, array in list(zip(model.graph.input, inputs, strict=True))[1:]:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
        path.write_bytes(model.SerializeToString())
        try:
            network = onnx_float.read(path)
        except ZeropointError:
            refused.add(case.name)
            continue
        values = float_reference.run(network, layout.to_model(network, inputs[0]))
        got, expected = layout.to_file(network, values[network.output]), np.asarray(outputs[0])
        # Some of the expected values are written with four decimals.
        close = got.shape == expected.shape and np.allclose(got, expected, rtol=1e-4, atol=1e-4)
        (passed.add if close else failed.append)(case.name)
    assert not failed
    assert len(passed) >= 60
    for operator in (
        "basic_conv",
        "gemm",
        "maxpool_2d",
        "averagepool_2d",
        "batchnorm",
        "softmax",
        "reduce_mean",
        "clip",
    ):
        assert any(name.startswith(f"test_{operator}") for name in passed), operator
    # What they refuse shows that they are not taken for something else.
    assert {"test_maxpool_2d_dilations", "test_softmax_axis_0", "test_constant_pad", "test_flatten_axis2"} <= refused
