"""From a design to an FPGA, in the order in which data meets the modules.

``plls``
    Which dividers of a PLL make which clock.
``devices``
    The FPGAs, what they hold, and what the tools call them.
``board``, ``boards``
    What there is to know of a board, and the boards that there are.
``fit``
    Whether an accelerator's memories and multipliers are on a board.
``clocks``, ``top``
    A board's clock and reset; an accelerator with its link between a board's pins.
``synthesis``
    A design as a netlist of a device's cells, and the resources that it takes.
``place``
    A netlist placed and routed, and the clock that it reaches.
``build``, ``record``
    From a board's top level to its bitstream; and what is written about that.
"""
