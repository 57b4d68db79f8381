"""Weights that the accelerator copies from a SPI flash: they are whole, or nothing runs."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from support.files import random_input
from support.random_models import ModelBuilder

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.flash_image import MAGIC, flash_image, write_flash_image
from zeropoint.errors import ZeropointError
from zeropoint.host.driver import Driver
from zeropoint_hw import flash_copier
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Command, Region, Register, address
from zeropoint_hw.spi_flash import FlashReader
from zeropoint_sim import design
from zeropoint_sim.amaranth_engine import AmaranthEngine
from zeropoint_sim.simulate import simulate

CONFIG = AcceleratorConfig(
    lanes=2,
    columns=2,
    tables=0,
    activation_bytes=256,
    weight_bytes=256,
    parameter_channels=32,
    program_words=128,
    weight_source="flash",
    weight_store="shared",
    weight_buffer=8,
    activation_ports=1,
)


@pytest.fixture(autouse=True)
def quick_flash(monkeypatch):
    """Wake the flash up in fewer cycles than a slow one takes."""
    monkeypatch.setattr(FlashReader, "WAKE_CYCLES", 64)
    monkeypatch.setattr(design.FlashModel, "WAKE_CYCLES", 50)


def compiled(seed=0, config=CONFIG):
    builder = ModelBuilder(np.random.default_rng(seed))
    current = builder.conv(builder.input(2, 2, 3), 3, (2, 1))
    model = builder.build(builder.fully_connected(builder.mean(current), 5))
    return model, compile_model(model, config)


def test_the_image_is_what_the_copier_takes():
    _, program = compiled()
    image = flash_image(program)
    assert image[:4] == MAGIC == flash_copier.MAGIC
    size = int.from_bytes(image[4:8], "little")
    assert len(image) == flash_copier.HEADER_BYTES + size + 4
    assert size == program.weight_bytes == program.weights.size
    assert image[8:-4] == program.weights.tobytes()
    assert int.from_bytes(image[-4:], "little") == zlib.crc32(image[:-4])


def test_words_that_do_not_fill_their_rows_are_filled_up(tmp_path):
    # 7 · 2 · 2 bits take two rows of 16.
    _, program = compiled(config=replace(CONFIG, columns=4, weight_bits=8))
    assert program.config.stored_bits == 64
    write_flash_image(program, tmp_path / "flash.bin")
    assert (tmp_path / "flash.bin").read_bytes() == flash_image(program)


STREAMED = replace(CONFIG, weight_store="flash", activation_ports=2)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(CONFIG, id="copied"),
        pytest.param(STREAMED, id="streamed"),
        pytest.param(
            replace(STREAMED, weight_buffer=2, activation_ports=1), id="through-two-words", marks=pytest.mark.slow
        ),
    ],
)
def test_networks_run_on_weights_from_flash(config):
    model, program = compiled(config=config)
    x = random_input(model, 2)
    tensors = golden.run_tensors(model, x)
    result = simulate(program, x, tensors[model.output], engine="amaranth", golden_tensors=tensors)
    assert (result.mismatches, result.exact) == (0, 2)
    assert result.stalls["memory"] > 0
    assert sum(result.stalls.values()) == result.cycles[-1]
    if config.weight_store == "flash":
        # A bit in two cycles, and every word at least once.
        assert result.stalls["memory"] > 16 * program.weight_bytes


def opened(program, image):
    """Return a driver of an accelerator whose flash holds an image, and the transport."""
    built = Accelerator(program.config, design.rom(program))
    transport = AmaranthEngine(design.WithFlash(built, image, program.config.flash_offset))
    return transport, lambda: Driver(transport, program)


@pytest.mark.parametrize(
    ("place", "config"),
    [
        *[(place, CONFIG) for place in (8, -1)],
        *[pytest.param(place, CONFIG, marks=pytest.mark.slow) for place in (0, 4, -5)],
        pytest.param(20, STREAMED, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_image_is_refused_and_nothing_runs(place, config):
    _, program = compiled(config=config)
    image = bytearray(flash_image(program))
    image[place] ^= 0x10
    transport, driver = opened(program, bytes(image))
    with pytest.raises(ZeropointError, match=r"has found no whole weights in its flash from byte 0x100000 on"):
        driver()
    status = address(Region.CONTROL, Register.STATUS)
    transport.write(status, np.array([Command.RUN], np.uint32))
    assert transport.read(status, 3, stride=0).tolist() == [2, 2, 2]
    assert transport.read(address(Region.CONTROL, Register.CYCLES), 1).tolist() == [0]
    transport.close()


@pytest.mark.parametrize("place", [0, 3])
def test_an_image_of_another_kind_is_refused(place):
    """Its CRC is right, but not what it begins with."""
    _, program = compiled()
    image = bytearray(flash_image(program)[:-4])
    image[place] ^= 1
    transport, driver = opened(program, bytes(image) + zlib.crc32(image).to_bytes(4, "little"))
    with pytest.raises(ZeropointError, match="has found no whole weights"):
        driver()
    transport.close()


def test_an_empty_flash_and_another_networks_weights_are_refused():
    _, program = compiled()
    transport, driver = opened(program, bytes([0xFF] * 64))
    with pytest.raises(ZeropointError, match="has found no whole weights"):
        driver()
    transport.close()
    _, other = compiled(seed=1)
    assert flash_image(other) != flash_image(program)
    transport, driver = opened(program, flash_image(other))
    with pytest.raises(ZeropointError, match="the accelerator has weights with a CRC of"):
        driver()
    transport.close()
