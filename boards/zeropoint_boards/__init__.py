"""From a design to an FPGA, in the order in which data meets the modules.

``devices``
    The FPGAs, what they hold, and what the tools call them.
``synthesis``
    A design as a netlist of a device's cells, and the resources that it takes.
``place``
    A netlist placed and routed, and the clock that it reaches.
"""
