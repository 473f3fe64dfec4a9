"""Words that are never torn, lanes that know their generation, and wake-ups that are never lost."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.memory.progress import BLOCK_SIZE, LANES, UNKNOWN_LENGTH, ProgressBlock, Waiter, WakeUp

LONG = 20.0
TOP = (1 << 48) - 1


@pytest.fixture
def block() -> Iterator[ProgressBlock]:
    made = ProgressBlock()
    yield made
    made.close()


@pytest.fixture
def wake() -> Iterator[WakeUp]:
    made = WakeUp()
    yield made
    made.close()


# --- Lanes


def test_lanes_are_apart(block: ProgressBlock) -> None:
    for lane in range(LANES):
        block.open_lane(lane, lane + 1, lane * 1000)
        block.stop_at(lane, lane * 1000 + 7)
        block.publish(lane, lane + 1, lane * 1000 + 5)
    block.write_head(12345, 3, b"x" * 100)
    assert [block.landed(lane, lane + 1) for lane in range(LANES)] == [lane * 1000 + 5 for lane in range(LANES)]
    assert [block.stop(lane) for lane in range(LANES)] == [lane * 1000 + 7 for lane in range(LANES)]


def test_a_lane_starts_where_it_was_opened_and_without_a_stop(block: ProgressBlock) -> None:
    block.open_lane(3, 1, 100)
    block.stop_at(3, 150)
    block.open_lane(3, 2, 500)
    assert block.landed(3, 2) == 500
    assert block.stop(3) is None


def test_a_lane_of_another_generation_says_nothing(block: ProgressBlock) -> None:
    assert block.landed(0, 1) is None
    block.open_lane(0, 1, 10)
    block.publish(0, 1, 20)
    assert block.landed(0, 1) == 20
    assert block.landed(0, 2) is None
    block.open_lane(0, 2, 0)
    assert block.landed(0, 1) is None


@given(st.integers(0, LANES - 1), st.integers(0, 1 << 20), st.integers(0, TOP))
def test_generation_and_offset_share_a_word(lane: int, generation: int, offset: int) -> None:
    block = ProgressBlock()
    try:
        block.publish(lane, generation, offset)
        assert block.landed(lane, generation) == offset
        assert block.landed(lane, generation + 1) is None
        assert block.landed(lane, generation + (1 << 16)) == offset  # the counter has 16 bits
    finally:
        block.close()


def test_an_offset_that_does_not_fit_is_refused(block: ProgressBlock) -> None:
    block.publish(0, 1, TOP)
    for wrong in (TOP + 1, -1):
        with pytest.raises(ValueError):
            block.publish(0, 1, wrong)
    assert block.landed(0, 1) == TOP


# --- The head


def test_nothing_is_known_before_the_head(block: ProgressBlock) -> None:
    assert (block.has_head, block.length, block.flags, block.blob) == (False, None, 0, b"")


@pytest.mark.parametrize("length", [None, 0, 1, 1 << 40])
def test_the_head_says_what_was_written(block: ProgressBlock, length: int | None) -> None:
    block.write_head(length, 5, b"blob")
    assert (block.has_head, block.length, block.flags, block.blob) == (True, length, 5, b"blob")


def test_a_length_may_come_later(block: ProgressBlock) -> None:
    block.write_head(None, 0, b"")
    block.write_length(99)
    assert block.length == 99


def test_the_blob_has_a_limit(block: ProgressBlock) -> None:
    room = BLOCK_SIZE - 8 * (8 + 2 * LANES)
    with pytest.raises(ValueError, match=f"head of {room + 1} bytes, at most {room} fit"):
        block.write_head(1, 0, b"x" * (room + 1))
    assert not block.has_head
    block.write_head(1, 0, b"x" * room)
    assert len(block.blob) == room


def test_a_blob_size_from_a_broken_writer_reads_no_further_than_the_block(block: ProgressBlock) -> None:
    block.write_head(1, 0, b"abc")
    block._words[2] = UNKNOWN_LENGTH
    assert len(block.blob) == BLOCK_SIZE - 8 * (8 + 2 * LANES)


def test_closing_twice_frees_once(block: ProgressBlock) -> None:
    fd = block.fd
    block.close()
    block.close()
    assert block.fd == -1
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_descriptor_that_cannot_be_mapped_is_closed() -> None:
    fd = os.memfd_create("empty")
    with pytest.raises((OSError, ValueError)):
        ProgressBlock(fd)
    with pytest.raises(OSError):
        os.fstat(fd)


# --- Two at once


WRITER = """
import sys
from actors.memory.progress import ProgressBlock
block = ProgressBlock(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
low, high = (0, 0), (0xFFFF, (1 << 48) - 1)
for step in range(int(sys.argv[2])):
    block.publish(0, *low)
    block.publish(0, *high)
    block.stop_at(0, 0)
    block.stop_at(0, (1 << 64) - 2)
block.publish(1, 1, 1)
"""


def test_another_process_never_shows_half_a_word(block: ProgressBlock) -> None:
    """Low and high differ in every bit of both halves, so any mixture shows."""
    fd = os.dup(block.fd)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(fd), "100000"],
        pass_fds=[fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        os.close(fd)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        print("go", file=writer.stdin, flush=True)
        words, stops = set(), set()
        while block.landed(1, 1) is None and writer.poll() is None:
            words.add(block._words[8])
            stops.add(block._words[8 + LANES])
        assert writer.wait(LONG) == 0
    assert words <= {0, (1 << 64) - 1}
    assert stops <= {0, (1 << 64) - 2}
    assert block.landed(1, 1) == 1


def test_readers_in_threads_see_offsets_rise_and_the_head_first(block: ProgressBlock) -> None:
    gate = threading.Barrier(4)
    faults: list[str] = []

    def read() -> None:
        gate.wait(LONG)
        last = 0
        while last < 20000:
            landed = block.landed(0, 1)
            if landed is None:
                continue
            if landed < last:
                faults.append(f"{landed} after {last}")
            if landed > 0 and (block.length != 20000 or block.blob != b"head"):
                faults.append(f"{landed} before the head")
            last = landed

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    block.open_lane(0, 1, 0)
    gate.wait(LONG)
    block.write_head(20000, 0, b"head")
    for offset in range(1, 20001):
        block.publish(0, 1, offset)
    for thread in threads:
        thread.join(LONG)
    assert faults == []


# --- Wake-ups


def test_a_signal_wakes_every_waiter_and_each_of_them_once(wake: WakeUp) -> None:
    waiters = [Waiter(wake) for _ in range(5)]
    assert [waiter.wait(0) for waiter in waiters] == [False] * 5
    wake.signal()
    assert [waiter.wait(0) for waiter in waiters] == [True] * 5
    assert [waiter.wait(0) for waiter in waiters] == [False] * 5
    for waiter in waiters:
        waiter.close()
        waiter.close()


def test_every_signal_counts_although_nobody_reads_the_counter(wake: WakeUp) -> None:
    waiter = Waiter(wake)
    for _ in range(100):
        wake.signal()
        assert waiter.wait(LONG)
        assert not waiter.wait(0)
    waiter.close()


def test_signals_before_a_wait_are_one_wake(wake: WakeUp) -> None:
    waiter = Waiter(wake)
    wake.signal()
    wake.signal()
    assert waiter.wait(LONG)
    assert not waiter.wait(0)
    waiter.close()


def test_a_waiter_may_wake_for_what_was_before_it(wake: WakeUp) -> None:
    wake.signal()
    waiter = Waiter(wake)
    waiter.wait(0)
    assert not waiter.wait(0)
    wake.signal()
    assert waiter.wait(LONG)
    waiter.close()


def test_no_wake_is_lost_between_look_and_wait(block: ProgressBlock, wake: WakeUp) -> None:
    """The writer publishes and signals just after the reader has looked and before it waits."""
    looked, signalled = threading.Semaphore(0), threading.Semaphore(0)
    rounds = 200
    waiter = Waiter(wake)
    block.open_lane(0, 1, 0)

    def write() -> None:
        for offset in range(1, rounds + 1):
            assert looked.acquire(timeout=LONG)
            block.publish(0, 1, offset)
            wake.signal()
            signalled.release()

    writer = threading.Thread(target=write)
    writer.start()
    for offset in range(rounds):
        assert block.landed(0, 1) == offset
        looked.release()
        assert signalled.acquire(timeout=LONG)
        assert waiter.wait(LONG)
    writer.join(LONG)
    waiter.close()


def test_many_waiting_threads_all_follow_a_fast_writer(block: ProgressBlock, wake: WakeUp) -> None:
    end = 2000
    block.open_lane(0, 1, 0)
    gate = threading.Barrier(9)
    missed: list[int] = []

    def read() -> None:
        waiter = Waiter(wake)
        try:
            gate.wait(LONG)
            while (landed := block.landed(0, 1)) is not None and landed < end:
                if not waiter.wait(LONG):
                    missed.append(landed)
                    return
        finally:
            waiter.close()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.wait(LONG)
    for offset in range(1, end + 1):
        block.publish(0, 1, offset)
        wake.signal()
    for thread in threads:
        thread.join(2 * LONG)
    assert missed == []


def test_a_wait_has_a_limit(wake: WakeUp) -> None:
    waiter = Waiter(wake)
    assert not waiter.wait(0.001)
    waiter.close()


def test_poll_can_watch_a_waiter_beside_other_things(wake: WakeUp) -> None:
    waiter = Waiter(wake)
    poll = select.poll()
    poll.register(waiter.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    wake.signal()
    assert poll.poll(1000) == [(waiter.fileno(), select.POLLIN)]
    assert waiter.wait(0)
    assert poll.poll(0) == []
    waiter.close()


def test_an_event_loop_can_watch_a_waiter(wake: WakeUp) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        waiter = Waiter(wake)
        woken = asyncio.Event()
        loop.add_reader(waiter.fileno(), woken.set)
        seen = []
        try:
            for _ in range(3):
                await asyncio.to_thread(wake.signal)
                await asyncio.wait_for(woken.wait(), LONG)
                seen.append(waiter.wait(0))
                woken.clear()
        finally:
            loop.remove_reader(waiter.fileno())
            waiter.close()
        return seen

    assert asyncio.run(main()) == [True] * 3


def test_another_process_wakes_through_the_descriptor(wake: WakeUp) -> None:
    waiter = Waiter(wake)
    script = "import sys; from actors.memory.progress import WakeUp; WakeUp(int(sys.argv[1])).signal()"
    subprocess.run([sys.executable, "-c", script, str(wake.fd)], pass_fds=[wake.fd], check=True)
    assert waiter.wait(LONG)
    waiter.close()


def test_a_waiter_on_a_closed_wake_up_leaves_nothing(wake: WakeUp) -> None:
    wake.close()
    wake.close()
    with pytest.raises((OSError, ValueError)):
        Waiter(wake)
