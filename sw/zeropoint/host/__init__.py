"""The host's side of an accelerator: on a board at the other end of a serial line, or simulated.

``with Device.open(port, program) as device: y = device.run(x)``

Modules, in the order in which data meets them:

- ``transport``: what a driver needs, the accelerator's host bus.
- ``driver``: loads, runs and reads an accelerator over any transport.
- ``host_steps``: what the hardware leaves to the host.
- ``packages``: what the extra ``host`` installs.
- ``frames``: requests and answers as bytes of a line.
- ``files``: array files of a program's inputs and outputs.
- ``line``: a serial port.
- ``session``: requests in order, each done once, over a line that loses and damages bytes.
- ``link_transport``: the host bus by requests.
- ``device``: a board and the program on it.
- ``c``: a driver in C99 for microcontrollers.
"""

from zeropoint.host.device import Device, Report
from zeropoint.host.session import Identity

__all__ = ["Device", "Identity", "Report"]
