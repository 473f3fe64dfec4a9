"""soundfile, miniaudio and mutagen read from a server at 2 Mbit/s what they read from the file."""

from __future__ import annotations

import pytest
from formats import FORMATS, SECONDS, TAGS, Format
from formats_run import Runs

pytestmark = [
    pytest.mark.nginx,
    pytest.mark.ffmpeg,
    pytest.mark.timeout(400),
]


def read_by(library: str) -> pytest.MarkDecorator:
    """One test for each format that the library knows."""
    known = [each for each in FORMATS if library in each.readers]
    return pytest.mark.parametrize("each", known, ids=[each.name for each in known])


@read_by("soundfile")
def test_soundfile_reads_the_samples_of_the_file(format_runs: Runs, each: Format) -> None:
    run = format_runs.of(each, "soundfile")
    assert run.found == format_runs.expected(each, "soundfile")
    assert run.found.samples > 16_000 * SECONDS * 0.99
    assert run.troubles == []


@read_by("miniaudio")
def test_miniaudio_reads_the_samples_of_the_file(format_runs: Runs, each: Format) -> None:
    run = format_runs.of(each, "miniaudio")
    assert run.found == format_runs.expected(each, "miniaudio")
    # It resamples to 44.1 kHz.
    assert run.found.samples == pytest.approx(44_100 * SECONDS, rel=0.01)
    assert run.troubles == []


@read_by("mutagen")
def test_mutagen_reads_the_tags_of_the_file(format_runs: Runs, each: Format) -> None:
    found = format_runs.of(each, "mutagen").found
    assert found == format_runs.expected(each, "mutagen")
    if not each.name.startswith(("mp4-fragments", "mp4-no-index", "mp4-sidx")):
        # mutagen finds no length in fragments.
        assert found["length"] == pytest.approx(SECONDS, rel=0.05)
    if each.name not in ("wav", "adts"):
        # ffmpeg writes tags into these in a form that mutagen does not read, or none.
        assert {name: found["tags"].get(name) for name in TAGS} == {name: [value] for name, value in TAGS.items()}
    assert len(found["pictures"]) == (1 if each.cover else 0)
