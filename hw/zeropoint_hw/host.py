"""The host bus: how a link, a processor or a simulator loads, starts and reads the accelerator."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.isa import ADDRESS_WIDTH


class HostBusSignature(wiring.Signature):
    """A word-wide bus without wait states, seen from the host's side.

    A cycle with ``write`` or ``read`` asserted is one access to ``address`` (see :class:`zeropoint_hw.isa.Region`);
    both may be asserted in every cycle, but not together. Each read is answered once, in order, by a cycle with
    ``read_valid`` and the data, a fixed number of cycles later. While a program runs, only the control region may be
    accessed.

    Members
    -------
    address : Out(24)
        Region and offset.
    write : Out(1)
        Writes ``write_data``.
    write_data : Out(32)
        Data to write.
    read : Out(1)
        Reads.
    read_valid : In(1)
        ``read_data`` answers the oldest read that is not answered yet.
    read_data : In(32)
        Data read.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "address": Out(ADDRESS_WIDTH),
                "write": Out(1),
                "write_data": Out(32),
                "read": Out(1),
                "read_valid": In(1),
                "read_data": In(32),
            }
        )
