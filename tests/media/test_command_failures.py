"""Each failure of the command is one line that says what to do; a JSON object is beside it where asked for."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.errors import WorkerStartError
from kithara_actors.cli import main
from kithara_actors.command import text
from kithara_actors.command.checks.network import proxy_of, shown_proxy
from kithara_actors.command.explain import explain
from kithara_actors.errors import ConnectError, ProtocolError, RetryExhausted, StatusError
from kithara_actors.stream.reader import Stream
from kithara_actors.testing.origin import Fault, Origin, Resource

SONG = Resource(size=100_000)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in an empty folder, without proxies and settings of this machine."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("KITHARA_") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def line_of(answer: tuple[int, str, str]) -> str:
    status, _, err = answer
    assert status == 1
    (line,) = err.splitlines()
    assert line.startswith("kithara: ")
    return line


# --- Settings


@pytest.mark.parametrize("command", [("get", "-q"), ("probe",), ("play", "--null", "-q")])
def test_cache_that_cannot_be_made(
    origin: Origin, run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str]
) -> None:
    monkeypatch.setenv("KITHARA_CACHE_DIR", "/proc/nope")
    line = line_of(run(*command, origin.add("/a.mp3", SONG)))
    assert line == (
        "kithara: cannot keep files in /proc/nope: No such file or directory; "
        "set cache_dir to a directory that you can write"
    )
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["KITHARA_VERIFY", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_cannot_be_read(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "/nope.pem")
    setting = "verify" if name == "KITHARA_VERIFY" else name
    line = line_of(run("probe", "--retries", "0", "https://127.0.0.1:1/a.mp3"))
    assert f"{setting} names /nope.pem, which cannot be read: No such file or directory; " in line
    assert f"in {setting}, or leave it out" in line


@pytest.mark.parametrize("command", ["get", "probe"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "KITHARA_PROXIES"])
def test_proxy_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, name: str) -> None:
    proxy = "http://user:pw@127.0.0.1:1"
    monkeypatch.setenv(name, proxy if name == "HTTP_PROXY" else json.dumps({"http": proxy}))
    line = line_of(run(command, "--retries", "0", "http://host.invalid/a.mp3"))
    assert "Connection refused; the way there is through the proxy http://…@127.0.0.1:1: check that" in line


def test_proxy_of_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    assert proxy_of("http://a/") is None
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", "b")
    assert proxy_of("http://a/") == "http://p:1"
    assert proxy_of("http://b/") is None
    assert proxy_of("https://a/") is None
    assert proxy_of("http://b/", {"http": "http://q:1"}) == "http://q:1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:pw@proxy:3128", "http://…@proxy:3128"),
        ("http://user:pw/7@proxy:3128", "http://…@proxy:3128"),
        ("http://user:p@w@proxy:3128", "http://…@proxy:3128"),
        ("http://user:p#w?@proxy:3128", "http://…@proxy:3128"),
        ("http:/user:pw@proxy", "http:/…@proxy"),
        ("user:pw@proxy:3128", "…@proxy:3128"),
        ("socks5h://user:p\nw@proxy", "socks5h://…@proxy"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("", ""),
    ],
)
def test_password_of_a_proxy_is_hidden(url: str, shown: str) -> None:
    assert shown_proxy(url) == shown


# --- The machine


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (WorkerStartError("cannot start worker processes"), "check the setting worker_python, and the machine with: "),
        (RuntimeError("can't start new thread"), "raise the limits on processes and memory (ulimit -u, ulimit -v)"),
        (MemoryError(), "out of memory; raise the limits"),
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied; check its permissions"),
        (OSError(28, "No space left on device", "/a"), "/a: No space left on device; make room there"),
        (OSError(24, "Too many open files"), "Too many open files; raise the limit on open files"),
    ],
)
def test_what_the_machine_lacks_has_a_remedy(error: Exception, said: str) -> None:
    assert said in explain(error)
    assert "report" not in explain(error)


def test_what_is_no_limit_is_to_be_reported() -> None:
    assert explain(RuntimeError("x")) == "internal error: RuntimeError: x; please report it"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (StatusError("400", status=400), "check the URL and the headers"),
        (StatusError("503", status=503, retryable=True), "try again later"),
        (ProtocolError("more than 10 redirects"), "check the URL: its server or a proxy does not answer as it should"),
        (RetryExhausted("gave up", cause="ProtocolError"), "try again later"),
        (ConnectError("refused"), "check the host, the port and the network, or try later with more --retries"),
    ],
)
def test_every_answer_has_a_remedy(error: Exception, remedy: str) -> None:
    assert explain(error) == f"{error}; {remedy}"


@pytest.mark.parametrize("command", ["get", "probe"])
def test_directory_that_is_gone(run: Run, origin: Origin, command: str) -> None:
    Path.cwd().rmdir()
    source = origin.add("/a.mp3", SONG) if command == "get" else "a.mp3"
    assert line_of(run(command, source)) == (
        "kithara: the current directory does not exist any more; change to another one"
    )


# --- Where to


@pytest.mark.parametrize("length", [251, 252, 255, 256])
def test_name_without_room_for_part(run: Run, origin: Origin, length: int) -> None:
    url = origin.add("/" + "n" * length, SONG)
    assert line_of(run("get", "-q", url)).endswith(
        ": File name too long; give a shorter one with -o; .part is added meanwhile"
    )
    assert list(Path().iterdir()) == []


def test_longest_name(run: Run, origin: Origin) -> None:
    assert run("get", "-q", origin.add("/" + "n" * 250, SONG))[0] == 0
    assert (Path() / ("n" * 250)).stat().st_size == 100_000


def test_places_that_take_no_file(run: Run, origin: Origin) -> None:
    url = origin.add("/a.mp3", SONG)
    assert "; choose another place with -o" in line_of(run("get", "-q", "-o", "/proc/x", url))
    assert "No space left on device; make room there, or choose" in line_of(run("get", "-q", "-o", "/dev/full", url))


def test_file_that_is_being_written(run: Run, origin: Origin) -> None:
    import fcntl

    url = origin.add("/a.mp3", SONG)
    with Path("a.mp3.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        line = line_of(run("get", "-q", url))
    assert "another download is writing it" in line
    assert line.endswith("; wait for it to end, or choose another file with -o")


# --- What is printed


@pytest.mark.parametrize(
    ("url", "error"), [("ftp://host/a?k=secret", "ValueError"), ("host/a.mp3", "CommandError")], ids=["ftp", "no URL"]
)
def test_bad_url_in_json(run: Run, url: str, error: str) -> None:
    status, out, err = run("get", "--json", url)
    failed = json.loads(out)
    assert (status, failed["event"], failed["error"], failed["status"]) == (1, "failed", error, None)
    assert f"kithara: {failed['message']}\n" == err
    assert "secret" not in out + err


def test_too_many_arguments_show_the_usage_of_the_command(run: Run) -> None:
    status, out, err = run("get", "http://a/b", "c")
    assert (status, out) == (2, "")
    assert err.startswith("usage: kithara get ")
    assert err.splitlines()[-1] == "kithara get: error: unrecognized arguments: c"


@pytest.mark.parametrize("arguments", [("--help",), ("get", "--help"), ("--version",)])
def test_help_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        answer = run(*arguments)
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()
    assert "standard output: No space left on device" in line_of(answer)


def test_help_names_the_sound_systems_that_there_are(run: Run) -> None:
    from kithara_actors.command.player import outputs

    _, out, _ = run("play", "--help")
    told = " ".join(out.split())
    assert f"sound system: {', '.join(outputs._BACKENDS)}, or null" in told


def test_get_asks_no_parser(run: Run, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: Stream) -> None:
        raise AssertionError("this starts the parsing process")

    monkeypatch.setattr(Stream, "media_info", property(parse))
    status, _, err = run("get", origin.add("/a.mp3", SONG))
    assert status == 0
    assert "a.mp3 (MpegAudio Mp3): 100.0 kB" in err


def test_status_400_in_full(run: Run, origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(size=1, always=Fault(status=400)))
    assert line_of(run("get", url)) == (
        f"kithara: {url}: the server answered 400 Bad Request; check the URL and the headers"
    )


# --- Lines


def test_encoding_that_lacks_characters() -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert text.encodable("é日\udc80", output) == "é??"
    output.close()


@pytest.mark.parametrize("rich", [True, False])
def test_lines_are_measured_in_cells(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.cells", None)
    assert text.filled("日本語日本語", 8, "ab: ", "  ") == ["ab: 日本", "  語日本", "  語"]
    assert text.filled("one two three", 8) == ["one two", "three"]
    assert text.filled("", 8, "- ", "  ") == ["- "]
    assert text.filled("e\u0301e\u0301e\u0301", 3) == ["e\u0301e\u0301e\u0301"]
    assert text.filled("日本", 1) == ["日", "本"]
