"""Waveforms of a part of a simulation, taken from the stream that a simulator writes."""

import os
import select
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from zeropoint.errors import ZeropointError


class Recorder:
    """Copies a VCD from a named pipe to a file: what happens between :meth:`begin` and :meth:`end`, and no date.

    What a simulator writes between requests has happened before them, so the limits may be set while it runs.

    Parameters
    ----------
    pipe
        The named pipe, which is made here; the simulator is to be given its name.
    path
        The file.

    Raises
    ------
    ZeropointError
        Here and in :meth:`close`, if the file cannot be written.
    """

    def __init__(self, pipe: Path, path: Path) -> None:
        self._path, self._pipe = path, pipe
        self._begin: int | None = None
        self._end: int | None = None
        self._error: OSError | None = None
        os.mkfifo(pipe)
        # Open from now on: a simulator may refuse to write where nobody reads.
        self._reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            os.close(self._reader)
            raise self._failed(error) from error
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def begin(self, time: int) -> None:
        """Record what happens after a moment, in the units of the VCD, beginning with the values at that moment."""
        if self._begin is None:
            self._begin = time

    def end(self, time: int) -> None:
        """Record nothing that happens after a moment."""
        if self._begin is not None and self._end is None:
            self._end = time

    def close(self) -> None:
        """Finish the file, after the simulator has ended."""
        if not self._thread.is_alive() and self._file.closed:
            return
        # A simulator that never began to write has not told the reader that it ended either.
        with suppress(OSError):
            os.close(os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK))
        self._thread.join()
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        if self._error is not None:
            raise self._failed(self._error) from self._error

    def _failed(self, error: OSError) -> ZeropointError:
        return ZeropointError(f"cannot write the waveform file '{self._path}': {error.strerror or error}")

    def _copy(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.poll()
        os.set_blocking(self._reader, True)
        with open(self._reader, "rb", buffering=1 << 20) as source:
            lines = self._chosen(source)
            try:
                self._file.writelines(lines)
            except OSError as error:
                self._error = error
            # The simulator waits for a reader, whatever becomes of what it writes.
            for _ in source:
                pass

    def _chosen(self, source: BinaryIO) -> Iterator[bytes]:
        yield from _without_dates(_header(source))
        # What each signal holds when recording begins, by the line that says so, which ends in its identifier.
        held: dict[bytes, bytes] = {}
        recording = False
        for line in source:
            if line.startswith(b"#"):
                time = int(line[1:])
                if self._end is not None and time > self._end:
                    return
                if not recording and self._begin is not None and time > self._begin:
                    recording = True
                    yield b"#%d\n$dumpvars\n" % self._begin
                    yield from held.values()
                    yield b"$end\n"
                if recording:
                    yield line
            elif recording:
                yield line
            elif not line.startswith(b"$") and line.strip():
                # A vector's value ends with a space, a bit's is one character.
                value = line.strip()
                held[value.rpartition(b" ")[2] if value[:1] in b"bBrR" else value[1:]] = line


def _header(source: BinaryIO) -> Iterator[bytes]:
    for line in source:
        yield line
        if b"$enddefinitions" in line:
            return


def _without_dates(lines: Iterable[bytes]) -> Iterator[bytes]:
    dated = False
    for line in lines:
        dated = dated or line.startswith(b"$date")
        if not dated:
            yield line
        elif b"$end" in line:
            dated = False
