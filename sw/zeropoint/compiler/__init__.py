"""From a quantized model to a layer program, a memory map and weight images.

Modules, in the order in which data meets them:

- ``options``: the accelerator's configuration from a file and from options.
- ``compile``: who computes what, where tensors lie, and the program as a whole.
- ``allocate``: activation memory by liveness.
- ``normalize``: rewrites that suit the array better.
- ``plan``: which operators share a pass, and how rows lie in memory.
- ``lower``: each operator's loop nests, by way of ``weighted``, ``channelwise``, ``movement``, ``copies``
  and ``emit``.
- ``pack``: weights in the order in which the array consumes them.
- ``capacity``: whether all that fits the memories.
- ``program``: the result, and ``images``: its memories' contents in many formats.
- ``verify_program``: a program that addresses nothing outside its memories.
- ``disassemble``: a program as text, and ``c_header``: as C.
- ``trim``: the smallest accelerator that runs a network.
- ``loading``: what a host writes to load a program, and ``datasheet``: what a user of the Verilog has to know.
- ``storage``: a program as a folder, whose ``manifest`` is read without trust.
"""

from zeropoint.compiler.compile import Partition, compile_model, partition

__all__ = ["Partition", "compile_model", "partition"]
