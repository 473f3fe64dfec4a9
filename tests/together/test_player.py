"""The player plays what a decoder makes of the file, while the file downloads."""

from __future__ import annotations

import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import mutagen.id3
import pytest
from player_kit import Scripted, player_of, reference, sound_file, tracks, until

from kithara_actors import ActorSystem
from kithara_actors.command.player.outputs import null_output, wav_output
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.errors import ReadTimeout
from kithara_actors.stream.reader import Stream
from kithara_actors.testing.origin import Fault, Origin, Resource, Seen

pytestmark = pytest.mark.long


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1) as system:
        yield system


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def sound_of(path: Path) -> tuple[int, int, bytes]:
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        return file.getframerate(), file.getnchannels(), file.readframes(file.getnframes())


@pytest.mark.parametrize("suffix", ["flac", "m4a", "mp3", "ogg", "wav"])
def test_the_wav_file_holds_what_a_decoder_makes_of_it(
    system: ActorSystem, origin: Origin, tmp_path: Path, suffix: str
) -> None:
    # FFmpeg looks at 130 kB of Ogg before it begins.
    data = sound_file(suffix, 30 if suffix == "ogg" else 6)
    gate = threading.Event()
    at_its_end = suffix == "m4a"  # the table of contents
    # For that of Ogg FFmpeg looks at the end; what lies between is the third answer.
    held = None if at_its_end else Fault(hold=gate, hold_after=len(data) // 3)
    url = origin.add(f"/a.{suffix}", Resource(data=data, always=held))
    downloaded: list[tuple[int, int | None]] = []

    def started(playing: Playing) -> None:
        downloaded.append((playing.downloaded, playing.length))
        gate.set()

    player, heard = player_of(system, tracks(url), wav_output(str(tmp_path / "out.wav")))
    player._on_start = started
    assert player.run() == 0
    rate = 48_000 if suffix == "ogg" else 44_100
    assert sound_of(tmp_path / "out.wav") == (rate, 2, reference(data, rate))
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    assert heard.failures == []
    if not at_its_end:
        assert downloaded[0][0] < len(data) == downloaded[0][1], "sound came before the file was there"
    last = player.now()
    assert last is not None
    assert last.position == pytest.approx(len(reference(data, rate)) / 4 / rate)
    assert (last.downloaded, last.length, last.speed, last.waiting) == (len(data), len(data), None, False)


def test_local_files_play(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(sound_file("flac"))
    output = Scripted()
    player, heard = player_of(system, tracks(str(tmp_path / "a.flac")), output)
    assert player.run() == 0
    assert output.sound == reference(sound_file("flac"))
    assert output.finished
    assert output.closed
    assert heard.started[0].container == "Flac"
    assert heard.started[0].duration == 6


def test_later_tracks_are_turned_into_the_format_of_the_first(
    system: ActorSystem, origin: Origin, tmp_path: Path
) -> None:
    first, second, third = sound_file("flac", 2, 22_050, "mono"), sound_file("mp3", 2), sound_file("ogg", 2)
    urls = [origin.add(f"/{number}", Resource(data=data)) for number, data in enumerate((first, second, third))]
    player, heard = player_of(system, tracks(*urls), wav_output(str(tmp_path / "out.wav")))
    assert player.run() == 0
    expected = b"".join(reference(data, 22_050, "mono") for data in (first, second, third))
    assert sound_of(tmp_path / "out.wav") == (22_050, 1, expected), "no gap between them either"
    assert heard.order == [0, 1, 2]
    assert [playing.index for playing in heard.ended] == [0, 1, 2]
    assert [playing.sample_rate for playing in heard.ended] == [22_050, 44_100, 48_000]
    assert [playing.position for playing in heard.ended] == pytest.approx([2, 2, 2], abs=0.05)


def test_six_channels_become_two(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("flac", 1, 44_100, "5.1")
    output = Scripted()
    player, heard = player_of(system, tracks(origin.add("/a.flac", Resource(data=data))), output)
    assert player.run() == 0
    assert output.form == (44_100, 2)
    assert output.sound == reference(data)
    assert heard.started[0].channels == 6


def test_plain_samples_are_heard_before_a_second_of_them_is_there(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("wav", 10)
    stalls = Fault(stall_after=150_000)
    url = origin.add("/a.wav", Resource(data=data, content_type="audio/wav", always=stalls))
    player, heard = player_of(system, tracks(url), Scripted(lambda: player.quit()))
    assert player.run() == 0
    assert heard.order == [0]


def test_fragments_are_heard_before_all_of_them_are_there(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("mp4", 20)
    assert b"moof" in data
    assert b"sidx" not in data
    stalls = Fault(stall_after=len(data) // 2)
    url = origin.add("/a.mp4", Resource(data=data, content_type="audio/mp4", always=stalls))
    player, heard = player_of(system, tracks(url), Scripted(lambda: player.quit()))
    assert player.run() == 0
    assert heard.order == [0]


def test_fragments_without_an_index_sound_as_with_one(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("mp4", 5)
    url = origin.add("/a.mp4", Resource(data=data, content_type="audio/mp4", rate=100_000))
    output = Scripted()
    player, _ = player_of(system, tracks(url), output)
    assert player.run() == 0
    assert output.sound == reference(data)


def test_no_tracks_are_over_at_once(system: ActorSystem) -> None:
    player, _ = player_of(system, [], null_output())
    assert player.now() is None
    assert player.run() == 0


def test_the_next_track_is_asked_for_when_this_one_is_there(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("wav", 40, 8_000, "mono")
    resource = Resource(data=data, content_type="audio/wav", rate=2 * len(data))
    one, two, three = (origin.add(f"/{name}.wav", resource) for name in (1, 2, 3))
    seen_at: list[list[str]] = []

    def asked(seen: list[Seen]) -> bool:
        # Called at every change: the first time that there are two is when the second came.
        if len(seen) == 2 and not seen_at:
            # What was sent last may not be noted yet.
            seen_at.append([each.path for each in seen if each.sent > len(data) * 3 // 4])
        return len(seen) > 1

    def then() -> None:
        if output.seconds < 1:
            # Far from its end, so that only its being there is a reason.
            assert origin.wait_for(asked)
        elif output.seconds < 39:
            assert not any(each.path == "/3.wav" for each in origin.requests)

    output = Scripted(then)
    player, heard = player_of(system, tracks(one, two, three), output)
    assert player.run() == 0
    assert seen_at == [["/1.wav"]]
    assert output.sound == reference(data, 8_000, "mono") * 3
    assert heard.order == [0, 1, 2]
    assert [seen.path for seen in origin.requests] == ["/1.wav", "/2.wav", "/3.wav"]


def test_the_next_track_is_asked_for_half_a_minute_before_the_end(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("wav", 40, 8_000, "mono")
    stalls = Fault(stall_after=len(data) * 3 // 4)
    one = origin.add("/1.wav", Resource(data=data, content_type="audio/wav", always=stalls))
    two = origin.add("/2.wav", Resource(data=data, content_type="audio/wav"))
    early: list[str] = []

    def then() -> None:
        if output.seconds < 9.9:
            early.extend(seen.path for seen in origin.requests if seen.path == "/2.wav")
        elif output.seconds > 11:
            assert origin.wait_for(lambda seen: any(each.path == "/2.wav" for each in seen))
            player.quit()

    output = Scripted(then)
    player, _ = player_of(system, tracks(one, two), output)
    player.run()
    assert early == []
    assert output.seconds < 12, "it was asked for while the first still came"


def test_what_is_known_of_a_track(system: ActorSystem, origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(sound_file("mp3", tags=True))
    file = mutagen.id3.ID3(path)
    file.add(mutagen.id3.APIC(mime="image/png", type=3, data=b"\x89PNG\r\n\x1a\n" + bytes(100)))
    file.save()
    url = origin.add("/a.mp3", Resource(data=path.read_bytes(), rate=len(path.read_bytes())))
    seen: list[Playing] = []

    def then() -> None:
        if not seen:
            until(player, lambda: (player.now() or heard.started[0]).cover is not None)
            playing = player.now()
            assert playing is not None
            seen.append(playing)

    output = Scripted(then)
    player, heard = player_of(system, [Track(url, "a.mp3", title="from the list")], output)
    assert player.run() == 0
    playing = seen[0]
    assert (playing.title, playing.artist, playing.album) == ("Sweep", "Tester", "Recordings")
    assert playing.cover is not None
    assert (playing.cover.mime, playing.cover.size) == ("image/png", 108)
    assert (playing.codec, playing.container, playing.channels) == ("Mp3", "MpegAudio", 2)
    assert (playing.sample_rate, playing.duration) == (44_100, 6)
    assert playing.bitrate == pytest.approx(128_000, rel=0.05)
    assert (playing.index, playing.count, playing.track.shown) == (0, 1, "a.mp3")


def test_tags_that_cannot_be_had_otherwise_come_from_the_decoder(
    system: ActorSystem, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(stream: Stream, timeout: float | None = None) -> None:
        raise ReadTimeout("no answer")

    monkeypatch.setattr(Stream, "inspect", fails)
    tagged = origin.add("/a.ogg", Resource(data=sound_file("ogg", 1, tags=True)))
    plain = Track(origin.add("/b.ogg", Resource(data=sound_file("ogg", 1))), "b.ogg", title="from the list")
    player, heard = player_of(system, [*tracks(tagged), plain], null_output())
    assert player.run() == 0
    assert [(playing.title, playing.artist) for playing in heard.ended] == [
        ("Sweep", "Tester"),
        ("from the list", None),
    ]


@pytest.mark.parametrize("suffix", ["flac", "m4a", "mp3", "ogg", "wav"])
def test_a_codec_has_one_name(
    system: ActorSystem, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(sound_file(suffix, 1))
    with system.open(str(path)) as stream:
        codec = stream.inspect(30).info.codec
    assert codec is not None

    def fails(stream: Stream, timeout: float | None = None) -> None:
        raise ReadTimeout("no answer")

    # What FFmpeg says is all there is until the parsing process has answered.
    monkeypatch.setattr(Stream, "inspect", fails)
    monkeypatch.setattr(Stream, "media_info", None)
    player, heard = player_of(system, tracks(str(path)), null_output())
    assert player.run() == 0
    assert heard.ended[0].codec == codec.value


def test_headers_go_where_they_may(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("mp3", 1)
    mine = Track(origin.add("/mine.mp3", Resource(data=data)), "mine.mp3")
    other = Track(origin.add("/other.mp3", Resource(data=data)), "other.mp3", credentials=False)
    headers = {"Authorization": "Bearer s3cret", "User-Agent": "tester"}
    player, _ = player_of(system, [mine, other], null_output(), headers)
    assert player.run() == 0
    first, second = (
        {name: seen.headers.get(name) for name in ("authorization", "user-agent")} for seen in origin.requests
    )
    assert first == {"authorization": "Bearer s3cret", "user-agent": "tester"}
    assert second == {"authorization": None, "user-agent": "tester"}
