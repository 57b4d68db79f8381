"""Engines that run a compiled program on simulated hardware.

Modules, in the order in which data meets them:

- ``design``: the accelerator that a program runs on.
- ``amaranth_engine``: Amaranth's own simulator.
- ``cxxrtl_build`` and ``cxxrtl_engine``: the design as compiled C++ (with ``cxxrtl_wrapper.cc`` and
  ``cxxrtl_slices.h``), kept in a cache.
- ``simulate``: a program's folder, compared with the golden model.
- ``bench``: benches for component tests.
"""
