"""Sessions against the obvious device, over lines that lose, damage and repeat: everything is done, once, in order."""

import random

import numpy as np
import pytest
from support.device_model import DeviceModel, ModelLine

from zeropoint.errors import ZeropointError
from zeropoint.host import frames
from zeropoint.host.session import DeviceReset, Session
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Region, address
from zeropoint_hw.protocol import Request
from zeropoint_sim.line_faults import Faults

CONFIG = AcceleratorConfig(lanes=4, columns=4, activation_bytes=4096, weight_bytes=4096, parameter_channels=64)
START = address(Region.ACTIVATIONS, 0)
HASH = b"programm"

ALL = Faults(
    seed=1,
    lose=1e-3,
    damage=1e-3,
    double=1e-3,
    garbage=1e-3,
    lose_frame=0.02,
    double_frame=0.02,
    truncate=0.02,
)


def place(offset):
    return (START + offset).to_bytes(3, "little")


def opened(faults=None, timeout=0.001, **model):
    device = DeviceModel(CONFIG, **model)
    line = ModelLine(device, faults)
    session = Session(line, timeout=timeout, patience=20.0)
    session.identify()
    return session, device, line


def increments(memory):
    for offset in range(0, 64, 4):
        memory[START + offset] = memory.get(START + offset, 0) + 1 & 0xFFFFFFFF


def work(session, count, seed=0):
    """Do ``count`` requests at random, and yield each read's data with what they must be."""
    rng = random.Random(seed)
    mirror = bytearray(64)
    session.wait(session.submit(Request.LOADED, HASH))
    reads = []
    for _ in range(count):
        kind = rng.choice([Request.READ, Request.WRITE, Request.WRITE, Request.RUN])
        offset, size = 4 * rng.randrange(16), 4 * rng.randint(1, 8)
        size = min(size, 64 - offset)
        if kind is Request.READ:
            ticket = session.submit(kind, place(offset) + bytes([size]), size)
            reads.append((ticket, bytes(mirror[offset : offset + size])))
        elif kind is Request.WRITE:
            data = rng.randbytes(size)
            session.submit(kind, place(offset) + data)
            mirror[offset : offset + size] = data
        else:
            session.submit(kind, HASH)
            words = np.frombuffer(bytes(mirror), "<u4") + np.uint32(1)
            mirror[:] = words.astype("<u4").tobytes()
        while reads and (len(reads) > 10 or rng.random() < 0.3):
            ticket, expected = reads.pop(0)
            yield session.wait(ticket), expected
    for ticket, expected in reads:
        yield session.wait(ticket), expected
    session.finish()


def test_a_good_line_repeats_nothing():
    session, device, _ = opened(timeout=5.0, run=increments)
    results = list(work(session, 400))
    assert len(results) > 60
    assert all(got == expected for got, expected in results)
    assert (session.statistics.repeated, session.statistics.damaged) == (0, 0)
    assert session.statistics.requests == 401
    assert len(device.done) == 401 - len(results)


def test_each_fault_alone_and_all_together_change_nothing():
    alone = [
        Faults(seed=2, lose=3e-3),
        Faults(seed=3, damage=3e-3),
        Faults(seed=4, double=3e-3),
        Faults(seed=5, garbage=3e-3),
        Faults(seed=6, lose_frame=0.1),
        Faults(seed=7, double_frame=0.2),
        Faults(seed=8, truncate=0.1),
        ALL,
    ]
    for faults in alone:
        session, device, line = opened(faults, run=increments)
        results = list(work(session, 300))
        assert all(got == expected for got, expected in results), faults
        happened = sum((line.there.counts + line.back.counts).values())
        assert happened > line.there.counts["frames"] + line.back.counts["frames"]
        # Everything that has an effect, once.
        assert len(device.done) == 301 - len(results), faults
        if faults.double_frame == 0:
            assert session.statistics.repeated > 0, faults


@pytest.mark.slow
def test_fifty_thousand_requests_with_all_faults():
    session, device, _ = opened(ALL, run=increments)
    results = list(work(session, 50_000, seed=7))
    assert all(got == expected for got, expected in results)
    assert len(device.done) == 50_001 - len(results)


def test_without_the_crc_something_wrong_is_accepted(monkeypatch):
    """The negative control: faults do reach the results where nobody checks."""
    monkeypatch.setattr(frames, "is_intact", lambda frame: True)
    wrong = 0
    for seed in range(20):
        session, _, _ = opened(Faults(seed=seed, damage=0.01), run=increments, checks_crc=False)
        try:
            wrong += sum(got != expected for got, expected in work(session, 200))
        except ZeropointError:
            wrong += 1
    assert wrong > 5


def test_without_sequence_numbers_something_is_done_twice():
    """The negative control: doubled frames do have an effect where the device does not look."""

    class Forgetful(DeviceModel):
        def _do(self, number, code, arguments):
            if self.opened:
                self.due = number
            return super()._do(number, code, arguments)

    device = Forgetful(CONFIG, run=increments)
    session = Session(ModelLine(device, Faults(seed=1, double_frame=0.2)), timeout=0.001, patience=5.0)
    session.identify()
    assert any(got != expected for got, expected in work(session, 200))


def test_a_reset_is_noticed_whatever_is_under_way():
    for when in range(3, 40):
        device = DeviceModel(CONFIG, run=increments)

        def before(count, device=device, when=when):
            if count == when:
                device.reset()

        session = Session(ModelLine(device, before=before), timeout=0.001, patience=5.0)
        session.identify()
        results = work(session, 400)
        with pytest.raises(DeviceReset, match="the device was reset"):
            assert not [None for got, expected in results if got != expected]
        # Nothing goes on as if nothing had been.
        with pytest.raises(DeviceReset, match="open it again"):
            session.submit(Request.READ, place(0) + b"\x04", 4)
        session.identify()
        with pytest.raises(DeviceReset, match="does not hold the program"):
            session.wait(session.submit(Request.RUN, HASH))


def test_a_read_is_answered_before_something_that_changes_it_is_sent():
    session, _, line = opened(run=increments)
    session.wait(session.submit(Request.LOADED, HASH))
    for request, arguments, held in (
        (Request.WRITE, place(8) + bytes(4), True),
        (Request.WRITE, place(12) + bytes(4), False),
        (Request.WRITE, place(0) + bytes(4), False),
        (Request.WRITE, place(0) + bytes(8), True),
        (Request.RUN, HASH, True),
        (Request.STEP, HASH, True),
        (Request.READ, place(8) + b"\x04", False),
    ):
        read = session.submit(Request.READ, place(4) + b"\x08", 8)
        assert not read.done
        receipts = line.receipts
        session.submit(request, arguments, 4 if request is Request.READ else 0)
        assert read.done == held
        assert (line.receipts > receipts) == held
        session.finish()


def test_no_more_is_under_way_than_the_device_holds():
    session, device, line = opened(run=increments)
    session.wait(session.submit(Request.LOADED, HASH))
    session.submit(Request.RUN, HASH)
    behind_a_run = 0
    for _ in range(30):
        session.submit(Request.WRITE, place(0) + bytes(100))
        waits = any(each.request is Request.RUN for each in session._under_way)
        assert sum(each.bytes for each in session._under_way) <= (511 if waits else 4096)
        behind_a_run += waits
    assert behind_a_run >= 4
    for _ in range(100):
        session.submit(Request.READ, place(0) + b"\xf0", 240)
        assert sum(each.bytes for each in session._under_way) <= 511
        assert sum(each.answer_bytes for each in session._under_way) <= 4096
    assert line.receipts > 10
    assert len(device.done) == 32


def test_a_device_that_is_not_there_and_one_that_is_garbage_are_told_apart():
    class Silent:
        data = b""

        def send(self, data):
            pass

        def receive(self):
            return self.data

    with pytest.raises(ZeropointError, match=r"^no device answers within 0.05 s; is it the right port, the right baud"):
        Session(Silent(), timeout=0.01, patience=0.05).identify()
    silent = Silent()
    silent.data = b"\x93\x00\xf8"
    with pytest.raises(ZeropointError, match=r"^what comes from the port is no device's answer; is the baud rate"):
        Session(silent, timeout=0.01, patience=0.05).identify()


def test_a_device_that_falls_silent_is_given_up():
    session, device, _ = opened()
    session._patience = 0.05
    device.carry = lambda data: b""
    with pytest.raises(ZeropointError, match=r"^the device has not answered for 0 s \(request READ\); reset it$"):
        session.wait(session.submit(Request.READ, place(0) + b"\x04", 4))


def test_a_refusal_is_reported():
    session, _, _ = opened()
    with pytest.raises(ZeropointError, match=r"^the device refuses a request \(WRITE, status ADDRESS\); was its"):
        session.wait(session.submit(Request.WRITE, bytes(3) + bytes(4)))


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("support.device_model.VERSION", 2)
    with pytest.raises(ZeropointError, match=r"^the device speaks version 2 of the link's protocol, this Zeropo"):
        opened()
