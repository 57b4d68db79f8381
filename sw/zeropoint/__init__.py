"""Zeropoint: from a trained network to a bit-exact integer accelerator.

Subpackages, in the order in which data meets them:

- ``importers``: files of other tools into a :class:`~zeropoint.model.FloatModel` or ``QuantizedModel``.
- ``quantize``: calibration and post-training quantization of a float model.
- ``model``: tensors, operators and models, their verification, and the ``.zp`` file.
- ``numerics``: the normative fixed-point arithmetic.
- ``golden``: the golden model, which says what every tensor must be, bit for bit.
- ``compiler``: layer program, memory map and weight images for an accelerator configuration.
- ``cli``: the command line.
"""

__version__ = "0.1.0"
