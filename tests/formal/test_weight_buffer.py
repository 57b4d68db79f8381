"""Whom the weight buffer keeps waiting gets a word: nothing in it waits for what only the array could do."""

import pytest
from amaranth import Mux, Signal
from support.formal import needs_solver
from support.sources import broken, named

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.weight_buffer import FlashStore, SharedStore, WeightWindow
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

FOUR = AcceleratorConfig(lanes=4, columns=4, weight_store="shared", activation_ports=1, weight_buffer=8)
THREE = AcceleratorConfig(lanes=4, columns=4, pe="shift", weight_store="shared", activation_ports=1, weight_buffer=8)
FLASH = AcceleratorConfig(
    lanes=4, columns=1, pe="shift", weight_store="flash", weight_source="flash", flash_offset=0, weight_buffer=8
)
#: Words of four rows of memory, of three that take the place of four, and of three bytes; how many cycles an array
#: waits, at most, before the store takes whatever it can get.
STORES = {"4 rows": (FOUR, 5), "3 rows": (THREE, 5), "3 bytes": (FLASH, 9)}


def feeding(words, window_class=WeightWindow, store_class=None, sooner=0):
    """Return claims about a window and its store while an array waits for its next word."""
    config, cycles = STORES[words]
    cycles -= sooner
    proof = Proof()
    m = proof.m
    flash = config is FLASH
    window = proof.add("window", named(window_class)(config))
    store = proof.add("store", (store_class or (FlashStore if flash else SharedStore))(config))
    busy, start, issues = (proof.free(name, getattr(window, name)) for name in ("busy", "start", "issues"))
    for name in ("weight_base", "again", "onward", "group_address"):
        proof.free(name, getattr(window, name))
    m.d.comb += [
        window.arrives.eq(store.arrives),
        store.seek.eq(window.seek),
        store.seek_address.eq(window.seek_address),
        store.wanted.eq(window.wanted),
    ]
    # A loop nest that is held issues nothing; instructions start in a run, and not while another one issues.
    starved = proof.show("starved", window.starved)
    proof.assume(~issues | (busy & ~starved & ~start))
    proof.assume(busy | ~start)

    # What a store takes, and how many such pieces are a word: bytes that the flash offers, or rows of the activation
    # memory in cycles that are free.
    if flash:
        pieces, at = config.stored_bits // 8, store.write_piece
        offered, ready = proof.free("offered", store.bytes.valid), store.bytes.ready
    else:
        pieces = config.word_rows
        at = proof.inside("store", "row")[: (pieces - 1).bit_length()]
        offered, ready = proof.free("offered", store.free), store.fetch | ~store.free
    taken, ready = proof.show("taken", offered & ready), proof.show("ready", ready)
    arrives, at = proof.show("arrives", store.arrives), proof.show("at", at)

    # An instruction has started, and the array has waited since so many cycles.
    started, since = Signal(name="started"), Signal(range(cycles + 1), name="since")
    waits = proof.show("waits", busy & started & starved & ~start)
    m.d.sync += [started.eq(busy & (started | start)), since.eq(Mux(waits, Mux(since == cycles, cycles, since + 1), 0))]

    proof.claim("ready", ~waits | (since < cycles) | ready)
    proof.claim("goes_on", ~proof.past(waits & taken) | (at == proof.past(Mux(at == pieces - 1, 0, at + 1))))
    proof.claim("stays", ~proof.past(waits & ~taken) | (at == proof.past(at)))
    proof.claim("complete", arrives == (taken & (at == pieces - 1)))
    proof.claim("fed", ~proof.past(waits & arrives) | ~starved)
    # What the induction needs.
    proof.claim("window", ~(busy & started) | proof.inside("window", "valid"))
    proof.claim("piece", at < pieces)
    proof.goal("fed", proof.past(waits & arrives) & ~starved)
    return proof


@pytest.mark.parametrize("words", STORES)
def test_an_array_that_waits_gets_its_word_after_so_many_pieces(words):
    feeding(words).prove(STORES[words][1] + 2)


@pytest.mark.slow
@pytest.mark.parametrize("words", STORES)
def test_such_words_are_there(words):
    feeding(words).reach(24)


class TestFaultsAreSeen:
    def test_too_few_cycles(self):
        with pytest.raises(Refuted, match=r"not so: .*ready"):
            feeding("3 bytes", sooner=4).check(24)

    def test_a_window_that_does_not_move_when_it_is_used_up(self):
        component = broken(WeightWindow, "m.Elif(valid & self.starved & full)", "m.Elif(valid & self.starved & moving)")
        with pytest.raises(Refuted, match=r"not so: .*ready"):
            feeding("4 rows", component).check(50)

    @pytest.mark.parametrize(
        ("words", "store", "right", "wrong"),
        [
            ("4 rows", SharedStore, "jumped.eq(jumped & pending)", "jumped.eq(jumped)"),
            ("3 rows", SharedStore, "row[:row_bits] == rows - 1, (1", "row[:row_bits] == rows, (1"),
            ("3 bytes", FlashStore, "stale.eq(stale - 1)", "stale.eq(stale)"),
            ("3 bytes", FlashStore, "self.write_piece == size - 1", "self.write_piece == size"),
        ],
    )
    def test_a_store(self, words, store, right, wrong):
        with pytest.raises(Refuted):
            feeding(words, store_class=broken(store, right, wrong)).check(30)
