"""The golden model: what every tensor of a quantized model must be, bit for bit.

``docs/numerics.md`` defines the arithmetic; the tests hold this package against the pinned interpreter.

Modules, in the order in which data meets them:

- ``matmul``: exact integer products in floating point, and the windows of a convolution.
- ``output``: bias, requantization and clamp of the accumulators.
- ``tables``, ``movement``, ``kernels``: one function per operator.
- ``inference``: a model over a batch.
"""

from zeropoint.golden.inference import run, run_tensors

__all__ = ["run", "run_tensors"]
