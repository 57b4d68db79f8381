"""A bench for the banks of the activation memory that have one port."""

import random
from itertools import product
from typing import Any

from zeropoint_sim.bench import run_bench

#: Bits of a word, and words, of banks; and of how many SPRAMs synthesis for iCE40 UltraPlus makes them.
BANKS = {(16, 300): 1, (8, 1 << 15): 1, (8, 40000): 2, (16, 40000): 3}


def check_bank(dut: Any, width: int, depth: int) -> None:
    """Read or write a bank at another address in every cycle; what is read is what was written there last.

    The addresses are few, and alike in their lower bits, so that each has neighbours in all SPRAMs and parts of words.
    """
    rng = random.Random(depth)
    places = [0, 1, 77, 255, 256, 5000, 7231, (1 << 13) - 1]
    addresses = [high + place for high, place in product(range(0, depth, 1 << 13), places) if high + place < depth]
    written: dict[int, int] = {}
    checked = 0

    async def bench(ctx: Any) -> None:
        nonlocal checked
        expected = before = None
        for _ in range(30 * len(addresses)):
            address, elsewhere = rng.sample([each for each in addresses if each != before], 2)
            write, data, before = rng.random() < 0.4, rng.getrandbits(width), address
            ctx.set(dut.read_address, elsewhere if write else address)
            ctx.set(dut.write_address, address if write else elsewhere)
            ctx.set(dut.write_data, data)
            ctx.set(dut.write_enable, write)
            _, _, got = await ctx.tick().sample(dut.read_data)
            if expected is not None:
                assert got == expected[1], f"word {expected[0]} is {got:#x} instead of {expected[1]:#x}"
                checked += 1
            expected = None if write or address not in written else (address, written[address])
            if write:
                written[address] = data

    run_bench(dut, bench, deadline=40 * len(addresses))
    assert len(written) == len(addresses)
    assert checked > 10 * len(addresses)
