"""Quantized networks for other tools.

Modules, none of which is imported before it is needed:

- ``onnx_qdq``: an ONNX file of float operators between DequantizeLinear and QuantizeLinear. Its parts are
  ``onnx_writer`` (nodes, constants, layouts) and ``onnx_operators`` (what each operator becomes).
- ``onnx_runtime``: how far ONNX Runtime's results on that file are from the golden model's.
"""
