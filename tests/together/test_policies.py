"""An application's callables in a running system: who may be asked, as whom, and where the bytes really are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stream_kit import HANG, blocking, settle, waiting

from kithara_actors import ActorSystem, Cancelled, Config, PolicyError, StatusError
from kithara_actors.actor import enquiries
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 100_000
BODY = body(5, 0, SIZE)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, retry_base=0.01) as running:
        yield running


class Tokens:
    """A headers callable whose every answer is another."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, url: str) -> dict[str, str]:
        self.asked.append(url)
        return {"Authorization": f"Bearer {len(self.asked)}"}


class Signer:
    """A resolve callable that signs an address of `base` anew each time."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.asked: list[str] = []

    def __call__(self, url: str) -> str:
        self.asked.append(url)
        return f"{self.base}?signature={len(self.asked)}"


def resource(*script: Fault | None) -> Resource:
    return Resource(SIZE, seed=5, etag='"v"', script=script)


def sent(origin: Origin, header: str) -> list[str | None]:
    return [seen.headers.get(header) for seen in origin.requests]


# --- headers


def test_headers_are_asked_for_once_while_they_are_good(origin: Origin, system: ActorSystem) -> None:
    tokens = Tokens()
    url = origin.add("/a", resource(Fault(cut_after=40_000)))
    with system.open(f"{url}?x=1#part", headers=tokens, look_ahead=0) as stream:
        assert stream.read() == BODY
    assert len(origin.requests) > 1
    assert set(sent(origin, "authorization")) == {"Bearer 1"}
    assert tokens.asked == [f"{url}?x=1"]


@pytest.mark.parametrize("status", [401, 403])
def test_headers_are_asked_for_again_when_they_are_refused(origin: Origin, system: ActorSystem, status: int) -> None:
    tokens = Tokens()
    script = (Fault(status=status), Fault(cut_after=40_000), Fault(status=status), None)
    with system.open(origin.add("/a", resource(*script)), headers=tokens) as stream:
        assert stream.read() == BODY
    assert sent(origin, "authorization") == ["Bearer 1", "Bearer 2", "Bearer 2", "Bearer 3"]
    assert sent(origin, "range")[3] == "bytes=40000-"


def test_a_refusal_of_fresh_headers_is_the_answer(system: ActorSystem, origin: Origin) -> None:
    tokens = Tokens()
    url = origin.add("/a", Resource(SIZE, always=Fault(status=401)))
    with system.open(url, headers=tokens) as stream, pytest.raises(StatusError) as caught:
        stream.read(1)
    assert caught.value.status == 401
    assert len(tokens.asked) == 2
    assert len(origin.requests) == 2


def test_headers_of_a_callable_are_dropped_at_a_redirect_elsewhere(origin: Origin, system: ActorSystem) -> None:
    with Origin() as other:
        url = origin.add("/a", Resource(always=Fault(redirect=other.add("/b", resource()))))
        with system.open(url, headers=Tokens()) as stream:
            assert stream.read() == BODY
        assert sent(origin, "authorization") == ["Bearer 1"]
        assert sent(other, "authorization") == [None]


# --- resolve


def test_a_resolved_address_is_asked_and_the_asset_stays_the_sources(origin: Origin, system: ActorSystem) -> None:
    signer = Signer(origin.add("/a", resource()))
    source = "http://tracks.test/1?query=kept"
    with system.open(source, resolve=signer, headers={"X-Token": "1", "Accept": "audio/*"}, shared=True) as stream:
        assert stream.read() == BODY
        with system.open(source, resolve=signer, shared=True) as other, system.open(source) as plain:
            assert other.read() == plain.read() == BODY
    assert signer.asked == [source]
    (seen,) = origin.requests
    assert seen.target == "/a?signature=1"
    assert (seen.headers.get("x-token"), seen.headers["accept"]) == (None, "audio/*")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_signature_that_runs_out_is_renewed(origin: Origin, system: ActorSystem, status: int) -> None:
    signer = Signer(origin.add("/a", resource(Fault(cut_after=30_000), Fault(status=status), None)))
    with system.open("http://tracks.test/1", resolve=signer) as stream:
        assert stream.read() == BODY
    assert [seen.target for seen in origin.requests] == [f"/a?signature={at}" for at in (1, 1, 2)]
    assert sent(origin, "range")[2] == "bytes=30000-"
    assert sent(origin, "if-range")[2] == '"v"'


def test_headers_are_asked_for_with_the_resolved_address(origin: Origin, system: ActorSystem) -> None:
    tokens, signer = Tokens(), Signer(origin.add("/a", resource()))
    with system.open("http://tracks.test/1", headers=tokens, resolve=signer) as stream:
        assert stream.read() == BODY
    assert tokens.asked == [f"{signer.base}?signature=1"]
    assert sent(origin, "authorization") == ["Bearer 1"]


@pytest.mark.parametrize("what", ["headers", "resolve"])
def test_what_a_callable_raises_reaches_the_reader(origin: Origin, system: ActorSystem, what: str) -> None:
    def hook(url: str) -> Any:
        raise ValueError(f"no token for {url}")

    url = origin.add("/a", resource())
    options: dict[str, Any] = {what: hook}
    with system.open(f"{url}?token=secret", **options) as stream:
        for _ in range(2):
            with pytest.raises(PolicyError, match=rf"{what} .*hook failed for {url}\?token=…: ValueError$"):
                stream.read(1)
    assert origin.requests == []


# --- Whose bytes they are


def test_what_a_callable_got_is_for_its_stream_alone(origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/a", resource())
    with ActorSystem.start(workers=1, cache_dir=tmp_path) as system:
        with system.open(url, headers=Tokens()) as one, system.open(url, headers=Tokens()) as two:
            assert one.read() == two.read() == BODY
            assert one.wait_complete(HANG)
            assert one.path is None
        with system.open(url, headers=Tokens()) as again:
            assert again.read() == BODY
        settle()
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(origin.requests) == 3


def test_in_memory_it_is_not_kept_either(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", resource())
    tokens = Tokens()
    for _ in range(2):
        with system.open(url, headers=tokens) as stream:
            assert stream.read() == BODY
            assert stream.wait_complete(HANG)
    assert len(origin.requests) == 2


@pytest.mark.parametrize("options", [{"discriminator": "me"}, {"shared": True}])
def test_named_or_shared_it_is_kept(origin: Origin, tmp_path: Path, options: dict[str, Any]) -> None:
    url = origin.add("/a", resource())
    tokens = Tokens()
    with ActorSystem.start(workers=1, cache_dir=tmp_path) as system:
        with system.open(url, headers=tokens, **options) as stream:
            assert stream.read() == BODY
            assert stream.wait_complete(HANG)
            assert stream.path is not None
        with system.open(url, headers=tokens, **options) as again:
            assert again.read() == BODY
    assert (len(origin.requests), len(tokens.asked)) == (1, 1)


def test_a_file_is_saved_as_whom_the_callable_says(origin: Origin, system: ActorSystem, tmp_path: Path) -> None:
    signer = Signer(origin.add("/a", resource()))
    target = tmp_path / "track.bin"
    with system.save("http://tracks.test/1", target, headers=Tokens(), resolve=signer) as stream:
        assert stream.wait_complete(HANG)
    assert target.read_bytes() == BODY
    assert sent(origin, "authorization") == ["Bearer 1"]


# --- url_policy


def judged(*refused: str) -> tuple[list[str], Callable[[str], bool]]:
    asked: list[str] = []

    def policy(url: str) -> bool:
        asked.append(url)
        return not url.endswith(refused)

    return asked, policy


def test_a_refused_url_is_not_requested(origin: Origin) -> None:
    asked, policy = judged("/a?token=secret")
    url = origin.add("/a", resource())
    with ActorSystem.start(workers=1, url_policy=policy) as system:
        with system.open(f"{url}?token=secret") as stream:
            with pytest.raises(PolicyError, match=rf"url_policy .*policy refuses {url}\?token=…$"):
                stream.read(1)
        assert origin.requests == []
        with system.open(url) as stream:
            assert stream.read() == BODY
    assert asked == [f"{url}?token=secret", url]


def test_a_policy_hears_of_every_redirect_before_it_is_followed(origin: Origin) -> None:
    asked, policy = judged("/c")
    last = origin.add("/c", resource())
    second = origin.add("/b", Resource(always=Fault(redirect="/c?token=1", redirect_status=307)))
    url = origin.add("/a", Resource(always=Fault(redirect="/b")))
    with ActorSystem.start(workers=1, url_policy=policy) as system, system.open(url) as stream:
        assert stream.read() == BODY
    assert asked == [url, second, f"{last}?token=1"]
    assert [seen.target for seen in origin.requests] == ["/a", "/b", "/c?token=1"]


def test_a_refused_redirect_is_not_followed(origin: Origin) -> None:
    with Origin() as other:
        target = other.add("/b", resource())
        asked, policy = judged("/b")
        url = origin.add("/a", Resource(always=Fault(redirect=target)))
        with ActorSystem.start(workers=1, url_policy=policy) as system, system.open(url) as stream:
            for _ in range(2):
                with pytest.raises(PolicyError, match=f"policy refuses {target}"):
                    stream.read(1)
        assert (len(origin.requests), other.requests) == (1, [])
        assert asked == [url, target]


def test_a_policy_hears_of_what_was_resolved(origin: Origin) -> None:
    asked, policy = judged("signature=2")
    signer = Signer(origin.add("/a", resource(Fault(status=403))))
    with ActorSystem.start(workers=1, url_policy=policy) as system:
        with system.open("http://tracks.test/1", resolve=signer) as stream, pytest.raises(PolicyError, match="refuses"):
            stream.read(1)
    assert asked == [f"{signer.base}?signature={at}" for at in (1, 2)]
    assert len(origin.requests) == 1


# --- Callables that hang


class Gate:
    """A policy that lets everything pass, but for URLs that end in `closed` only once it is open."""

    def __init__(self, closed: str) -> None:
        self.closed = closed
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, url: str) -> None:
        if url.endswith(self.closed):
            self.entered.set()
            assert self.open.wait(HANG)


@pytest.mark.parametrize("where", ["first", "redirect"])
def test_a_cancel_does_not_wait_for_a_callable(origin: Origin, where: str) -> None:
    gate = Gate("/a" if where == "first" else "/b")
    origin.add("/b", resource())
    url = origin.add("/a", Resource(always=Fault(redirect="/b")))
    with ActorSystem.start(workers=1, url_policy=gate) as system:
        stream = system.open(url)
        waits = blocking(stream)
        with waiting(stream, stream.read, 1) as reading:
            assert waits.wait(HANG)
            assert gate.entered.wait(HANG)
            stream.close()
            with pytest.raises(Cancelled):
                reading.result()
        settle()
        assert not gate.open.is_set()
        with system.open(origin.add("/c", resource())) as other:
            assert other.read() == BODY
        gate.open.set()
    assert "/b" not in [seen.path for seen in origin.requests]


@pytest.mark.parametrize("where", ["first", "redirect"])
def test_a_callable_that_does_not_answer_is_given_up(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(enquiries, "CALL_LIMIT", 1.0)
    gate = Gate("/a" if where == "first" else "/b")
    origin.add("/b", resource())
    url = origin.add("/a", Resource(always=Fault(redirect="/b")))
    with ActorSystem.start(workers=1, url_policy=gate) as system:
        with system.open(url) as stream, pytest.raises(PolicyError, match=r"url_policy Gate did not answer for http"):
            stream.read(1)
        gate.open.set()
    assert "/b" not in [seen.path for seen in origin.requests]


def test_stop_leaves_a_callable_behind_that_hangs_and_says_so(origin: Origin) -> None:
    gate = Gate("/a")
    system = ActorSystem.start(workers=1, url_policy=gate)
    try:
        stream = system.open(origin.add("/a", resource()))
        with waiting(stream, stream.read, 1) as reading:
            assert gate.entered.wait(HANG)
            assert system.stop(5.0) == ["callable (url_policy Gate)"]
            assert reading.error() is not None
    finally:
        system.stop()
        gate.open.set()
    for thread in threading.enumerate():
        if thread.name == "kithara-callables":
            thread.join(HANG)
    assert origin.requests == []


# --- Misuse


def test_a_mapping_that_can_be_called_is_a_mapping(origin: Origin, system: ActorSystem) -> None:
    class Both(dict[str, str]):
        def __call__(self, url: str) -> dict[str, str]:
            raise AssertionError

    with system.open(origin.add("/a", resource()), headers=Both(Authorization="mapped")) as stream:
        assert stream.read() == BODY
    assert sent(origin, "authorization") == ["mapped"]


async def later(url: str) -> Any:
    return True


def test_what_cannot_be_called_is_refused_at_once(system: ActorSystem) -> None:
    for options in ({"headers": later}, {"resolve": later}, {"resolve": "http://two.test/"}, {"headers": 5}):
        with pytest.raises(TypeError, match=next(iter(options))):
            system.open("http://one.test/", **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="url_policy must be an ordinary function"):
        Config(url_policy=later)
