import numpy as np
import pytest
from support.random_models import ModelBuilder

from zeropoint import golden
from zeropoint.compiler.normalize import normalize
from zeropoint.model import Conv2D, DepthwiseConv2D, Padding


def depthwise_model(seed, channels, multiplier):
    rng = np.random.default_rng(seed)
    builder = ModelBuilder(rng, weight_zero_points=bool(seed % 2))
    source = builder.input(7, 6, channels)
    target = builder.depthwise(source, (3, 2), multiplier, stride=(2, 1), padding=Padding(1, 0, 1, 1))
    return builder.build(target)


@pytest.mark.parametrize("seed", range(6))
def test_a_single_channel_becomes_a_convolution_of_the_same_values(seed):
    model = depthwise_model(seed, 1, 1 + seed)
    made = normalize(model)
    assert [type(operator) for operator in made.operators] == [Conv2D]
    x = np.random.default_rng(seed).integers(-128, 128, (5, 7, 6, 1)).astype(np.int8)
    np.testing.assert_array_equal(golden.run(made, x), golden.run(model, x))


def test_more_channels_stay():
    model = depthwise_model(0, 2, 3)
    assert [type(operator) for operator in normalize(model).operators] == [DepthwiseConv2D]
