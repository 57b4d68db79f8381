"""``zeropoint boards``, ``build`` and ``program``, and ``run`` on a virtual board of a name."""

import hashlib
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from support import real_models
from support.board import inputs, small_network
from support.command_line import process, zeropoint_command
from support.engines import need
from support.fpga import need_tools
from support.real_models import needs_models

from zeropoint import importers
from zeropoint.compiler import storage
from zeropoint.compiler.flash_image import flash_image
from zeropoint.compiler.options import load_config
from zeropoint.model import zp_file
from zeropoint_boards import build as building
from zeropoint_boards import record
from zeropoint_boards.boards import BOARDS

#: As little as there is to synthesize.
TINY = ("--lanes", 1, "--columns", 1)


@pytest.fixture
def model(tmp_path):
    """Return the file of a small network."""
    network, _ = small_network()
    zp_file.save(network, tmp_path / "model.zp")
    np.save(tmp_path / "x.npy", inputs(network, 3))
    return tmp_path / "model.zp"


@pytest.fixture
def project(model):
    """Return what ``build --no-run`` makes of it."""
    folder = model.parent / "project"
    zeropoint_command("build", model, "--board", "ulx3s_85f", *TINY, "--no-run", "-o", folder).done()
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_boards_are_listed(model, tmp_path):
    outcome = zeropoint_command("boards", model, "--json", tmp_path / "boards.json").done()
    rows = {row["board"]: row for row in json.loads((tmp_path / "boards.json").read_text())}
    assert list(rows) == list(BOARDS)
    assert all(name in outcome.stdout for name in BOARDS)
    assert rows["ulx3s_85f"] | {"models": {}, "weights_in_flash": {}} == {
        "board": "ulx3s_85f",
        "title": "Radiona ULX3S 85F",
        "device": "LFE5U-85F",
        "lut": 83640,
        "dsp": 156,
        "block_ram": 208,
        "block_ram_bits": 208 * 18 * 1024,
        "array": "8×8",
        "largest_array": "16×8",
        "oscillator_mhz": 25.0,
        "clock_mhz": 80.0,
        "bitstream": True,
        "note": "",
        "models": {},
        "weights_in_flash": {},
    }
    assert rows["ulx3s_85f"]["models"] == {"model": None}
    assert rows["ulx3s_85f"]["weights_in_flash"] == {"model": False}
    assert not rows["arty_a7"]["bitstream"]
    assert "arty_a7: the vendor's tools make the bitstream" in outcome.stdout


def test_a_project_for_a_vendors_tools(model, tmp_path):
    zeropoint_command("build", model, "--board", "arty_a7", *TINY, "--no-run", "-o", tmp_path / "out").done()
    files = contents(tmp_path / "out")
    assert b"module top" in files["project/top.v"]
    assert b"create_clock" in files["project/top.xdc"]
    assert b"top.v" in files["project/top.tcl"]
    assert record.load(tmp_path / "out").bitstream is None
    assert storage.load(tmp_path / "out").config.lanes == 1


FLASH = ("--weight-source", "flash", "--weight-store", "shared", "--activation-ports", 1)


@pytest.fixture
def flash_project(model):
    """Return what ``build --no-run`` makes of it for a board whose flash holds the weights."""
    folder = model.parent / "flash"
    zeropoint_command("build", model, "--board", "icebreaker", *TINY, *FLASH, "--no-run", "-o", folder).done()
    return folder


def test_weights_in_flash_are_a_file_of_their_own(flash_project, model, tmp_path):
    files = contents(flash_project)
    assert files["flash.bin"] == flash_image(storage.load(flash_project))
    for pin, site in (("cipo", 17), ("cs", 16), ("clk", 15), ("copi", 14)):
        assert f"set_io spi_flash_1x_0__{pin}__io {site}".encode() in files["project/top.pcf"]
    arguments = ("build", model, "--board", "tang_nano_9k", *TINY, *FLASH, "--no-run", "-o", tmp_path / "out")
    assert "tang_nano_9k: its flash cannot hold weights; use another" in zeropoint_command(*arguments).error()


def test_weights_in_an_ecp5s_flash(model, tmp_path):
    in_flash = ("--weight-source", "flash", "--weight-store", "flash")
    for board, names in (("ulx3s_12f", "spi_flash_0"), ("ecpix5", "spi_flash_1x_0")):
        folder = tmp_path / board
        done = zeropoint_command("build", model, "--board", board, *TINY, *in_flash, "--no-run", "-o", folder).done()
        assert '"simulate --program" says how long' in done.stderr
        files = contents(folder)
        for pin in ("cipo", "cs", "copi"):
            assert f'LOCATE COMP "{names}__{pin}__io"'.encode() in files["project/top.lpf"]
        # The clock leaves by way of the block that configures the FPGA, and has no pin.
        assert b"cell \\USRMCLK" in files["project/top.il"]
        assert b"clk__io" not in files["project/top.lpf"]


@pytest.mark.slow
def test_weights_that_stay_in_flash_and_their_price(model, tmp_path):
    need("cxxrtl")
    folder, x, y = tmp_path / "out", model.parent / "x.npy", tmp_path / "y.npy"
    in_flash = ("--weight-source", "flash", "--weight-store", "flash")
    zeropoint_command("build", model, "--board", "ulx3s_12f", *TINY, *in_flash, "--no-run", "-o", folder).done()
    outcome = zeropoint_command("simulate", model, "--program", folder, "--input", x, "--output", y).done()
    assert "3/3 inferences bit-exact" in outcome.stdout
    assert re.search(r"of these, the array waited for weights and activations: [\d,]+ \([\d.]+ %\)", outcome.stdout)
    assert "3/3 inferences bit-exact" in run(folder, "virtual:ulx3s_12f", "--check", model).done().stdout


@pytest.mark.slow
def test_a_virtual_board_takes_its_weights_from_flash(flash_project, model):
    need("cxxrtl")
    outcome = run(flash_project, "virtual:icebreaker", "--check", model).done()
    assert "3/3 inferences bit-exact" in outcome.stdout


def test_the_same_input_gives_the_same_project(model, project, tmp_path):
    again = tmp_path / "again"
    zeropoint_command("build", model, "--board", "ulx3s_85f", *TINY, "--no-run", "-o", again).done()
    assert contents(project) == contents(again)
    every = b"".join(contents(project).values())
    assert os.fsencode(tmp_path) not in every
    assert os.fsencode(Path(building.__file__).parents[2]) not in every


def test_other_networks_are_compiled_for_the_same_accelerator(project, model, tmp_path):
    config = storage.load(project).config
    assert load_config(project / "config.toml") == config
    zeropoint_command("compile", model, "--config", project / "config.toml", "-o", tmp_path / "other").done()
    assert storage.load(tmp_path / "other").config == config


def test_what_is_wrong_is_said_before_anything_is_built(model, tmp_path):
    def error(*options, board="ulx3s_85f"):
        return zeropoint_command("build", model, "--board", board, "-o", tmp_path / "out", *options).error()

    assert "there is no board 'nosuch'; there are icebreaker, " in error(board="nosuch")
    assert "makes no clock of up to 2 MHz" in error("--frequency", 2)
    assert "choose another --baud or --frequency" in error("--baud", 50_000_000)
    assert "--no-run writes a project for them" in error(board="arty_a7")
    assert "lanes must be a power of two" in error("--lanes", 3)
    assert "that would change" in zeropoint_command("build", model, "--board", "ecpix5", "-o", model.parent).error()
    assert not (tmp_path / "out").exists()


def test_the_boards_descriptions_may_be_missing():
    missing = 'import sys; sys.modules["amaranth_boards"] = None'
    assert "run pip install 'zeropoint[build]'" in process("boards", before=missing).error()


def with_bitstream(folder):
    """Let a project look as if its bitstream had been built."""
    document = json.loads((folder / record.BUILD).read_text()) | {"bitstream": "top.bit"}
    document["details"]["bitstream_sha256"] = hashlib.sha256(b"bits").hexdigest()
    (folder / record.BUILD).write_text(json.dumps(document))
    (folder / "top.bit").write_bytes(b"bits")


def loader(folder, status=0):
    """Put a program of openFPGALoader's name into a folder, which writes down what it is told."""
    path = folder / "openFPGALoader"
    path.write_text(f'#!/bin/sh\necho "$@" > "{folder}/told"\nexit {status}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_bitstream_is_put_on_a_board(project, tmp_path, monkeypatch):
    assert "holds no bitstream: it was built with --no-run" in zeropoint_command("program", project).error()
    with_bitstream(project)
    monkeypatch.setenv("PATH", str(tmp_path))
    message = zeropoint_command("program", project).error()
    assert "openFPGALoader is not installed" in message
    assert f"run: openFPGALoader -b ulx3s {project / 'top.bit'}" in message
    loader(tmp_path)
    zeropoint_command("program", project).done()
    assert (tmp_path / "told").read_text().split() == ["-b", "ulx3s", str(project / "top.bit")]
    zeropoint_command("program", project, "--flash").done()
    assert (tmp_path / "told").read_text().split() == ["-b", "ulx3s", "-f", str(project / "top.bit")]
    loader(tmp_path, 3)
    assert "openFPGALoader failed with status 3" in zeropoint_command("program", project).error()
    (project / "top.bit").write_bytes(b"bit")
    assert 'top.bit\' is not what "build" wrote: its SHA-256 differs' in zeropoint_command("program", project).error()
    (project / "top.bit").unlink()
    assert "top.bit' is not there; build the model again" in zeropoint_command("program", project).error()
    assert "cannot read" in zeropoint_command("program", tmp_path / "nosuch").error()


@pytest.fixture
def from_flash(model):
    """Return a function that makes a project whose weights come from flash, with what looks like its bitstream."""

    def make(board):
        folder = model.parent / board
        zeropoint_command("build", model, "--board", board, "--no-run", "-o", folder).done()
        assert storage.load(folder).config.weight_source == "flash"
        assert (folder / "flash.bin").is_file()
        with_bitstream(folder)
        return folder

    return make


def test_weights_go_to_the_flash_first(from_flash, tmp_path, monkeypatch):
    folder = from_flash("icebreaker")
    monkeypatch.setenv("PATH", str(tmp_path))
    told = zeropoint_command("program", folder).error()
    assert f"-b ice40_generic -f -o {1 << 20} {folder / 'flash.bin'} && openFPGALoader -b ice40_generic" in told
    loader(tmp_path)
    zeropoint_command("program", folder).done()
    assert (tmp_path / "told").read_text().split()[-1] == str(folder / "top.bit")
    (folder / "flash.bin").write_bytes((folder / "flash.bin").read_bytes()[:-1])
    assert 'flash.bin\' is not what "build" wrote: its weights differ' in zeropoint_command("program", folder).error()


def test_a_board_that_the_loader_does_not_know(from_flash):
    folder = from_flash("upduino_v3")
    message = zeropoint_command("program", folder).error()
    assert f"iceprog -o {1 << 20} {folder / 'flash.bin'}, and write the bitstream" in message
    assert message.endswith(f"iceprog {folder / 'top.bit'}")


def run(folder, port, *options):
    files = ("--input", folder.parent / "x.npy", "--output", folder.parent / "y.npy")
    return zeropoint_command("run", folder, "--port", port, *files, *options)


def test_a_virtual_board_is_the_one_that_was_built_for(project):
    message = run(project, "virtual:ecpix5").error()
    assert "was built for ulx3s_85f, not for ecpix5" in message
    assert "there is no board 'nosuch'" in run(project, "virtual:nosuch").error()


@pytest.mark.slow
def test_a_virtual_board_computes_what_the_golden_model_does(model, project):
    need("cxxrtl")
    outcome = run(project, "virtual:ulx3s_85f", "--check", model).done()
    assert "3/3 inferences bit-exact" in outcome.stdout


@pytest.mark.slow
@needs_models
@pytest.mark.parametrize(("board", "name"), [("icebreaker", "kws_ref_model"), ("ulx3s_85f", "pretrainedResnet_quant")])
def test_real_networks_on_virtual_boards_give_the_oracles_outputs(board, name, tmp_path):
    need("cxxrtl")
    folder, network = tmp_path / "out", real_models.path(name)
    x = real_models.inputs(name, importers.load(network), 1)
    np.save(tmp_path / "x.npy", x)
    zeropoint_command("build", network, "--board", board, "--no-run", "-o", folder).done()
    outcome = run(folder, f"virtual:{board}", "--check", network).done()
    assert f"{len(x)}/{len(x)} inferences bit-exact" in outcome.stdout
    real_models.assert_oracles(name, x, np.load(tmp_path / "y.npy"))


@pytest.mark.slow
def test_a_bitstream_and_its_bytes(model, tmp_path):
    """A tiny design comes out of the tools, meets its clock, and is the same each time."""
    need_tools()
    arguments = ("build", model, "--board", "ulx3s_12f", *TINY, "--frequency", 50, "--seed", 3)
    outcome = zeropoint_command(*arguments, "-o", tmp_path / "out").done()
    assert "at 50.00 MHz; reaches" in outcome.stdout
    built = record.load(tmp_path / "out")
    assert built.bitstream == "top.bit"
    bits = (tmp_path / "out" / "top.bit").read_bytes()
    # The preamble of ECP5's bitstreams, after a comment that names the part.
    assert b"LFE5U-12F-6CABGA381" in bits[:64]
    assert b"\xff\xff\xbd\xb3" in bits[:128]
    timing = built.details["timing"]
    assert all(clock["achieved_mhz"] >= clock["constraint_mhz"] > 49.9 for clock in timing.values())
    assert built.details["seeds"].keys() == {"3"}
    assert built.details["resources"]["lut"] < 6000

    zeropoint_command(*arguments, "-o", tmp_path / "again").done()
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
