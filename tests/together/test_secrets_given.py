"""No secret that a callable says, or that is given for a URL or a header and is none, is repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from secrets_kit import HEADERS, Surfaces, credentials, fails, leaked, secret

from kithara_actors import ConnectError, PolicyError
from kithara_actors.testing.origin import Fault, Origin, Resource


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


@pytest.fixture
def surfaces(capfd: pytest.CaptureFixture[str]) -> Surfaces:
    return Surfaces(capfd)


# --- What callables say


class Mapped(dict[str, str]):
    """Fails in a way that tells what it holds."""

    def items(self) -> Any:
        raise ValueError(secret("callable"))


def raiser(error: type[BaseException]) -> Callable[[str], Any]:
    def give(url: str) -> Any:
        raise error(f"{secret('raised')} {url} {credentials('http://i/')}")

    return give


CALLABLES: dict[str, Callable[[str], Any]] = {
    "nothing": lambda url: None,
    "a text": lambda url: secret("callable"),
    "a list": lambda url: [secret("callable")],
    "a broken mapping": lambda url: Mapped(),
    "a bad name": lambda url: {f"X Y {secret('callable')}": "v", "": secret("callable")},
    "a header line": lambda url: {f"Authorization: {secret('callable')}": ""},
    "a bad value": lambda url: {"Authorization": f"{secret('callable')}\n"},
    "a value in another script": lambda url: {"Authorization": f"{secret('callable')}€"},
    "a value that is none": lambda url: {"Authorization": secret("callable").encode()},
    "a file": lambda url: f"file://{secret('callable')}",
    "a space": lambda url: f"http://h/{secret('callable')} a",
    "a port": lambda url: f"http://{secret('resolved-user')}:{secret('resolved-password')}@h:x/",
    "an endless URL": lambda url: f"http://h/{secret('callable') * 5_000}",
    "an endless header": lambda url: {"X": secret("callable") * 5_000},
    "ValueError": raiser(ValueError),
    "KeyError": raiser(KeyError),
    "SystemExit": raiser(SystemExit),
    "a generator": lambda url: (piece for piece in [secret("callable")]),
}


@pytest.mark.parametrize("role", ["headers", "resolve"])
def test_what_a_callable_says_wrongly_is_not_repeated(surfaces: Surfaces, role: str) -> None:
    with surfaces.of(proxies={}) as system:
        for name, call in CALLABLES.items():
            url = credentials(f"http://127.0.0.1:1/{quote(name)}")
            options: dict[str, Any] = {role: call}
            error = fails(surfaces, system, url, **options)
            assert isinstance(error, PolicyError | ConnectError) or error.cause == "ConnectError", f"{name}: {error!r}"
    assert leaked(surfaces.text) == []


def test_of_what_a_policy_raises_the_type_is_told_and_of_a_policy_error_the_text(surfaces: Surfaces) -> None:
    def policy(url: str) -> object:
        if "words" in url:
            raise PolicyError(f"not here: {url}, nor {credentials('http://i/b')}")
        return raiser(RuntimeError)(url)

    with surfaces.of(url_policy=policy) as system:
        error = fails(surfaces, system, credentials("http://h/words"), headers=HEADERS)
        assert str(error).endswith(
            "refuses http://h/words?token=…&token=…;sig=…&…: not here: http://h/words?token=…&token=…;sig=…&…"
            " nor http://…@i/b?token=…&token=…;sig=…&…"
        )
        error = fails(surfaces, system, credentials("http://h/b"), headers=HEADERS)
        assert str(error).endswith("failed for http://h/b?token=…&token=…;sig=…&…: RuntimeError")
    assert leaked(surfaces.text) == []


def test_an_address_that_was_resolved_is_not_told(surfaces: Surfaces, origin: Origin) -> None:
    gone = origin.add("/gone", Resource(always=Fault(status=410)))
    userinfo = f"{quote(secret('resolved-user'), safe='')}:{quote(secret('resolved-password'), safe='')}"
    signed = credentials(gone, userinfo=userinfo, query=f"sig={quote(secret('resolved'), safe='')}")
    with surfaces.of(proxies={}) as system:
        fails(surfaces, system, "http://tracks.test/1", resolve=lambda url: signed)
        fails(surfaces, system, "http://t.test/2", resolve=lambda url: signed.replace(origin.base[7:], "127.0.0.1:1"))
    assert leaked(surfaces.text) == []
    assert leaked(origin.requests[0].target)


# --- What cannot be opened


SOURCES: list[str | Path] = [
    f"h.test/a?token={secret('query')}",
    f"{secret('user')}:{secret('password')}@h.test/a",
    f"http:/{secret('user')}:{secret('password')}@h.test/a",
    f"http://{secret('user')}:{secret('password')}@h.test:x/a?t={secret('query')}",
    f"ftp://{secret('user')}:{secret('password')}@h.test/a",
    f"http://{secret('user')} {secret('password')}@h.test/a",
    f"http://h.test/a?t={secret('query')} b",
    f"http://user%3A:{quote(secret('password'), safe='')}@h.test/a",
    Path(f"https://h.test/a?token={secret('query')}"),
    Path(f"https://{secret('user')}@h.test/a"),
    "http://h.test/" + secret("query") * 5_000,
]


def test_a_source_that_is_none_is_not_repeated(surfaces: Surfaces) -> None:
    with surfaces.of() as system:
        for source in SOURCES:
            with pytest.raises(ValueError, match=r"give|remove|correct|percent|neither|send|under") as caught:
                system.open(source, headers=HEADERS)
            surfaces.error(caught.value)
    assert leaked(surfaces.text) == []


def test_a_header_that_is_none_is_not_repeated(surfaces: Surfaces) -> None:
    value = secret("bearer")
    wrong: list[dict[Any, Any]] = [
        *({name: "x"} for name in (f"Authorization: {value}", f"Bearer {value}", value, value.encode())),
        *({"X": text} for text in (f"{value}\r", f"{value}\0", f"{value}€", value.encode())),
        {"X": value, "x": value},
    ]
    with surfaces.of() as system:
        for headers in wrong:
            with pytest.raises((ValueError, TypeError), match="header") as caught:
                system.open("http://h.test/", headers=headers)
            surfaces.error(caught.value)
    assert leaked(surfaces.text) == []
