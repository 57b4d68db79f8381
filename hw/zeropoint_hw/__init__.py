"""The accelerator's gateware, its configuration and its layer program.

Modules, in the order in which data meets them:

- ``config``: the accelerator's configuration (imports no Amaranth).
- ``isa``: the layer program's instruction and the host's address map (imports no Amaranth).
- ``loops``: the sequencer's loop nest and the address generators behind it.
- ``memory``: activation memory with reads and writes at any byte address; weight, parameter and program memories.
- ``multiplier``: a multiplier in a DSP block with its registers; ``lut_multiplier``: one of adders; ``barrel``:
  products with powers of two; ``float_product``: those of minifloats.
- ``pe``: the processing elements made of them.
- ``history``: earlier activations of a row, for depthwise convolution.
- ``array``: lanes × columns processing elements, an ``adder_tree`` and an accumulator a column.
- ``drain``: an output's accumulators, ``requantizers`` at a time.
- ``shift``: a right shift and what rounds it.
- ``pair_scaler``: the two operands of ADD, SUB and MUL.
- ``requantizer``: accumulator to activation; ``shift_requantizer`` and ``minifloat_requantizer`` are lanes without
  multipliers.
- ``tables``: functions of a byte, looked up in what the requantizers give.
- ``pooler``: max pooling of outputs before they are written.
- ``writer``: requantized beats to addresses in activation memory.
- ``sequencer``: fetches instructions and paces the pipeline.
- ``counters``: what the host reads of cycles.
- ``accelerator``: all of it, behind the host bus.
- ``protocol``: what host and device say to each other over a serial line (imports no Amaranth).
- ``uart``, ``framing``: bytes and frames of that line.
- ``link``: carries out what the host asks for, on the host bus.
- ``linked``: accelerator and link, a board's top level.
- ``verilog``: components as Verilog.
"""
