"""PyAV plays and seeks every format from a server at 2 Mbit/s as it does from the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from formats import FORMATS, SECONDS, Format, boxes
from formats_jobs import SHARES
from formats_run import Runs

pytestmark = [
    pytest.mark.nginx,
    pytest.mark.ffmpeg,
    # The first test that runs makes the recordings and plays them all, in a minute and a half.
    pytest.mark.timeout(400),
]

Record = Callable[[str, object], None]

EARLY = 1_000_000
"""Bytes of which the first samples may be made, unless a tenth of the file is more."""


def having(*jobs: str) -> pytest.MarkDecorator:
    """One test for each format and job."""
    pairs = [(each, job) for each in FORMATS for job in jobs if job in each.jobs]
    return pytest.mark.parametrize(("each", "job"), pairs, ids=[f"{each.name}-{job}" for each, job in pairs])


def named(name: str) -> Format:
    return next(each for each in FORMATS if each.name == name)


@having("memory", "disk")
def test_all_samples_are_those_of_the_file(format_runs: Runs, each: Format, job: str) -> None:
    run, expected = format_runs.of(each, job), format_runs.expected(each, job)
    assert run.found == expected
    assert expected.samples >= expected.rate * SECONDS
    assert run.troubles == []


@having("first")
def test_the_first_samples_come_early(format_runs: Runs, each: Format, job: str, record_property: Record) -> None:
    run = format_runs.of(each, job)
    assert run.begun is not None
    record_property("size", run.size)
    record_property("landed", run.begun.landed)
    record_property("requests", run.requests)
    assert run.found == format_runs.expected(each, job)
    assert run.found.samples > 0
    assert run.begun.landed < max(run.size // 10, EARLY)


@pytest.mark.parametrize("name", ["m4a-last", "mp4-last", "mp4-last-large", "alac"])
def test_an_index_at_the_end_takes_three_requests_at_most(format_runs: Runs, name: str) -> None:
    each = named(name)
    (*_, last) = boxes(format_runs.paths[name])
    assert last[0] == "moov"
    assert (last[1] > 64 * 1024) == (name in ("mp4-last-large", "alac"))
    for job in ("memory", "disk"):
        assert len(format_runs.of(each, job).requests) in (2, 3)


@having("seek")
def test_seeks_by_time_give_the_samples_of_the_file(
    format_runs: Runs, each: Format, job: str, record_property: Record
) -> None:
    run = format_runs.of(each, job)
    record_property("requests", run.requests)
    assert run.found == format_runs.expected(each, job)
    start, *reached = run.found
    assert start.first < 0.1
    for share, sound in zip(SHARES, reached, strict=True):
        # Where there is no index FFmpeg goes by the bit rate.
        assert abs(sound.first - share * SECONDS) < 0.05 * SECONDS
        assert sound.samples > sound.rate
    assert run.troubles == []


@having("memory", "disk", "seek", "soundfile", "miniaudio", "mutagen")
def test_nothing_is_asked_for_that_has_landed(
    format_runs: Runs, each: Format, job: str, record_property: Record
) -> None:
    run = format_runs.of(each, job)
    record_property("sent", run.sent)
    record_property("requests", run.requests)
    assert run.asked_again == []
    assert run.brought == run.size
    # What was under way in a transfer that was cut is sent in vain.
    assert run.size <= run.sent < 1.25 * run.size
    assert len(run.requests) <= 16


@having("memory", "disk", "miniaudio")
def test_who_reads_from_front_to_end_asks_little(format_runs: Runs, each: Format, job: str) -> None:
    # One request for the file, one for what is at its end, one to go on behind what that was cut for.
    assert len(format_runs.of(each, job).requests) <= 3


def test_fragments_without_an_index_are_all_visited(format_runs: Runs, record_property: Record) -> None:
    each = named("mp4-fragments")
    kinds = [kind for kind, _ in boxes(format_runs.paths[each.name])]
    assert "sidx" not in kinds
    assert "mfra" not in kinds
    assert kinds.count("moof") > 60
    for job in ("memory", "seek"):
        run = format_runs.of(each, job)
        assert run.begun is not None
        for name in ("landed", "reads", "read", "seeks"):
            record_property(f"{job} {name}", getattr(run.begun, name))
        record_property(f"{job} requests", run.requests)
        # FFmpeg's choice, which the next test shows how to avoid; each step is short, so one request serves them all.
        assert run.begun.seeks > kinds.count("moof")
        assert len(run.requests) == 1


def test_fragments_play_at_once_without_an_index(format_runs: Runs, record_property: Record) -> None:
    each = named("mp4-no-index")
    assert boxes(format_runs.paths[each.name]) == boxes(format_runs.paths["mp4-fragments"])
    run = format_runs.of(each, "memory")
    assert run.begun is not None
    record_property("landed", run.begun.landed)
    assert run.begun.reads <= 4
    assert run.found == format_runs.expected(named("mp4-fragments"), "memory")


def test_fragments_with_an_index_need_no_walk(format_runs: Runs, record_property: Record) -> None:
    each = named("mp4-sidx")
    kinds = [kind for kind, _ in boxes(format_runs.paths[each.name])]
    assert kinds.count("sidx") == 1
    assert kinds.index("sidx") < kinds.index("moof")
    run = format_runs.of(each, "seek")
    assert run.begun is not None
    record_property("landed", run.begun.landed)
    record_property("reads", run.begun.reads)
    record_property("requests", run.requests)
    assert run.begun.reads <= 4
    assert len(format_runs.of(each, "memory").requests) == 1


def test_the_formats_are_what_they_are_said_to_be(formats: Mapping[str, Path]) -> None:
    assert len(formats) == len(FORMATS)
    heads = {name: path.read_bytes()[:200_000] for name, path in formats.items()}
    assert b"Xing" in heads["mp3-vbr"]
    assert b"Info" in heads["mp3-cbr"]
    assert not any(mark in heads["mp3-no-xing"] for mark in (b"Xing", b"Info", b"VBRI"))
    for name in ("m4a-first", "mp4-first"):
        kinds = [kind for kind, _ in boxes(formats[name])]
        assert kinds.index("moov") < kinds.index("mdat")
    for name in ("m4a-last", "mp4-last", "mp4-last-large", "alac"):
        kinds = [kind for kind, _ in boxes(formats[name])]
        assert kinds.index("moov") > kinds.index("mdat")
    assert all(path.stat().st_size > 2_500_000 for path in formats.values())
