"""The C driver: compiled without a warning, and run against the virtual board."""

import re
import shutil
import subprocess
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from support.board import inputs, small_network, virtual_board

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.c_header import c_header
from zeropoint.compiler.program import Program, program_hash
from zeropoint.host import Device
from zeropoint_hw import protocol
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import REGION_SHIFT, Region
from zeropoint_sim.line_faults import Faults

SOURCES = resources.files("zeropoint.host").joinpath("c")
STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror"]


#: Of the header, that the host wants.
ARRAYS = ("program", "parameters", "weights", "hash", "configuration")


def compiler():
    found = shutil.which("cc")
    if found is None:
        pytest.skip("there is no C compiler")
    return found


def build(folder: Path, program: Program | None = None) -> Path:
    """Return the host program for a program, that of the small network by default."""
    cc = compiler()
    program = program or small_network()[1]
    header = c_header(program)
    prefix = re.search(r"#define (\w+)_HOST_BYTES", header)[1]
    (folder / "program.h").write_text(header)
    arrays = [f"-DARRAY_{name.upper()}={prefix.lower()}_{name}" for name in ARRAYS]
    source = Path(__file__).parents[2] / "support" / "c_host.c"
    command = [cc, *STRICT, f'-DPROGRAM_HEADER="{folder}/program.h"', f"-DPROGRAM_NAME(x)={prefix}_##x", *arrays]
    command += [f"-I{SOURCES}", str(source), str(SOURCES.joinpath("zeropoint_link.c")), "-o", str(folder / "host")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "host"


def run(host: Path, port: str, x, timeout: int = 200):
    """Return the outputs for ``x``, and what the host printed, as numbers."""
    model, program = small_network()
    folder = host.parent
    data = b"".join(program.input.to_memory(values).tobytes() for values in x)
    (folder / "x.bin").write_bytes(data)
    command = [host, port, folder / "x.bin", folder / "y.bin", str(timeout)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    y = np.fromfile(folder / "y.bin", np.uint8).reshape(len(x), program.output.size)
    expected = golden.run_tensors(model, x)[program.output.tensor]
    got = np.stack([program.output.from_memory(row) for row in y])
    return got, expected.reshape(got.shape), [int(number) for number in done.stdout.split()]


def test_it_computes_what_the_golden_model_does(tmp_path):
    host = build(tmp_path)
    model, program = small_network()
    x = inputs(model, 5)
    with virtual_board() as board:
        got, expected, (version, loaded, cycles, repeated, damaged) = run(host, board.port, x, timeout=2000)
        np.testing.assert_array_equal(got, expected)
        assert (version, loaded, repeated, damaged) == (protocol.VERSION, 0, 0, 0)
        # The Python driver finds the program that the C driver has loaded, and needs as many cycles.
        with Device.open(board.port) as device:
            assert device.identity.program == program_hash(program)
            device.load(program)
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))
            assert device.report.cycles[-1] == cycles
        # And so does the C driver.
        got, expected, (_, loaded, *_) = run(host, board.port, x[:1], timeout=2000)
        np.testing.assert_array_equal(got, expected)
        assert loaded == 1


def test_it_makes_up_for_a_bad_line(tmp_path):
    faults = Faults(seed=4, lose=3e-4, damage=3e-4, double=3e-4, garbage=3e-4, lose_frame=0.01, double_frame=0.02)
    host = build(tmp_path)
    with virtual_board(faults=faults) as board:
        got, expected, numbers = run(host, board.port, inputs(small_network()[0], 15), timeout=120)
        np.testing.assert_array_equal(got, expected)
        assert numbers[3] > 0
        assert (board.to_board.counts + board.from_board.counts)["damage"] > 0


def test_a_reset_is_an_error_and_no_result(tmp_path):
    host = build(tmp_path)
    _, program = small_network()
    x = tmp_path / "x.bin"
    x.write_bytes(bytes(5000 * program.input.size))
    with virtual_board() as board:
        arguments = [board.port, x, tmp_path / "y.bin", "200"]
        with subprocess.Popen(
            [host, *arguments], stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
        ) as child:
            # Loading is over by then.
            while board.cycles < 600_000 and child.poll() is None:
                time.sleep(0.01)
            board.reset()
            _, said = child.communicate(timeout=60)
        assert child.returncode == 1
        assert said in ("input: status 1\n", "run: status 1\n", "output: status 1\n")


def test_a_device_that_does_not_answer_is_an_error(tmp_path):
    host = build(tmp_path)
    with virtual_board(line_error=0.4) as board:
        arguments = [board.port, host, tmp_path / "y.bin", "10"]
        done = subprocess.run([host, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, "open: status 16\n")


def test_a_program_for_another_configuration_is_refused(tmp_path):
    """And a header whose weight words are as narrow as a C type is taken as any other."""
    model, program = small_network()
    narrow = AcceleratorConfig(
        **(program.config.to_dict() | {"lanes": 2, "columns": 2, "requantizers": 1, "window_taps": 2})
    )
    host = build(tmp_path, compile_model(model, narrow))
    with virtual_board() as board:
        arguments = [board.port, host, tmp_path / "y.bin", "2000"]
        done = subprocess.run([host, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, "open: status 20\n")


def test_its_numbers_are_those_of_the_protocol():
    header, source = (SOURCES.joinpath(f"zeropoint_link.{end}").read_text() for end in "hc")
    assert f"#define ZP_MAX_DATA {protocol.MAX_DATA}\n" in header
    assert f"#define ZP_HASH_BYTES {protocol.HASH_BYTES}\n" in header
    for name, value in re.findall(r"ZP_(CLOSED|SEQUENCE|REQUEST|ADDRESS|PROGRAM) = (\d+),", header):
        assert protocol.Status[name] == int(value)
    (codes,) = re.findall(r"enum \{ (IDENTIFY.*?) \};", source)
    for code in codes.split(", "):
        name, value = code.split(" = ")
        assert protocol.Request[name] == int(value)
    for name, value in re.findall(r"#define (\w+)_REGION (0x\w+)u", source):
        (region,) = (each for each in Region if each.name.startswith(name))
        assert int(value, 16) == region << REGION_SHIFT
    assert f"VERSION = {protocol.VERSION} }}" in source
