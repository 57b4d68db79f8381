import pytest

from zeropoint_boards.devices import DEVICES, ECP5, ICE40_UP, Resources


def test_cells_count_as_resources():
    cells = {"LUT4": 5, "CCU2C": 3, "TRELLIS_FF": 7, "DP16KD": 2, "PFUMX": 9, "$scopeinfo": 4, "TRELLIS_DPR16X4": 6}
    assert Resources.of(cells, ECP5.cells) == Resources(lut=11, ff=7, dsp=0, block_ram=2, distributed_ram=6)
    assert Resources.of({}, ECP5.cells) == Resources()


def test_cells_of_ice40_count_as_resources():
    flip_flops = {"SB_DFF": 1, "SB_DFFE": 2, "SB_DFFSR": 4, "SB_DFFNESS": 8, "SB_DFFNR": 16}
    cells = {"SB_LUT4": 5, "SB_CARRY": 9, "SB_MAC16": 3, "SB_RAM40_4KNRNW": 2, "SB_RAM40_4K": 1, **flip_flops}
    assert Resources.of(cells, ICE40_UP.cells) == Resources(lut=5, ff=31, dsp=3, block_ram=3)


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (Resources(lut=83640, ff=83640, dsp=156, block_ram=208, distributed_ram=10455), []),
        (Resources(dsp=157), ["157 of 156 dsp"]),
        (Resources(lut=83641, block_ram=300), ["83641 of 83640 lut", "300 of 208 block_ram"]),
    ],
)
def test_what_exceeds_a_device_is_named(taken, said):
    assert taken.exceeding(DEVICES["LFE5U-85F"].capacity) == said
