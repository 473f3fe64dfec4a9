"""What the command prints, wrong usage included, holds no secret of its arguments, settings and servers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from secrets_kit import HEADERS, credentials, leaked, secret

from kithara_actors.cli import main
from kithara_actors.command import get
from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long

Run = Callable[..., tuple[int, str]]

SONG = Resource(size=50_000)
GIVEN = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
COMMANDS = {
    "get": ("get", *GIVEN),
    "get in JSON": ("get", "--json", *GIVEN),
    "get quietly": ("get", "-q", *GIVEN),
    "get to the output": ("get", "-o", "-", *GIVEN),
    "probe": ("probe", *GIVEN),
    "probe in JSON": ("probe", "--json", *GIVEN),
    "play": ("play", "--null", *GIVEN),
}


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in an empty folder: its status, and both of its outputs with those of its workers."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("KITHARA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KITHARA_RETRY_BASE", "1 ms")
    monkeypatch.setenv("KITHARA_MAX_RETRIES", "1")

    def run(*arguments: str) -> tuple[int, str]:
        status = main(arguments)
        out, err = capfd.readouterr()
        return status, out + err

    return run


def refused(run: Run, *arguments: str) -> str:
    status, said = run(*arguments)
    assert status in (1, 2)
    assert said.strip()
    assert leaked(said) == []
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_what_works_names_no_secret(run: Run, origin: Origin, command: str) -> None:
    url = origin.add("/a.mp3", SONG)
    status, said = run(*COMMANDS[command], credentials(url))
    if command.startswith("get"):
        assert status == 0
        assert (secret("unknown-header"), True) == (
            origin.requests[0].headers["x-made-up"],
            bool(leaked(origin.requests[0].target)),
        )
    assert leaked(said.replace("\0", "")) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_what_fails_names_no_secret(run: Run, origin: Origin, command: str) -> None:
    away = f"http://{secret('location-user')}:{secret('location-password')}@127.0.0.1:1/?t={secret('location')}"
    urls = [
        origin.add("/401.mp3", Resource(always=Fault(status=401))),
        origin.add("/404.mp3", Resource(always=Fault(status=404))),
        origin.add("/html.mp3", Resource(always=Fault(html=True))),
        origin.add("/away.mp3", Resource(always=Fault(redirect=away))),
        origin.add("/bad.mp3", Resource(always=Fault(raw=f"HTTP/1.1 200 OK\r\n{secret('server')}\r\n\r\n".encode()))),
        "http://127.0.0.1:1/a.mp3",
    ]
    for url in urls:
        said = refused(run, *COMMANDS[command], credentials(url))
        assert "127.0.0.1" in said
        line = said.strip().splitlines()[-1]
        assert line.startswith("kithara: ") or command == "play"
        assert line.count(".mp3?token=…") == 1, "the URL is named twice"


WRONG = {
    "no scheme": f"h.test/a.mp3?token={secret('query')}",
    "userinfo without scheme": f"{secret('user')}:{secret('password')}@h.test/a.mp3",
    "one slash": f"http:/{secret('user')}:{secret('password')}@h.test/a.mp3",
    "another scheme": f"ftp://{secret('user')}:{secret('password')}@h.test/a.mp3",
    "a bad port": f"http://{secret('user')}:{secret('password')}@h.test:x/a.mp3?t={secret('query')}",
    "a space": f"http://h.test/a.mp3?t={secret('query')} b",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("source", WRONG)
def test_what_is_no_url_is_named_without_its_secrets(run: Run, command: str, source: str) -> None:
    assert "h.test" in refused(run, *COMMANDS[command], WRONG[source])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((credentials("http://h.test/a"),), "invalid choice: 'http://…@h.test/a?token=…"),
        ((WRONG["userinfo without scheme"],), "invalid choice: '…@h.test/a.mp3'"),
        (
            ("get", "http://h.test/a", credentials("http://i.test/b")),
            "unrecognized arguments: http://…@i.test/b?token=",
        ),
        (("get", "http://h.test/a", f"--token={secret('query')}"), "unrecognized arguments: --token=…"),
        (("get", "http://h.test/a", f"-b{secret('cookie')}"), "unrecognized arguments: -b"),
        (("get", "http://h.test/a", f"--json={secret('query')}"), "--json: it takes no value"),
        (("get", "http://h.test/a", "-H", "Authorization:", "Bearer", secret("bearer")), "written in quotes"),
        (("get", "-H", "Authorization:", "Bearer", secret("bearer"), "http://h.test/a"), "written in quotes"),
        (("get", "-H", "Authorization:", secret("bearer")), "'Authorization' has no value"),
        (("probe", "-H", "X-Api-Key:", secret("api-key")), "'X-Api-Key' has no value"),
        (("play", "-H", "Authorization:", "Bearer", secret("bearer"), "http://h.test/a"), "has no value"),
        (("get", "-H", secret("bearer"), "http://h.test/a"), "a header is written 'Name: value'"),
        (("get", "-H", f"X Y {secret('bearer')}: a", "http://h.test/a"), "is not a token"),
        (("get", "-H", f"X: {secret('bearer')}\n", "http://h.test/a\n"), "control character"),
        (("get", "-H", f"X: {secret('bearer')}€", "http://h.test/a"), "outside Latin-1"),
        (("get", "-H", "X: 1", "-H", f"x: {secret('bearer')}", "http://h.test/a"), "given twice"),
    ],
    ids=lambda value: value if isinstance(value, str) and "s3cr3t" not in value else "usage",
)
def test_wrong_usage_repeats_no_secret(run: Run, arguments: tuple[str, ...], words: str) -> None:
    assert words in " ".join(refused(run, *arguments).split())


SETTINGS = {
    "proxies = 5": "proxies",
    f'proxies = "http://{secret("proxy-user")}:{secret("proxy-password")}@h"': "proxies",
    f'[proxies]\nhttp = "http://{secret("proxy-user")}:{secret("proxy-password")}@127.0.0.1:x"': "proxy",
    f'proxies = {{ http = "http://{secret("proxy-user")}:{secret("proxy-password")}@h" ': "TOML",
    f'"http://{secret("proxy-user")}:{secret("proxy-password")}@h" = 1': "there is no setting",
    f'proxy = "{secret("proxy-password")}"': "did you mean proxies",
}


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_settings_are_named_and_not_repeated(run: Run, tmp_path: Path, number: int) -> None:
    content, words = list(SETTINGS.items())[number]
    file = tmp_path / "mine.toml"
    file.write_text(content)
    assert words in refused(run, "get", "--config", str(file), "http://h.test/a.mp3")
    _, said = run("doctor", "--config", str(file))
    assert leaked(said) == []


def test_a_proxy_is_named_without_its_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://{secret('proxy-user')}:{quote(secret('proxy-password'), safe='')}@127.0.0.1:1"
    for name in ("http_proxy", "KITHARA_PROXIES"):
        with monkeypatch.context() as context:
            context.setenv(name, proxy if name == "http_proxy" else json.dumps({"http": proxy}))
            assert "the proxy http://…@127.0.0.1:1" in refused(run, "get", credentials("http://h.test/a.mp3"))
            _, said = run("doctor")
            assert "http://…@127.0.0.1:1" in said
            assert leaked(said) == []


def test_an_internal_error_is_told_without_the_urls_in_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError(credentials("http://h.test/a"), "Bearer " + secret("bearer"))

    monkeypatch.setattr(get, "_fetch", broken)
    said = refused(run, "get", credentials("http://h.test/a.mp3"))
    assert "internal error: KeyError: ('http://…@h.test/a?token=…" in said


def test_a_playlist_is_told_without_the_secrets_of_its_entries(run: Run, tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u"
    playlist.write_text("\n".join([*WRONG.values(), credentials("http://127.0.0.1:1/a.mp3")]))
    said = refused(run, "play", "--null", str(playlist))
    assert "127.0.0.1:1/a.mp3" in said
