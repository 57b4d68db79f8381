"""Engines that run a compiled program on simulated hardware.

Modules, in the order in which data meets them:

- ``design``: the accelerator that a program runs on.
- ``bus``: what engines that are driven from Python do on it, cycle by cycle.
- ``amaranth_engine``: Amaranth's own simulator.
- ``cxxrtl_build`` and ``cxxrtl_engine``: the design as compiled C++ (with ``cxxrtl_wrapper.cc`` and
  ``cxxrtl_slices.h``), kept in a ``cache``.
- ``verilog_build``, ``verilog_simulation`` and ``verilog_engine``: its Verilog in Verilator or Icarus. ``cocotb_child``
  and ``cocotb_server`` run in processes of their own, the latter in the simulator; ``waveforms`` takes what it records.
- ``virtual_board``: a board's top level behind a pseudo-terminal (with ``cxxrtl_board.cc``), whose line ``line_faults``
  can damage.
- ``simulate``: a program's folder, compared with the golden model.
- ``bench``: benches for component tests, by way of ``verilog_bench`` on Verilog too.
"""
