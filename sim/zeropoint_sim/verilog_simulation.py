"""A running Verilog simulator, with a cocotb test in it that does what is asked for: see ``cocotb_server``."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from zeropoint.errors import ZeropointError
from zeropoint_sim.verilog_build import TOP, Built, child
from zeropoint_sim.waveforms import Recorder

#: Seconds that a simulator may take to start.
_START_LIMIT = 120.0

#: Seconds that a simulator may take to end, with waveforms to write.
_END_LIMIT = 60

#: Nanoseconds of a clock cycle, as in ``cocotb_server``.
PERIOD = 1000

#: Lines of a failed simulator's output that its error quotes, where the design itself has not ended it.
_QUOTED = 5

#: What simulators say where the design does.
_FATAL = re.compile(r"^FATAL:|%Fatal:")


class VerilogSimulation:
    """A simulator's process.

    Parameters
    ----------
    built
        What to run.
    inputs
        The names of the input ports, without clock and reset; they start as 0.
    trace
        A VCD file to write.

    Raises
    ------
    ZeropointError
        Here and later, if the simulator fails, or the VCD file cannot be written.
    """

    def __init__(self, built: Built, inputs: Sequence[str], trace: Path | None = None) -> None:
        self.cycles = 0
        self._engine = built.toolchain.simulator
        self._folder = tempfile.TemporaryDirectory(prefix="zeropoint-")
        folder = Path(self._folder.name)
        self._recorder: Recorder | None = None
        self._child: subprocess.Popen[bytes] | None = None
        #: Seconds that it may take to end by itself.
        self._patience = 0
        self._socket: socket.socket | None = None
        self._log = folder / "log"
        try:
            built.unpack(folder)
            arguments: dict[str, Any] = {}
            if trace is not None:
                pipe = folder / "trace.vcd"
                self._recorder = Recorder(pipe, trace)
                if self._engine == "verilator":
                    arguments["test_args"] = ["--trace-file", str(pipe)]
                else:
                    arguments["plusargs"] = [f"+dumpfile_path={pipe}"]
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(folder / "socket"))
                listener.listen(1)
                environment = {"ZEROPOINT_SOCKET": str(folder / "socket"), "ZEROPOINT_INPUTS": json.dumps([*inputs])}
                self._start(built, environment, arguments)
                self._socket = self._accept(listener)
                self._patience = _END_LIMIT
            self._stream: Any = self._socket.makefile("rwb")
        except BaseException:
            self._end()
            raise

    def _start(self, built: Built, environment: dict[str, str], arguments: dict[str, Any]) -> None:
        folder = self._folder.name
        command = child(
            "test",
            built.toolchain,
            environment,
            test_module="zeropoint_sim.cocotb_server",
            hdl_toplevel=TOP,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            test_dir=folder,
            results_xml=str(Path(folder, "results.xml")),
            waves=built.trace,
            **arguments,
        )
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    def _accept(self, listener: socket.socket) -> socket.socket:
        assert self._child is not None
        listener.settimeout(0.2)
        waited = 0.0
        while waited < _START_LIMIT and self._child.poll() is None:
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(None)
                return connection
            waited += 0.2
        raise self._failed("did not start")

    def request(self, do: str, **arguments: Any) -> Any:
        """Return what the simulator answers to a request.

        Raises
        ------
        RuntimeError
            If the simulation has ended.
        ZeropointError
            If the simulator has ended unexpectedly.
        """
        if self._socket is None:
            raise RuntimeError("the simulation has ended")
        line = b""
        # Whoever interrupts a request does not wait for its end.
        self._patience = 0
        with suppress(OSError):
            self._stream.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._stream.flush()
            line = self._stream.readline()
        self._patience = _END_LIMIT
        if not line:
            error = self._failed("ended unexpectedly")
            self._end()
            raise error
        answer = json.loads(line)
        self.cycles = answer["cycles"]
        return answer["values"]

    def trace(self, on: bool) -> None:
        """Begin or end the recording of waveforms."""
        if self._recorder is not None:
            (self._recorder.begin if on else self._recorder.end)(self.cycles * PERIOD)

    def close(self) -> None:
        """End the simulation; the waveform file is complete after this. May be repeated."""
        self._end()

    def __del__(self) -> None:
        # Whoever abandons a simulation shall not have its processes left.
        with suppress(Exception):
            self._end()

    def _failed(self, what: str) -> ZeropointError:
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=5)
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.is_file() else []
        said = [line for line in lines if _FATAL.search(line)] or lines[-_QUOTED:]
        return ZeropointError(f"engine {self._engine}: the simulator {what}: {' | '.join(said)}")

    def _end(self) -> None:
        connection, self._socket = getattr(self, "_socket", None), None
        if connection is not None:
            with suppress(OSError):
                self._stream.close()
            connection.close()
        process, self._child = getattr(self, "_child", None), None
        if process is not None:
            try:
                # It ends by itself when nobody asks any more.
                process.wait(timeout=self._patience)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        recorder, self._recorder = getattr(self, "_recorder", None), None
        try:
            if recorder is not None:
                recorder.close()
        finally:
            if folder := getattr(self, "_folder", None):
                folder.cleanup()
