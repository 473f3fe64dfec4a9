"""Words that processes share: no change is lost, whoever is killed or stopped in the middle of one."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from actors.memory.words import PATIENCE, SharedWords
from actors.testing.fake_clock import FakeClock

HANG = 30.0

_COUNT = """\
import sys
from actors.memory.words import SharedWords
words = SharedWords(fd=int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    words.update(3, lambda word: (word + 1, None))
print(words.passed, flush=True)
words.close()
"""

_HOLD = """\
import sys
from actors.memory.words import SharedWords
words = SharedWords(fd=int(sys.argv[1]))
def hold(word):
    print("held", flush=True)
    sys.stdin.readline()
    return 5, None
words.update(3, hold)
print("stored", flush=True)
"""


@contextmanager
def child(program: str, words: SharedWords, *args: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, str(words.fd), *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, pass_fds=[words.fd], text=True, env=env, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def words() -> Iterator[SharedWords]:
    made = SharedWords(8)
    yield made
    made.close()


def add(words: SharedWords, index: int = 3) -> None:
    words.update(index, lambda word: (word + 1, None))


def test_words_are_zero_and_keep_what_is_stored(words: SharedWords) -> None:
    assert [words[index] for index in range(8)] == [0] * 8
    assert len(words) >= 8
    words[7] = (1 << 64) - 1
    assert words.update(7, lambda word: (3, word + 1)) == 1 << 64
    assert (words[6], words[7]) == (0, 3)


def test_a_change_that_raises_changes_nothing_and_holds_no_lock(words: SharedWords) -> None:
    def broken(word: int) -> tuple[int, None]:
        raise KeyError(word)

    with pytest.raises(KeyError):
        words.update(3, broken)
    with child(_COUNT, words, 1) as other:
        assert line(other) == "ready"
        go_on(other)
        assert line(other) == "0"
    assert words[3] == 1


def test_no_change_of_two_processes_and_four_threads_is_lost(words: SharedWords) -> None:
    rounds = 3000
    with child(_COUNT, words, rounds) as other:
        assert line(other) == "ready"
        threads = [threading.Thread(target=lambda: [add(words) for _ in range(rounds)]) for _ in range(4)]
        go_on(other)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        passed = words.passed + int(line(other))
    # Where a process was not let on for so long, the other may have gone on without it: that is the promise.
    assert 5 * rounds - passed <= words[3] <= 5 * rounds


def test_descriptors_that_are_closed_drop_no_lock(words: SharedWords) -> None:
    """Closing any descriptor of a file drops all record locks of the process: not in the middle of a change."""
    inside, leave = threading.Event(), threading.Event()
    repeat = os.dup(words.fd)

    def hold(word: int) -> tuple[int, None]:
        inside.set()
        assert leave.wait(HANG)
        return word + 1, None

    holder = threading.Thread(target=lambda: words.update(3, hold))
    closer = threading.Thread(target=words.close_repeat, args=(repeat,))
    with child(_COUNT, words, 1) as other:
        assert line(other) == "ready"
        holder.start()
        assert inside.wait(HANG)
        closer.start()
        go_on(other)
        # Passed over: the lock was held all the time.
        assert line(other) == "1"
        assert words[3] == 1
        os.fstat(repeat)
        leave.set()
        holder.join(HANG)
        closer.join(HANG)
    with pytest.raises(OSError):
        os.fstat(repeat)


def test_a_process_killed_in_the_middle_of_a_change_blocks_nobody(words: SharedWords) -> None:
    with child(_HOLD, words) as other:
        assert line(other) == "held"
        other.kill()
        other.wait(HANG)
        add(words)
    assert (words[3], words.passed) == (1, 0)


def test_a_process_stopped_in_the_middle_of_a_change_is_passed_over(words: SharedWords) -> None:
    with child(_HOLD, words) as other:
        assert line(other) == "held"
        other.send_signal(signal.SIGSTOP)
        for _ in range(200):
            add(words)
        # Other words are not concerned.
        add(words, 4)
        assert (words[3], words[4], words.passed) == (200, 1, 200)
        other.send_signal(signal.SIGCONT)
        go_on(other)
        # What it does then it does late, and the words go on from there.
        assert line(other) == "stored"
        assert words[3] == 5
        other.wait(HANG)
    add(words)
    assert (words[3], words.passed) == (6, 200)


def test_who_was_passed_over_is_waited_for_once_in_a_second() -> None:
    clock = FakeClock()
    words = SharedWords(1, clock=clock)
    waits = []

    class Never:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            clock.advance(seconds)
            return False

    words._never = Never()  # type: ignore[assignment]
    with child(_HOLD.replace("update(3", "update(0"), words) as other:
        assert line(other) == "held"
        add(words, 0)
        assert PATIENCE <= sum(waits) <= PATIENCE + max(waits)
        waits.clear()
        for _ in range(50):
            add(words, 0)
        assert waits == []
        clock.advance(1.0)
        add(words, 0)
        assert PATIENCE <= sum(waits) <= PATIENCE + max(waits)
    assert words.passed == words[0] == 52
    words.close()


def test_a_file_system_without_locks_stops_nobody(words: SharedWords, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    add(words)
    assert (words[3], words.passed) == (1, 1)


def test_what_cannot_be_mapped_is_closed() -> None:
    out, into = os.pipe()
    os.close(into)
    with pytest.raises(OSError):
        SharedWords(fd=out)
    with pytest.raises(OSError):
        os.fstat(out)


def test_closing_twice_is_closing_once() -> None:
    words = SharedWords(2)
    words.close()
    words.close()
