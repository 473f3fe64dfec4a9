"""What may be a secret is not in the `repr` of a record: reports of crashes and messages of errors are full of them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import logging
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import actors
import kithara_actors
from kithara_actors import Config
from kithara_actors.actor.callables import Question
from kithara_actors.logic.fetch import Start
from kithara_actors.messages.commands import Admitted, CallAnswered, Fetch
from kithara_actors.messages.records import FetchSpec, SourceCalls, SourceSpec
from kithara_actors.messages.worker import AskRedirect, RunAttempt
from kithara_actors.values import ContentId, FetchKind, RequestId
from kithara_actors.worker import transfer
from kithara_actors.workers import worker_pool

SECRET = "s3cr3t"
URL = f"http://h.test/a?token={SECRET}"
PAIRS = (("Authorization", SECRET),)

HIDDEN = {"url", "final_url", "redirects", "headers", "proxies", "resolve", "url_policy", "policy", "key", "settings"}
"""Names of fields that hold what an application gave, or lead to it."""
SHOWN = {
    # Redacted when they are made.
    ("RequestEnqueued", "url"),
    ("Answer", "redirects"),
    # Names of assets and files, digested.
    ("SourceSpec", "key"),
    ("AcquireAsset", "key"),
    ("Active", "key"),
    ("Committed", "key"),
    # What hides one.
    ("Hiding", "url"),
    # A file's name.
    ("WorkerSettings", "key"),
}


OUTSIDE = ("actors.testing", "kithara_actors.testing", "kithara_actors.command", "kithara_actors.__main__")


def records() -> Iterator[type[Any]]:
    for package in (actors, kithara_actors):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # The command's own and the tests' servers are not part of a system.
            if not found.name.startswith(OUTSIDE):
                module = importlib.import_module(found.name)
                for value in vars(module).values():
                    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == found.name:
                        yield value


def test_every_field_that_may_hold_a_secret_is_left_out() -> None:
    shown = {
        (cls.__name__, field.name)
        for cls in records()
        for field in dataclasses.fields(cls)
        if field.name in HIDDEN and field.repr and cls.__dataclass_params__.repr
    }
    assert shown <= SHOWN, "leave them out with field(repr=False), or redact them"
    assert shown == SHOWN


def fetch_spec() -> FetchSpec:
    return FetchSpec(
        request=RequestId(1),
        asset=1,
        peer="source-1",
        kind=FetchKind.FILL,
        url=URL,
        origin="http://h.test:80",
        headers=PAIRS,
        content=ContentId(1),
        lane=0,
        generation=0,
        start=0,
        end=None,
        ranged=True,
        total=None,
        validator=None,
        limit=None,
    )


def test_records_show_where_and_not_as_whom() -> None:
    calls = SourceCalls(1, functools.partial(dict, token=SECRET), functools.partial(str, SECRET))
    source = SourceSpec(1, "source-1", URL, "http://h.test:80", PAIRS, "key", "bin", None, None, calls)
    spec = fetch_spec()
    for record in (spec, source, Fetch(spec), Admitted(spec, 0.0, again=False), RunAttempt(1, 0, spec), Start(spec)):
        assert SECRET not in repr(record)
        assert "http://h.test:80" in repr(record)
    for other in (
        calls,
        AskRedirect(RequestId(1), 1, URL),
        CallAnswered(1, URL, PAIRS, None),
        Question(URL, PAIRS, calls, functools.partial(bool, SECRET)),
    ):
        assert SECRET not in repr(other)


def test_a_configuration_shows_no_password() -> None:
    config = Config(
        proxies={"http": f"http://user:{SECRET}@proxy:3128"},
        url_policy=functools.partial(bool, SECRET),
        key=functools.partial(str, SECRET),
    )
    assert SECRET not in repr(config)
    assert SECRET not in repr(worker_pool(config)._keeper.settings)
    assert "workers=2" in repr(config)


def test_an_error_that_nobody_foresaw_is_told_by_kind_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    wanted: dict[str, str] = {}
    try:
        try:
            wanted[URL]
        except KeyError as error:
            raise ValueError(URL) from error
    except ValueError as error:
        failure = transfer.internal(error)
    assert failure.kind == "InternalError"
    assert failure.text.startswith(f"the worker failed: ValueError in {__name__}.py, line ")
    lines = output.getvalue().splitlines()
    assert SECRET not in output.getvalue()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line for line in lines if not line.startswith(" ")][1:] == ["KeyError", "which led to", "ValueError"]


def test_a_closed_standard_error_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with pytest.raises(ValueError, match=SECRET) as caught:
        raise ValueError(URL)
    assert transfer.internal(caught.value).kind == "InternalError"


def test_what_urllib3_is_told_outside_of_an_attempt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connectionpool").debug("heard")
    assert "heard" in caplog.text
