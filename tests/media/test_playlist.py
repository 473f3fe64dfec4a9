"""What the sources of `kithara play` stand for: playlists of every spelling, and what they may not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kithara_actors import ActorSystem
from kithara_actors.command.explain import CommandError
from kithara_actors.command.player.playlist import tracks_of
from kithara_actors.command.player.tracks import Track
from kithara_actors.testing.origin import Fault, Origin, Resource


@pytest.fixture(scope="module")
def system() -> Iterator[ActorSystem]:
    """For what needs no network: what was fetched is let go of a little after the test."""
    with ActorSystem.start(workers=1) as system:
        yield system


@pytest.fixture
def online() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, max_retries=0) as system:
        yield system


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def text(data: str | bytes, content_type: str = "audio/x-mpegurl") -> Resource:
    return Resource(data=data.encode() if isinstance(data, str) else data, content_type=content_type)


def of(system: ActorSystem, *sources: str | Path, headers: dict[str, str] | None = None) -> list[Track]:
    return tracks_of(system, [str(source) for source in sources], headers or {})


def names(tracks: list[Track]) -> list[str]:
    return [track.source for track in tracks]


# --- Without a playlist


def test_paths_become_absolute(system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "a b.mp3").write_bytes(b"x")
    found = of(system, "a b.mp3", "~/c.mp3", (tmp_path / "a b.mp3").as_uri(), "file://localhost/x.mp3", "../d.mp3")
    assert names(found) == [
        str(tmp_path / "a b.mp3"),
        str(tmp_path / "home" / "c.mp3"),
        str(tmp_path / "a b.mp3"),
        "/x.mp3",
        str(tmp_path.parent / "d.mp3"),
    ]
    assert [track.shown for track in found] == [
        "a b.mp3",
        "~/c.mp3",
        (tmp_path / "a b.mp3").as_uri(),
        "file://localhost/x.mp3",
        "../d.mp3",
    ]
    assert [track.name for track in found] == ["a b.mp3", "c.mp3", "a b.mp3", "x.mp3", "d.mp3"]
    assert all(track.refused is None for track in found), "what does not exist fails in its turn"


def test_the_home_of_nobody_is_a_name_like_others(system: ActorSystem, tmp_path: Path) -> None:
    [track] = of(system, "~nosuchuser/a.mp3")
    assert track.source == f"{Path.cwd()}/~nosuchuser/a.mp3"
    assert track.shown == "~nosuchuser/a.mp3"


def test_url_with_a_name_of_sound_is_not_asked_for(online: ActorSystem, origin: Origin) -> None:
    url = origin.base.replace("//", "//user:pass@") + "/a.mp3?token=secret"
    [track] = of(online, url)
    assert track.source == url
    assert "secret" not in track.shown
    assert "pass" not in track.shown
    assert origin.requests == []


def test_url_without_such_a_name_is_looked_at(online: ActorSystem, origin: Origin) -> None:
    url = origin.add("/stream", Resource(size=3_000_000, rate=2_000_000))
    assert of(online, url) == [Track(url, url)]
    assert [seen.range for seen in origin.requests] == [(0, 9)], "only its front"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{tmp}", "is a directory: name the files in it"),
        ("ftp://host/a.mp3", "the URL scheme 'ftp' is not served"),
        ("http://", "names no host"),
        ("file://otherhost/a.mp3", "file:///directory/name"),
        ("", "give a URL or a path"),
    ],
)
def test_what_can_be_no_source(system: ActorSystem, tmp_path: Path, source: str, words: str) -> None:
    source = source.format(tmp=tmp_path)
    with pytest.raises(CommandError, match=words):
        of(system, source)
    # Among others it is one track that fails.
    bad, good = of(system, source, tmp_path / "a.mp3")
    assert bad.refused is not None
    assert words in bad.refused
    assert good.refused is None


# --- Local playlists


def test_local_playlist_names_files_beside_it_and_urls(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "list.m3u").write_bytes(
        b"\xef\xbb\xbf#EXTM3U\r\n\r\n# a comment\r\n#EXTINF:12,Tester - \xc3\x84rger\r\nsub/a.mp3\r\n"
        b'#EXTINF:-1 tvg-name="x, y" group="z",Radio, live\r\nhttp://host/b c.mp3?k=v\r\n/abs/d.mp3\r\n'
        b"  ../e.mp3  \r\n#EXTINF:5\r\nf.mp3"
    )
    found = of(system, tmp_path / "list.m3u")
    assert [(track.source, track.title) for track in found] == [
        (str(tmp_path / "sub" / "a.mp3"), "Tester - Ärger"),
        ("http://host/b%20c.mp3?k=v", "Radio, live"),
        ("/abs/d.mp3", None),
        (str(tmp_path.parent / "e.mp3"), None),
        (str(tmp_path / "f.mp3"), None),
    ]
    assert found[1].shown == "http://host/b%20c.mp3?k=…"
    assert all(track.credentials for track in found), "the user's own file"


def test_latin_1_and_control_characters(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "old.m3u").write_bytes(b"#EXTINF:1,\xc4rger \x1b[31m\ncaf\xe9.mp3\n")
    [track] = of(system, tmp_path / "old.m3u")
    assert track.title == "Ärger [31m"
    assert track.source == str(tmp_path / "café.mp3")


def test_entries_are_called_what_the_list_calls_them(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "list.m3u").write_text("a.mp3\n../other/a.mp3\n/abs/a.mp3\n")
    found = of(system, tmp_path / "list.m3u")
    assert [track.shown for track in found] == ["a.mp3", "../other/a.mp3", "/abs/a.mp3"]


def test_first_line_makes_a_playlist_of_what_the_user_names(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "unnamed").write_bytes(b"\xef\xbb\xbf#EXTM3U\na.mp3\n")
    (tmp_path / "text").write_text("a.mp3\n")
    (tmp_path / "list.m3u").write_text("unnamed\n")
    assert names(of(system, tmp_path / "list.m3u")) == [str(tmp_path / "unnamed")]
    assert names(of(system, tmp_path / "unnamed", tmp_path / "text")) == [
        str(tmp_path / "a.mp3"),
        str(tmp_path / "text"),
    ]


def test_missing_playlist_fails_as_a_track(system: ActorSystem, tmp_path: Path) -> None:
    assert names(of(system, tmp_path / "none.m3u")) == [str(tmp_path / "none.m3u")]


@pytest.mark.parametrize("data", ["", "#EXTM3U\n", "\n\n# only a comment\n"])
def test_empty_playlist(system: ActorSystem, tmp_path: Path, data: str) -> None:
    (tmp_path / "list.m3u").write_text(data)
    with pytest.raises(CommandError, match=r"/list\.m3u: holds no tracks$"):
        of(system, tmp_path / "list.m3u")


@pytest.mark.parametrize("line", ["#EXT-X-TARGETDURATION:6", "#EXT-X-STREAM-INF:BANDWIDTH=1280000"])
def test_hls_is_refused(system: ActorSystem, tmp_path: Path, line: str) -> None:
    (tmp_path / "hls.m3u8").write_text(f"#EXTM3U\n{line}\nsegment0.ts\n")
    with pytest.raises(CommandError, match=r"hls\.m3u8: is an HLS playlist, a stream in segments and not a list"):
        of(system, tmp_path / "hls.m3u8")
    # Among others it is one track that fails.
    (tmp_path / "list.m3u").write_text("a.mp3\nhls.m3u8\nb.mp3\n")
    one, two, three = of(system, tmp_path / "list.m3u")
    assert (one.refused, three.refused) == (None, None)
    assert two.refused is not None
    assert "HLS" in two.refused


def test_playlists_in_playlists(system: ActorSystem, tmp_path: Path) -> None:
    for depth in range(6):
        (tmp_path / f"{depth}.m3u").write_text(f"{depth}.mp3\n{depth + 1}.m3u\n")
    (tmp_path / "6.m3u").mkdir()
    found = of(system, tmp_path / "0.m3u")
    assert names(found) == [*(str(tmp_path / f"{depth}.mp3") for depth in range(6)), str(tmp_path / "6.m3u")]
    (tmp_path / "6.m3u").rmdir()
    (tmp_path / "6.m3u").write_text("6.mp3\n")
    *good, deep = of(system, tmp_path / "0.m3u")
    assert (len(good), deep.shown) == (6, "6.m3u")
    assert deep.refused is not None
    assert "more than 5 deep" in deep.refused


def test_a_cycle_is_named_and_the_rest_plays(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "a.m3u").write_text("x.mp3\nb.m3u\ny.mp3\n")
    (tmp_path / "b.m3u").symlink_to("c.m3u")
    (tmp_path / "c.m3u").write_text("a.m3u\n")
    one, two, three = of(system, tmp_path / "a.m3u")
    assert (one.refused, three.refused) == (None, None)
    assert two.refused is not None
    assert two.refused.startswith("the playlist leads back to itself (/")
    assert two.refused.endswith("/a.m3u → b.m3u → a.m3u): remove that entry")


def refusal(system: ActorSystem, bad: Path, good: Path) -> str:
    """Why `bad` is refused, alone and before one that plays."""
    with pytest.raises(CommandError) as caught:
        of(system, bad)
    one, two = of(system, bad, good)
    assert two.refused is None
    assert str(caught.value) == f"{bad}: {one.refused}"
    return str(caught.value)


def test_limits(system: ActorSystem, tmp_path: Path) -> None:
    good, many = tmp_path / "good.mp3", tmp_path / "many.m3u"
    many.write_text("a.mp3\n" * 10_001)
    assert "more than 10,000 tracks" in refusal(system, many, good)
    many.write_text("a.mp3\n" * 10_000)
    assert len(of(system, many)) == 10_000
    (tmp_path / "large.m3u").write_text("#" * (4 * 1024 * 1024) + "\na.mp3\n")
    assert "large.m3u: is larger than the 4 MiB" in refusal(system, tmp_path / "large.m3u", good)


def test_lists_in_a_list_count_for_what_they_hold(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "half.m3u").write_text("a.mp3\n" * 5_000)
    (tmp_path / "list.m3u").write_text("half.m3u\nb.mp3\nhalf.m3u\nc.mp3\n")
    found = of(system, tmp_path / "list.m3u")
    assert [(index, track.shown) for index, track in enumerate(found) if track.refused] == [(5_001, "half.m3u")]
    assert names(found)[5_002:] == [str(tmp_path / "c.mp3")]


def test_only_so_many_playlists_are_read(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "fan.m3u").write_text("one.m3u\n" * 201 + "b.mp3\n")
    (tmp_path / "one.m3u").write_text("a.mp3\n")
    found = of(system, tmp_path / "fan.m3u")
    assert [track.refused for track in found] == [None] * 199 + ["more than 200 playlists in all: name fewer"] * 2 + [
        None
    ]


# --- Playlists from the network


def test_remote_entries_are_relative_to_the_final_address(online: ActorSystem, origin: Origin) -> None:
    origin.add("/new/place/list.m3u", text("a b.mp3\n/c.mp3\n../d.mp3\n12:30.mp3\n//other/e.mp3?x=1\nürger.mp3"))
    url = origin.add("/list.m3u", Resource(always=Fault(redirect="/new/place/list.m3u?token=s")))
    origin.add(
        "/new/place/list.m3u?token=s", text("a b.mp3\n/c.mp3\n../d.mp3\n12:30.mp3\n//other/e.mp3?x=1\nürger.mp3")
    )
    assert names(of(online, url)) == [
        f"{origin.base}/new/place/a%20b.mp3",
        f"{origin.base}/c.mp3",
        f"{origin.base}/new/d.mp3",
        f"{origin.base}/new/place/12:30.mp3",
        "http://other/e.mp3?x=1",
        f"{origin.base}/new/place/%C3%BCrger.mp3",
    ]


@pytest.mark.parametrize(
    ("path", "content_type", "data"),
    [
        ("/any.m3u8", "text/plain", "a.mp3\n"),
        ("/any", "audio/x-mpegurl; charset=utf-8", "a.mp3\n"),
        ("/any", "audio/mpegurl", "a.mp3\n"),
        ("/any", "application/vnd.apple.mpegurl", "a.mp3\n"),
        ("/any.php?x=1", "text/plain", "\ufeff#EXTM3U\na.mp3\n"),
    ],
)
def test_a_remote_playlist_is_known_by(
    online: ActorSystem, origin: Origin, path: str, content_type: str, data: str
) -> None:
    assert names(of(online, origin.add(path, text(data, content_type)))) == [f"{origin.base}/a.mp3"]


def test_a_remote_playlist_leads_to_no_files(online: ActorSystem, origin: Origin, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(b"x")
    url = origin.add("/list.m3u", text(f"{secret.as_uri()}\n{secret}\na.mp3\nrtsp://host/x\nFILE:///etc/passwd\n"))
    one, two, three, four, five = of(online, url)
    assert one.refused == five.refused == "a playlist from the network may not name files of this machine"
    assert two.source == f"{origin.base}{secret}", "a path there, not here"
    assert three.refused is None
    assert four.refused is not None
    assert "'rtsp' is not served" in four.refused


def test_credentials_stay_with_the_server_of_the_playlist(online: ActorSystem, origin: Origin) -> None:
    headers = {"Authorization": "Bearer s3cret", "User-Agent": "tester"}
    with Origin() as other:
        far = other.add("/far.m3u", text("b.mp3\n"))
        url = origin.add("/list.m3u", text(f"a.mp3\n{other.base}/x.mp3\n{far}\nhttp://[::1]:1/y.mp3\n"))
        found = of(online, url, headers=headers)
        assert [track.credentials for track in found] == [True, False, False, False]
        assert origin.requests[0].headers["authorization"] == "Bearer s3cret"
        assert "authorization" not in other.requests[0].headers
        assert other.requests[0].headers["user-agent"] == "tester"


def test_a_dead_playlist_is_a_track_that_fails(online: ActorSystem, origin: Origin, tmp_path: Path) -> None:
    dead = origin.base + "/dead.m3u?k=secret"
    (tmp_path / "a.mp3").write_bytes(b"x")
    one, two = of(online, dead, tmp_path / "a.mp3")
    assert one.refused == "the server answered 404 Not Found; check the URL"
    assert two.refused is None


def test_entries_are_not_asked_what_they_are(online: ActorSystem, origin: Origin, tmp_path: Path) -> None:
    # Nobody answers there, which would take as many attempts as the settings say before the first sound.
    entries = ["http://127.0.0.1:1/stream", f"{origin.base}/stream"]
    (tmp_path / "list.m3u").write_text("\n".join(entries))
    assert of(online, tmp_path / "list.m3u") == [Track(entry, entry) for entry in entries]
    assert origin.requests == []


def test_a_remote_cycle_and_a_large_playlist(online: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.m3u", text("b.m3u\n"))
    origin.add("/b.m3u", text("./a.m3u#again\n"))
    [track] = of(online, url)
    assert track.refused is not None
    assert "leads back to itself" in track.refused
    large = origin.add("/large.m3u", text(b"#" * (5 * 1024 * 1024)))
    with pytest.raises(CommandError, match="larger than the 4 MiB"):
        of(online, large)
