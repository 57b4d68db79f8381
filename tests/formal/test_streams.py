"""Streams keep their rules: what is offered stays until it is taken, and bytes come out as they went in, each once."""

import pytest
from amaranth import Cat, Mux, Signal
from amaranth.lib import memory
from support.formal import needs_solver
from support.sources import broken

from zeropoint_hw.framing import ByteRegister, FrameBuffer, FrameReceiver, FrameSender
from zeropoint_hw.uart import UartTransmitter
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver


MADE = []


class SeenMemory(memory.Memory):
    """A memory with one more port, by which a proof reads it."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.seen = self.read_port(domain="comb")
        MADE.append(self)


def span(first, last):
    """Return the places from one to another, around the end of a memory of a power of two."""
    return (last - first)[: len(last)]


def rules_of_use(tail, visible, full, append, write, place, commit, drop):
    """Return what a buffer of frames asks of its user."""
    return {
        "room": ~(append & full),
        "place": ~write | (span(visible, place) <= span(visible, tail)),
        "commit": ~(commit & (append | drop | write)),
        "drop": ~(drop & append),
    }


def buffer_proof(monkeypatch, size_bits, component=FrameBuffer):
    """Return claims that a byte comes out once, in its turn, as it was when its frame became visible.

    One byte, whichever, is followed from where it was appended, and those before it are counted.
    """
    monkeypatch.setattr(memory, "Memory", SeenMemory)
    proof = Proof()
    m, dut = proof.m, proof.add("buffer", component(size_bits))
    head, visible = (proof.show(name, proof.inside("buffer", name)) for name in ("head", "visible"))
    tail, full = proof.show("tail", dut.tail), proof.show("full", dut.full)
    append, commit, drop = (proof.free(name, getattr(dut, name)) for name in ("append", "commit", "drop"))
    write, place = proof.free("write", dut.write), proof.free("write_place", dut.write_place)
    data = proof.free("write_data", dut.write_data)
    valid, ready = proof.show("valid", dut.o.valid), proof.free("ready", dut.o.ready)
    payload = proof.show("payload", dut.o.payload)
    for rule in rules_of_use(tail, visible, full, append, write, place, commit, drop).values():
        proof.assume(rule)

    # Bytes that are visible, the one that is offered among them, and those that are not yet.
    queued, pending = Signal(size_bits + 1, name="queued"), Signal(size_bits, name="pending")
    taken = valid & ready
    m.d.sync += [
        queued.eq(queued + Mux(commit, pending, 0) - taken),
        pending.eq(Mux(commit | drop, 0, pending + append)),
    ]
    proof.claim("queued", queued == span(head, visible) + valid)
    proof.claim("pending", pending == span(visible, tail))
    # Full is what holds as many bytes as it has places but one, and nothing that holds fewer.
    proof.claim("full", full == (queued - valid + pending == (1 << size_bits) - 1))

    follow = proof.free("follow", 1)
    followed, known, committed = (Signal(name=name) for name in ("followed", "known", "committed"))
    where, byte, ahead = Signal(size_bits, name="where"), Signal(8, name="byte"), Signal(size_bits + 1, name="ahead")
    for signal in (followed, known, committed, where, byte, ahead):
        proof.show(f"{signal.name}_", signal)
    written = write & (place == where)
    with m.If(~followed), m.If(append & follow):
        m.d.sync += [followed.eq(1), committed.eq(0), where.eq(tail), byte.eq(data)]
        m.d.sync += [known.eq(write & (place == tail)), ahead.eq(queued + pending - taken)]
    with m.Else():
        with m.If(written & ~committed):
            m.d.sync += [known.eq(1), byte.eq(data)]
        with m.If(commit):
            m.d.sync += committed.eq(1)
        with m.If((drop & ~committed) | (taken & (ahead == 0))):
            m.d.sync += followed.eq(0)
        with m.If(taken):
            m.d.sync += ahead.eq(ahead - 1)

    waits = proof.past(valid & ~ready)
    proof.claim("stays", ~waits | (valid & (payload == proof.past(payload))))
    proof.claim("offered", ~proof.past(~valid & (head != visible)) | valid)
    proof.claim("as_it_was", ~(followed & taken & (ahead == 0)) | (committed & (~known | (payload == byte))))

    # What the induction needs: how the places lie, and where the byte is.
    seen = MADE.pop().seen
    m.d.comb += seen.addr.eq(where)
    offered = followed & valid & (ahead == 0)
    waiting = followed & ~offered
    proof.claim("order", span(head, visible) <= span(head, tail))
    proof.claim("ahead", ~waiting | (ahead == span(head, where) + valid))
    proof.claim("held", ~waiting | (span(head, where) < span(head, tail)))
    proof.claim("visible", ~waiting | (committed == (span(head, where) < span(head, visible))))
    proof.claim("stored", ~(waiting & known) | (seen.data == byte))
    proof.claim("shown", ~offered | (committed & (~known | (payload == byte))))
    proof.goal("full", full & followed & known & taken & (ahead == 0))
    return proof


@pytest.mark.parametrize("size_bits", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_bytes_come_out_once_and_in_order(monkeypatch, size_bits):
    buffer_proof(monkeypatch, size_bits).prove(2)


@pytest.mark.slow
def test_full_buffers_are_there(monkeypatch):
    buffer_proof(monkeypatch, 2).reach(9)


def register_proof(component=ByteRegister):
    """Return claims that a byte leaves as it came, once, and that none waits without need."""
    proof = Proof()
    m, dut = proof.m, proof.add("register", component())
    payload, offered = proof.free("payload", dut.i.payload), proof.free("offered", dut.i.valid)
    ready, taken = proof.free("ready", dut.o.ready), proof.show("taken", dut.i.ready & dut.i.valid)
    held, byte = Signal(name="held"), Signal(8, name="byte")
    with m.If(taken):
        m.d.sync += [held.eq(1), byte.eq(payload)]
    with m.Elif(dut.o.ready):
        m.d.sync += held.eq(0)
    proof.claim("held", dut.o.valid == held)
    proof.claim("as_it_came", ~held | (dut.o.payload == byte))
    proof.claim("moves_on", taken == (offered & (~held | ready)))
    return proof


def test_a_register_loses_and_doubles_nothing():
    register_proof().prove(1)


def sender_proof(size_bits=4, component=FrameSender):
    """Return claims that the sender keeps to the rules of its buffer, and its own stream to those of streams."""
    proof = Proof()
    dut = proof.add("sender", component(size_bits))
    proof.free("payload", dut.i.payload)
    offered = proof.free("i_valid", dut.i.valid)
    ready, valid, byte = (
        proof.free("ready", dut.o.ready),
        proof.show("valid", dut.o.valid),
        proof.show("byte", dut.o.payload),
    )
    proof.claim("stays", ~proof.past(valid & ~ready) | (valid & (byte == proof.past(byte))))
    state = proof.show("state", proof.inside("sender", "fsm_state"))
    head, visible, tail = (
        proof.show(name, proof.inside("sender.buffer", name)) for name in ("head", "visible", "tail")
    )
    code_place = proof.show("code_place", proof.inside("sender", "code_place"))
    full = proof.inside("sender.buffer", "full")
    ports = (proof.inside("sender", name) for name in ("append", "write", "write_place", "commit"))
    append, write, place, commit = (proof.show(f"buffer_{port.name}", port) for port in ports)
    for name, rule in rules_of_use(tail, visible, full, append, write, place, commit, 0).items():
        proof.claim(name, rule)
    proof.claim("order", span(head, visible) <= span(head, tail))
    proof.claim("begin", (state != 0) | (visible == tail))
    # It goes on unless it waits for room, for the CRC of the byte before, or for a byte.
    waits = full | proof.inside("sender.crc", "busy") | ((state < 2) & ~offered)
    proof.claim("goes_on", waits | append | write | commit)
    proof.claim("states", state < 6)
    proof.claim("code", (state == 0) | (span(visible, code_place) < span(visible, tail)))
    return proof


def test_the_sender_uses_its_buffer_by_the_rules():
    sender_proof().prove(2)


def receiver_proof(size_bits=4, component=FrameReceiver):
    """Return claims that the receiver keeps to the rules of its buffer, whatever comes."""
    proof = Proof()
    dut = proof.add("receiver", component(size_bits))
    proof.free("data", dut.data)
    proof.free("valid", dut.valid)
    proof.free("ready", dut.o.ready)
    visible, tail = (proof.inside("receiver.buffer", name) for name in ("visible", "tail"))
    full = proof.inside("receiver.buffer", "full")
    names = ("append", "write", "write_place", "commit", "drop")
    append, write, place, commit, drop = (proof.show(name, proof.inside("receiver", name)) for name in names)
    for name, rule in rules_of_use(tail, visible, full, append, write, place, commit, drop).items():
        proof.claim(name, rule)
    return proof


@pytest.mark.slow
def test_the_receiver_uses_its_buffer_by_the_rules():
    receiver_proof().prove(2)


def transmitter_proof(divisor, component=UartTransmitter):
    """Return claims that a byte goes out as a start bit, its bits and a stop bit, each of so many cycles."""
    proof = Proof()
    m, dut = proof.m, proof.add("uart", component(divisor))
    payload, valid = proof.free("payload", dut.i.payload), proof.free("valid", dut.i.valid)
    timer, bits = proof.show("timer", proof.inside("uart", "timer")), proof.show("bits", proof.inside("uart", "bits"))
    tx, ready = proof.show("tx", dut.tx), proof.show("ready", dut.i.ready)
    frame, left = Signal(10, init=0x3FF), Signal(range(10 * divisor + 1))
    with m.If(valid & ready):
        m.d.sync += [frame.eq(Cat(0, payload, 1)), left.eq(10 * divisor - 1)]
    with m.Elif(left != 0):
        m.d.sync += left.eq(left - 1)
    proof.show("left", left)
    number = Signal(range(10))
    for place in range(10):
        with m.If(left >= place * divisor):
            m.d.comb += number.eq(9 - place)
    proof.claim("line", tx == frame.bit_select(number, 1))
    proof.claim("ready", ready == (left == 0))
    proof.claim("bits", bits == frame >> number)
    proof.claim("timer", left == timer + divisor * (9 - number))
    proof.claim("stop", frame[9])
    return proof


@pytest.mark.slow
def test_bytes_on_the_line():
    transmitter_proof(5).prove(2)


class TestFaultsAreSeen:
    """Each of these must be refuted by the very proof that passes above."""

    @pytest.mark.slow
    def test_a_buffer_that_is_never_full(self, monkeypatch):
        component = broken(FrameBuffer, "after == head", "0")
        with pytest.raises(Refuted, match=r"not so: .*full"):
            buffer_proof(monkeypatch, 2, component).check(10)

    def test_a_buffer_that_is_always_full(self, monkeypatch):
        component = broken(FrameBuffer, "self.full.eq(after == head)", "self.full.eq(1)")
        with pytest.raises(Refuted, match=r"not so: full"):
            buffer_proof(monkeypatch, 2, component).check(10)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("right", "wrong", "claim"),
        [
            ("~self.o.valid | self.o.ready", "1", "moves_on"),
            ("~self.o.valid | self.o.ready", "~self.o.valid", "moves_on"),
            ("self.o.valid.eq(self.i.valid), ", "", "held"),
        ],
    )
    def test_a_register_that_loses_or_holds_back(self, right, wrong, claim):
        with pytest.raises(Refuted, match=rf"not so: .*{claim}"):
            register_proof(broken(ByteRegister, right, wrong)).check(6)

    def test_a_byte_that_does_not_stay(self, monkeypatch):
        component = broken(FrameBuffer, "read.en.eq(~self.o.valid | self.o.ready)", "read.en.eq(1)")
        with pytest.raises(Refuted, match=r"not so: .*stays"):
            buffer_proof(monkeypatch, 2, component).check(10)

    @pytest.mark.slow
    def test_what_is_dropped_and_comes_nevertheless(self, monkeypatch):
        component = broken(FrameBuffer, "self.tail.eq(visible)", "self.tail.eq(self.tail)")
        with pytest.raises(Refuted):
            buffer_proof(monkeypatch, 2, component).check(10)

    @pytest.mark.slow
    def test_a_sender_that_does_not_wait(self):
        component = broken(FrameSender, "~buffer.full & ~check.busy & self.i.valid", "~check.busy & self.i.valid")
        with pytest.raises(Refuted, match="not so: room"):
            sender_proof(2, component).check(40)

    def test_a_sender_that_takes_nothing(self):
        component = broken(FrameSender, "~buffer.full & ~check.busy & self.i.valid", "0")
        with pytest.raises(Refuted, match="not so: goes_on"):
            sender_proof(2, component).check(10)

    @pytest.mark.slow
    def test_a_receiver_that_takes_more_than_there_is_room_for(self):
        component = broken(FrameReceiver, "buffer.write.eq(0), buffer.append.eq(0)", "buffer.write.eq(0)")
        with pytest.raises(Refuted, match="not so: room"):
            receiver_proof(2, component).check(20)

    @pytest.mark.slow
    def test_bits_in_the_wrong_order(self):
        component = broken(UartTransmitter, "Cat(0, self.i.payload, 1)", "Cat(0, self.i.payload[::-1], 1)")
        with pytest.raises(Refuted, match=r"not so: .*bits"):
            transmitter_proof(5, component).check(10)
