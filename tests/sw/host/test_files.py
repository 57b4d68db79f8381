"""A host without a model takes inputs as the golden model does, from what the program's folder says of them."""

import numpy as np
import pytest
from support.fixed_models import random_fixed_model

from zeropoint import arrays, golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.configure import configure
from zeropoint.compiler.storage import load, save
from zeropoint.errors import ZeropointError
from zeropoint.host.files import load_input


@pytest.fixture(scope="module", params=[4, 8, 16])
def narrow(request, tmp_path_factory):
    """A network whose activations have so many bits, and its program's folder, loaded again."""
    model = random_fixed_model(1, request.param)
    folder = tmp_path_factory.mktemp("narrow")
    save(compile_model(model, configure(model, {"lanes": 2, "columns": 2})), folder / "program")
    return model, load(folder / "program")


def test_floats_saturate_at_the_ends_of_narrow_integers(narrow, tmp_path):
    model, program = narrow
    tensor = model.tensor(model.input)
    x = np.random.default_rng(0).normal(scale=4 * tensor.scale * tensor.limits[1], size=(3, *tensor.shape))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    taken = load_input(tmp_path / "x.npy", program)
    np.testing.assert_array_equal(taken, arrays.load_input(tmp_path / "x.npy", model))
    assert (taken.min(), taken.max()) == tensor.limits


def test_integers_beyond_their_ends_are_refused(narrow, tmp_path):
    model, program = narrow
    tensor = model.tensor(model.input)
    _, high = tensor.limits
    x = np.zeros((1, *tensor.shape), np.int32)
    x.flat[0] = high + 1
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ZeropointError, match=rf"to {high}, but are 0 to {high + 1}"):
        load_input(tmp_path / "x.npy", program)
    if tensor.bits < 8:
        # The dtype has room for it, and the layers' worst case has not.
        with pytest.raises(ZeropointError, match=rf" … {high}, not 0 … {high + 1}$"):
            golden.run(model, x.astype(tensor.dtype))
