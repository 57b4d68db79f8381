"""The normative integer arithmetic, in NumPy.

Modules, in the order in which data meets them:

- ``fixed_point``: multipliers, their application with single or double rounding, requantization.
- ``softmax``: gemmlowp's fixed-point exponential and reciprocal, and SOFTMAX built on them.
"""

from zeropoint.numerics.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    Integers,
    Rounding,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal_multiplier,
    requantize,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    wrap_int32,
)
from zeropoint.numerics.softmax import (
    DIFFERENCE_BITS,
    SOFTMAX_MAX_DEPTH,
    exp_on_negative_values,
    exponentials,
    one_over_one_plus_x,
    reciprocal,
    softmax,
)

__all__ = [
    "DIFFERENCE_BITS",
    "INT32_MAX",
    "INT32_MIN",
    "SOFTMAX_MAX_DEPTH",
    "Integers",
    "Rounding",
    "exp_on_negative_values",
    "exponentials",
    "multiply_by_quantized_multiplier",
    "one_over_one_plus_x",
    "quantize_multiplier",
    "reciprocal",
    "reciprocal_multiplier",
    "requantize",
    "round_half_away",
    "rounding_divide_by_pot",
    "saturating_rounding_doubling_high_mul",
    "softmax",
    "wrap_int32",
]
