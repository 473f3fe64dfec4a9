"""The parsing process fed by hand: what it asks for, what it answers, how it gives up."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wave_kit import wave_bytes

from actors.messages.codec import Codec
from actors.messages.command import Command
from kithara_actors.messages.parser import (
    PARSER_COMMANDS,
    BytesNeeded,
    BytesThere,
    Describe,
    Described,
    ForgetJob,
)
from kithara_actors.testing.origin import body
from kithara_actors.values import AudioCodec, Container, MediaDetails, MediaInfo
from kithara_actors.worker import parser as module
from kithara_actors.worker.parser import HeldFile, ParseHandler

CODEC = Codec(PARSER_COMMANDS)
HANG = 30.0
FRONT = 64 * 1024


# --- The file


@given(
    size=st.integers(0, 200_000),
    present=st.integers(0, 200_000),
    moves=st.lists(st.tuples(st.integers(0, 220_000), st.integers(0, 40_000)), max_size=20),
)
def test_whatever_is_read_in_whatever_order_are_the_bytes_of_the_file(
    size: int, present: int, moves: list[tuple[int, int]]
) -> None:
    content = body(1, 0, size)
    asked: list[tuple[int, int]] = []

    def need(start: int, end: int) -> int:
        assert 0 <= start < end <= size
        asked.append((start, end))
        return end

    fd = os.memfd_create("held")
    try:
        os.write(fd, content)
        with io.BufferedReader(HeldFile(fd, size, min(present, size), need)) as file:
            for at, count in moves:
                file.seek(at)
                assert file.read(count) == content[at : at + count]
            assert file.seek(0, 2) == size
    finally:
        os.close(fd)
    assert all(start >= min(present, size) for start, _ in asked), "asked for what was there"
    for one, other in zip(sorted(asked), sorted(asked)[1:], strict=False):
        assert one[1] <= other[0], "asked twice"


def test_without_anybody_to_ask_the_file_ends_where_its_front_does() -> None:
    fd = os.memfd_create("held")
    try:
        os.write(fd, body(1, 0, 100_000))
        with io.BufferedReader(HeldFile(fd, 1_000_000, 50_000, None)) as file:
            assert file.read() == body(1, 0, 50_000)
            assert file.seek(0, 2) == 1_000_000
            file.seek(-128, 2)
            assert file.read(128) == b""
            file.seek(49_990)
            assert len(file.read(100)) == 10
    finally:
        os.close(fd)


def test_reading_on_asks_in_growing_steps_and_jumps_in_small_ones() -> None:
    asked: list[int] = []

    def need(start: int, end: int) -> int:
        asked.append(end - start)
        return end

    fd = os.memfd_create("held")
    try:
        os.truncate(fd, 50_000_000)
        with HeldFile(fd, 50_000_000, 0, need) as file:
            at = 0
            while at < 8_000_000:
                at += len(file.read(1000) or b"")
            assert len(asked) < 20
            assert max(asked) <= 1024 * 1024
            asked.clear()
            for at in range(20_000_000, 21_000_000, 100_000):
                file.seek(at)
                file.read(100)
            assert max(asked) <= 32 * 1024
    finally:
        os.close(fd)


# --- The handler


class Parser:
    """A handler, and what it has said."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self.said: list[Command] = []
        self.handler = ParseHandler(self._hear, time_limit=HANG)

    def _hear(self, frame: bytes) -> None:
        with self._changed:
            self.said.append(CODEC.decode(frame))
            self._changed.notify_all()

    def tell(self, command: Command, data: bytes | None = None) -> None:
        fds = []
        if data is not None:
            path = self._folder / "data"
            path.write_bytes(data)
            fds = [os.open(path, os.O_RDONLY)]
        self.handler.handle(CODEC.encode(command), fds)

    def next(self) -> Command:
        with self._changed:
            assert self._changed.wait_for(lambda: self.said, HANG), "no answer"
            return self.said.pop(0)

    def settle(self) -> None:
        """Wait until no job is left."""
        self.handler._threads.shutdown(wait=True)
        assert self.handler.busy() == 0


@pytest.fixture
def parser(tmp_path: Path) -> Iterator[Parser]:
    parser = Parser(tmp_path)
    yield parser
    parser.settle()


def test_a_whole_file_is_described_without_a_question(parser: Parser) -> None:
    data = wave_bytes(seconds=1)
    parser.tell(Describe(1, "audio/wav", len(data), len(data), whole=True), data)
    said = parser.next()
    assert isinstance(said, Described)
    info = said.details.info
    assert (info.codec, info.container) == (AudioCodec.PCM, Container.WAV)
    assert (info.sample_rate, info.channels, info.duration) == (44_100, 2, 1.0)


def test_what_is_missing_is_asked_for_and_read_once_it_is_there(parser: Parser) -> None:
    data = wave_bytes(seconds=1, junk=100_000)
    parser.tell(Describe(1, None, len(data), 4096, whole=True), data)
    asked = []
    while isinstance(said := parser.next(), BytesNeeded):
        asked.append((said.start, said.end))
        parser.tell(BytesThere(1, said.start, said.end))
    assert isinstance(said, Described)
    assert said.details.info.sample_rate == 44_100
    assert asked
    assert sum(end - start for start, end in asked) < len(data) // 2


def test_the_front_alone_is_never_more_than_the_front(parser: Parser) -> None:
    data = wave_bytes(seconds=4)
    parser.tell(Describe(1, "audio/wav", len(data), FRONT, whole=False), data[:FRONT])
    said = parser.next()
    assert isinstance(said, Described)
    assert said.details.info.sample_rate == 44_100


def test_a_job_that_was_forgotten_ends_without_a_word(parser: Parser) -> None:
    data = wave_bytes(seconds=1, junk=100_000)
    parser.tell(Describe(1, None, len(data), 4096, whole=True), data)
    assert isinstance(parser.next(), BytesNeeded)
    parser.tell(ForgetJob(1))
    parser.tell(Describe(2, None, len(data), len(data), whole=True), data)
    said = parser.next()
    assert isinstance(said, Described)
    assert said.job == 2


def test_a_job_that_was_forgotten_while_it_ran_asks_for_nothing(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on = threading.Event(), threading.Event()

    def describe(file: BinaryIO, info: MediaInfo, *, whole: bool) -> MediaDetails:
        running.set()
        assert go_on.wait(HANG)
        file.seek(100_000)
        return MediaDetails(remark=str(file.read(1)))

    data = wave_bytes(seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(module, "describe", describe)
        parser.tell(Describe(1, None, len(data), 4096, whole=True), data)
        assert running.wait(HANG)
        parser.tell(ForgetJob(1))
        go_on.set()
        parser.settle()
    assert parser.said == []


def test_jobs_that_wait_for_bytes_keep_nobody_waiting(parser: Parser) -> None:
    data = wave_bytes(seconds=1, junk=100_000)
    for number in range(1, 21):
        parser.tell(Describe(number, None, len(data), 4096, whole=True), data)
        assert isinstance(parser.next(), BytesNeeded)
    parser.tell(Describe(99, None, len(data), len(data), whole=True), data)
    said = parser.next()
    assert isinstance(said, Described)
    assert said.job == 99
    for number in range(1, 21):
        parser.tell(ForgetJob(number))


def test_an_answer_to_another_question_is_none(parser: Parser) -> None:
    data = wave_bytes(seconds=1, junk=100_000)
    parser.tell(Describe(1, None, len(data), 4096, whole=True), data)
    while isinstance(said := parser.next(), BytesNeeded):
        # Meant for a process before this one, which had come further.
        parser.tell(BytesThere(1, said.start + 1, said.start))
        parser.tell(BytesThere(1, said.start, said.end))
    assert isinstance(said, Described)
    assert said.details.info.sample_rate == 44_100


def test_of_an_unknown_length_nothing_is_made_that_depends_on_it(parser: Parser) -> None:
    data = wave_bytes(seconds=1)
    parser.tell(Describe(1, "audio/wav", None, 4096, whole=False), data[:4096])
    said = parser.next()
    assert isinstance(said, Described)
    info = said.details.info
    assert (info.sample_rate, info.duration, info.bitrate) == (44_100, None, None)


def test_no_descriptor_is_a_remark(parser: Parser) -> None:
    parser.tell(Describe(1, None, 10, 10, whole=True))
    said = parser.next()
    assert isinstance(said, Described)
    assert "descriptor" in str(said.details.remark)
