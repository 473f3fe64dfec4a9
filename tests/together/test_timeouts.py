"""Whatever waits for a time refuses what is none, at once and by name."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kithara_actors import ActorSystem, FetchCommand
from kithara_actors.events import Envelope
from kithara_actors.testing.origin import Fault, Origin, Resource


def prefetched(system: ActorSystem, url: str, timeout: Any) -> object:
    with system.prefetch(url) as ahead:
        return ahead.wait(timeout)


def opened(system: ActorSystem, url: str, timeout: Any) -> object:
    with system.open(url) as stream:
        return stream.wait_complete(timeout)


WAITS: dict[str, Callable[[ActorSystem, str, Any], object]] = {
    "system.wait": lambda system, _, timeout: system.wait(timeout),
    "subscription.get": lambda system, _, timeout: system.subscribe().get(timeout),
    "subscription.get_async": lambda system, _, timeout: asyncio.run(system.subscribe().get_async(timeout)),
    "prefetch.wait": prefetched,
    "stream.wait_complete": opened,
}
CALLS: dict[str, Callable[[ActorSystem, str, Any], object]] = {
    "execute": lambda system, url, timeout: system.execute(FetchCommand.get(url), timeout),
    "batch": lambda system, url, timeout: list(system.batch([FetchCommand.get(url)], timeout)),
}


@pytest.mark.parametrize("wrong", ["1", True, object(), math.nan])
def test_what_is_no_time_is_refused(wrong: object) -> None:
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        url = origin.add("/a", Resource(10, always=Fault(stall_headers=True)))
        kind = ValueError if isinstance(wrong, float) else TypeError
        for name, call in {**WAITS, **CALLS}.items():
            with pytest.raises(kind, match=r"^timeout must be a") as raised:
                call(system, url, wrong)
            assert str(wrong)[:10] in str(raised.value), name


@pytest.mark.parametrize("timeout", [0, -1, -math.inf])
def test_no_time_is_a_look(timeout: float) -> None:
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        url = origin.add("/a", Resource(10, always=Fault(stall_headers=True)))
        for call in WAITS.values():
            # An event may have come by then.
            found = call(system, url, timeout)
            assert not found or isinstance(found, Envelope)
        for call in CALLS.values():
            with pytest.raises(ValueError, match=r"^timeout must be a positive number"):
                call(system, url, timeout)


def test_a_place_for_a_recording_that_cannot_be_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"record: No such file") as raised:
        ActorSystem.start(workers=1, record=tmp_path / "missing" / "trace")
    assert raised.value.filename == str(tmp_path / "missing" / "trace")
