"""A track that fails costs a line and nothing else: what was decoded of it is heard, and the next one plays."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import pytest
from player_kit import Scripted, player_of, reference, sound_file, tracks

from kithara_actors import ActorSystem
from kithara_actors.command.player import threads
from kithara_actors.command.player.decoder import SourceFile
from kithara_actors.command.player.tracks import Track
from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long

GOOD = sound_file("flac", 1)
TEXT = b"This is a text and no music, whatever its name says.\n" * 400
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsegment.ts\n#EXT-X-ENDLIST\n"


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, max_retries=0) as system:
        yield system


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with files that no track may lead to."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.flac").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path / "here")


@dataclass
class Outcome:
    """Of a bad track between two good ones."""

    text: str
    sound: bytes
    order: list[int] = field(default_factory=list)


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No decoder writes to the terminal."""
    yield
    assert capfd.readouterr() == ("", "")


def among_good_ones(system: ActorSystem, origin: Origin, bad: Track) -> Outcome:
    good = [origin.add(f"/good{number}.flac", Resource(data=GOOD)) for number in range(2)]
    output = Scripted()
    player, heard = player_of(system, [*tracks(good[0]), bad, *tracks(good[1])], output)
    assert player.run() == 1
    [(shown, text)] = heard.failures
    assert shown == bad.shown
    assert "\n" not in text
    assert len(heard.started) == len(heard.ended)
    sound, expected = bytes(output.sound), reference(GOOD)
    assert sound[: len(expected)] == expected
    assert sound[-len(expected) :] == expected
    return Outcome(text, sound[len(expected) : -len(expected)], heard.order)


def picture() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    return out.getvalue()


NOT_AUDIO = "is not audio that can be decoded: it seems to be "
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "text.mp3": (lambda: TEXT, f"{NOT_AUDIO}text; check the "),
    "zeros.mp3": (lambda: bytes(100_000), f"{NOT_AUDIO}nothing but zeros; check the "),
    "noise.mp3": (lambda: bytes(range(128, 256)) * 500, NOT_AUDIO),
    "picture.jpg": (lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(5_000), f"{NOT_AUDIO}a JPEG image; check the "),
    "cut.m4a": (
        lambda: sound_file("m4a")[:20_000],
        "is not audio that can be decoded: an MP4 file without a movie box",
    ),
    "empty.mp3": (lambda: b"", "is empty; check the "),
    "segments.mp3": (lambda: HLS, "is a playlist and not audio: "),
    "silent.mp4": (picture, "holds no sound"),
    "list.mp3": (lambda: b"ffconcat version 1.0\nfile other.flac\n", NOT_AUDIO),
    "text.txt": (lambda: TEXT, NOT_AUDIO),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("remote", [True, False], ids=["url", "path"])
def test_what_is_no_audio(system: ActorSystem, origin: Origin, tmp_path: Path, name: str, remote: bool) -> None:
    make, words = BAD[name]
    (tmp_path / name).write_bytes(make())
    source = str(tmp_path / name)
    if remote:
        source = origin.add(f"/{name}", Resource(data=make(), content_type="application/octet-stream"))
    found = among_good_ones(system, origin, Track(source, name))
    assert found.text.startswith(words)
    if words.endswith("check the "):
        assert found.text == words + ("URL" if remote else "path")
    assert found.sound == b""
    assert found.order == [0, 2]


def test_what_is_of_no_kind_is_not_looked_at_to_its_end(system: ActorSystem, tmp_path: Path) -> None:
    with (tmp_path / "a.mp3").open("wb") as file:
        file.truncate(1_000_000_000)
    read: list[int] = []
    player, heard = player_of(system, tracks(str(tmp_path / "a.mp3")), Scripted())

    class Counted(SourceFile):
        def read(self, size: int) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "SourceFile", Counted)
        assert player.run() == 1
    assert heard.failures == [("a.mp3", f"{NOT_AUDIO}nothing but zeros; check the path")]
    assert 0 < sum(read) < 5_000_000


def test_what_cannot_be_opened(system: ActorSystem, origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.mp3")
    bad = {
        str(tmp_path / "missing.mp3"): "there is no such file; check the path",
        str(tmp_path / "folder"): "is a directory: name the files in it",
        str(tmp_path / "pipe.mp3"): f"{tmp_path / 'pipe.mp3'} is not a regular file",
        origin.base + "/dead.mp3?token=secret": "the server answered 404 Not Found; check the URL",
        origin.add("/page.mp3", Resource(always=Fault(html=True))): "open it in a browser",
        "http://127.0.0.1:1/a.mp3": "check the host, the port and the network",
    }
    wanted = [*tracks(*bad), Track("ftp://host/x", "x", refused="refused: because")]
    player, heard = player_of(system, wanted, Scripted())
    assert player.run() == len(bad) + 1
    texts = dict(zip(bad, (text for _, text in heard.failures), strict=False))
    for source, words in bad.items():
        assert words in texts[source]
    assert heard.failures[-1] == ("x", "refused: because")
    assert not any("secret" in text for text in texts.values())
    assert heard.started == []


@pytest.mark.parametrize("suffix", ["flac", "mp3", "wav"])
def test_a_file_that_is_cut_short_is_heard_as_far_as_it_goes(system: ActorSystem, origin: Origin, suffix: str) -> None:
    data = sound_file(suffix, 12)
    part = data[: len(data) // 4]
    url = origin.add(f"/a.{suffix}", Resource(data=part, content_type="application/octet-stream"))
    found = among_good_ones(system, origin, Track(url, "a"))
    assert found.text in (f"ends after 0:0{at} of 0:12: the file is cut short" for at in (2, 3))
    whole = reference(data)
    assert len(found.sound) == pytest.approx(len(whole) / 4, rel=0.2)
    assert found.sound[: len(found.sound) - 20_000] == whole[: len(found.sound) - 20_000]
    assert found.order == [0, 1, 2]


def test_a_wrong_guess_of_the_duration_is_no_cut(system: ActorSystem, origin: Origin) -> None:
    # FFmpeg takes the rate of the first frames for that of all: by that it would last a minute.
    data = sound_file("mp3", 1, bit_rate=32_000, xing=False) + sound_file("mp3", 6, bit_rate=320_000, xing=False)
    player, heard = player_of(system, tracks(origin.add("/a.mp3", Resource(data=data))), Scripted())
    assert player.run() == 0
    assert heard.failures == []
    assert heard.ended[0].position == pytest.approx(7, abs=0.2)


def test_a_download_that_fails_in_the_middle(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("flac", 10)
    url = origin.add("/a.flac", Resource(data=data, always=Fault(cut_after=len(data) // 2), ranges=False))
    found = among_good_ones(system, origin, Track(url, "a.flac"))
    assert found.text.endswith("check the host, the port and the network, or try later with more --retries")
    whole = reference(data)
    assert len(found.sound) == pytest.approx(len(whole) / 2, rel=0.2)
    assert whole.startswith(found.sound)
    assert found.order == [0, 1, 2]


def test_every_track_fails(system: ActorSystem, origin: Origin) -> None:
    output = Scripted()
    player, heard = player_of(system, tracks(*[f"{origin.base}/{number}.mp3" for number in range(12)]), output)
    assert player.run() == 12
    assert len(heard.failures) == 12
    assert not output.finished
    assert output.closed


def test_an_error_of_the_player_itself_is_one_line(
    system: ActorSystem, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kithara_actors.command.player import decoder

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(decoder.Decoding, "_facts", broken)
    player, heard = player_of(system, tracks(origin.add("/a.flac", Resource(data=GOOD))), Scripted())
    assert player.run() == 1
    assert heard.failures == [("a.flac", "internal error: RuntimeError: a mistake; please report it")]
