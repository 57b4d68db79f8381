"""A serial port as a line: bytes out, bytes in, and nothing about what they mean."""

from typing import Any, Protocol

from zeropoint.errors import ZeropointError
from zeropoint.host.packages import need

#: Seconds after which a read returns with nothing, and a write that does not go on is given up.
_READ_SECONDS = 0.01
_WRITE_SECONDS = 5.0


class Line(Protocol):
    """Bytes to and from a device; on their way any may be lost, damaged or repeated, but none overtakes another."""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def receive(self) -> bytes:
        """Return the bytes that are there; wait a little, if there are none."""
        ...

    def close(self) -> None:
        """Give the line back. May be repeated."""
        ...


class SerialLine:
    """A :class:`Line` by pyserial.

    Parameters
    ----------
    port
        ``/dev/ttyUSB1``, ``COM3``, or a URL that pyserial knows.
    baud
        Bits a second.

    Raises
    ------
    ZeropointError
        Here and later, if there is no such port, it is in use, or goes away.
    """

    def __init__(self, port: str, baud: int) -> None:
        serial = need("serial")
        self._port = port
        self._error: Any = serial.SerialException
        try:
            self._serial: Any = serial.serial_for_url(
                port, baudrate=baud, timeout=_READ_SECONDS, write_timeout=_WRITE_SECONDS, exclusive=True
            )
            self._serial.reset_input_buffer()
        except (serial.SerialException, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ZeropointError(
                f"cannot open the port '{port}' at {baud} baud: {reason}; is the board connected, and nobody else's?"
            ) from None

    def send(self, data: bytes) -> None:  # noqa: D102
        try:
            self._serial.write(data)
        except (self._error, OSError) as error:
            raise self._gone(error) from None

    def receive(self) -> bytes:  # noqa: D102
        try:
            return bytes(self._serial.read(max(1, self._serial.in_waiting)))
        except (self._error, OSError) as error:
            raise self._gone(error) from None

    def close(self) -> None:  # noqa: D102
        self._serial.close()

    def _gone(self, error: Exception) -> ZeropointError:
        return ZeropointError(f"the port '{self._port}' failed: {error}; connect the board again")
