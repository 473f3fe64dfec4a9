"""`kithara probe`: what a URL or a file is, from its first kilobytes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.clock import monotonic
from kithara_actors.command.explain import CommandError, explain
from kithara_actors.command.failed import told_in_json
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.room import room_of
from kithara_actors.command.seems import EMPTY, UNKNOWN, seems
from kithara_actors.command.settings import request_headers, system_settings
from kithara_actors.command.text import amount, cover_words, duration, fields, write_json, write_line
from kithara_actors.errors import KitharaError
from kithara_actors.events import Event, FirstByte, RequestEnqueued
from kithara_actors.logic.naming import canonical_url, redact, redact_source
from kithara_actors.logic.response import strong_validator
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.values import Answer, MediaDetails, RequestId

__all__ = ["run"]

_LOOKED_AT = 512
"""Bytes from the front that say what a file seems to be which is no media."""


@dataclass(slots=True)
class _Request:
    """What was asked for, and how soon the answer began, in seconds."""

    start: int
    end: int | None
    first_byte: float | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    shown: str
    length: int | None
    details: MediaDetails
    seems: str
    """What it seems to be, which is no media; empty if it is media."""
    answer: Answer | None
    requests: list[_Request]
    seconds: float


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Look at what `options` name and print it. Blocks. Raises CommandError, Interrupted, BrokenPipeError, OSError,
    argparse.ArgumentTypeError."""
    headers = request_headers(options)
    if not options.source:
        raise argparse.ArgumentTypeError("the SOURCE is empty: name a URL or a file")
    with told_in_json(options.source if options.json else None):
        source, shown = _source(options.source)
        settings = system_settings(options)
        with room_of(settings) as room:
            try:
                found = _probe(source, shown, headers, room.settings, interrupts)
            except KitharaError as error:
                raise CommandError(explain(error, options.source, settings)) from error
    if options.json:
        write_json(_as_json(found))
    else:
        for line in fields(_as_fields(found)):
            write_line(line)
    if found.seems == EMPTY:
        raise CommandError(f"{shown}: is empty; name the media itself")
    if found.seems:
        raise CommandError(
            f"{shown}: is no audio that is known here, it seems to be {found.seems}; name the media itself"
        )
    return 0


def _source(given: str) -> tuple[str, str]:
    """What to open, and how to name it to people."""
    if "://" in given:
        try:
            canonical_url(given)
        except ValueError as error:
            raise CommandError(explain(error, given)) from error
        return given, redact(given)
    # Where no such home is known, it stays as it is.
    path = Path(os.path.expanduser(given)).absolute()  # noqa: PTH111
    if path.is_dir():
        raise CommandError(f"{given}: is a directory; name a file in it")
    if not path.exists():
        raise CommandError(f"{redact_source(given)}: there is no such file; a URL begins with http:// or https://")
    return str(path), given


def _probe(
    source: str, shown: str, headers: dict[str, str], settings: dict[str, Any], interrupts: Interrupts
) -> _Found:
    with ActorSystem.start(**settings) as system:
        events = system.subscribe()
        with interrupts.armed():
            began = monotonic()
            # Nothing is fetched but what is read.
            with _open(system, source, headers) as stream:
                details = stream.inspect()
                kind = _no_media(stream, details)
                length, answer = stream.length, stream.answer
                seconds = monotonic() - began
    requests = _requests(envelope.event for envelope in events)
    return _Found(shown, length, details, kind, answer, requests, seconds)


def _no_media(stream: Stream, details: MediaDetails) -> str:
    """What it seems to be, if it is no media; else empty."""
    info = details.info
    if info.codec is None and info.container is None:
        return seems(stream.read_at(0, _LOOKED_AT), _content_type(stream))
    if info.sample_rate is not None or not details.remark:
        return ""
    # All that speaks for media is its Content-Type or its name, and no parser found any in it.
    first = stream.read_at(0, _LOOKED_AT)
    kind = seems(first)
    if kind == UNKNOWN and len(first) < _LOOKED_AT:
        return f"a piece of {len(first)} bytes, too short for media"
    return "" if kind == UNKNOWN else kind


def _open(system: ActorSystem, source: str, headers: dict[str, str]) -> Stream:
    if source.startswith("/"):
        return system.open(source)
    return system.open(source, headers=headers, look_ahead=0)


def _content_type(stream: Stream) -> str | None:
    return None if stream.answer is None else stream.answer.content_type


def _requests(events: Iterable[Event]) -> list[_Request]:
    requests: dict[RequestId, _Request] = {}
    for event in events:
        match event:
            case RequestEnqueued(request, _, _, _, start, end):
                requests[request] = _Request(start, end)
            case FirstByte(request, seconds, _, _) if request in requests:
                requests[request].first_byte = requests[request].first_byte or seconds
    return list(requests.values())


def _asked_for(found: _Found) -> int | None:
    """Bytes that were asked for; None if a request went to an end that is not known."""
    total = 0
    for request in found.requests:
        end = found.length if request.end is None else request.end
        if end is None:
            return None
        total += max(0, min(end, end if found.length is None else found.length) - request.start)
    return total


def _as_json(found: _Found) -> dict[str, object]:
    details, answer = found.details, found.answer
    server: dict[str, object] | None = None
    if answer is not None:
        validator = answer.validator
        server = {
            "status": answer.status,
            "ranges": answer.ranges,
            "content_type": answer.content_type,
            "etag": validator.etag,
            "last_modified": validator.last_modified,
            "strong_validator": strong_validator(validator) is not None,
            "redirects": list(answer.redirects),
        }
    return {
        "source": found.shown,
        "length": found.length,
        "media": None if found.seems else asdict(details.info),
        "seems": found.seems or None,
        "tags": {name: list(values) for name, values in details.tags},
        "covers": [asdict(cover) for cover in details.covers],
        "remark": details.remark,
        "server": server,
        "requests": [asdict(request) for request in found.requests],
        "bytes_asked_for": _asked_for(found),
        "seconds": round(found.seconds, 3),
    }


def _as_fields(found: _Found) -> Iterator[tuple[str, str]]:
    details, answer = found.details, found.answer
    yield "source", found.shown
    yield "length", "not known" if found.length is None else f"{found.length:,} bytes ({amount(found.length)})"
    if not found.seems:
        yield "media", _media(details)
    elif found.seems == EMPTY:
        yield "media", "none: it is empty"
    else:
        yield "media", f"none known here; it seems to be {found.seems}"
    for name, values in details.tags:
        yield name, "; ".join(values)
    for cover in details.covers:
        yield "cover", ", ".join(cover_words(cover))
    if details.remark:
        yield "remark", details.remark
    if answer is not None:
        ranges = "serves byte ranges" if answer.ranges else "serves no byte ranges: a seek has to wait for the download"
        yield "server", f"answered {answer.status}; {ranges}"
        yield "type", answer.content_type or "not said"
        yield "validator", _validator(answer)
        for address in answer.redirects:
            yield "redirect", address
    if found.requests:
        yield "timing", _timing(found)


def _media(details: MediaDetails) -> str:
    info = details.info
    parts = [" in ".join(part.value for part in (info.codec, info.container) if part is not None)]
    if info.sample_rate is not None:
        parts.append(f"{info.sample_rate} Hz")
    if info.channels is not None:
        parts.append({1: "mono", 2: "stereo"}.get(info.channels, f"{info.channels} channels"))
    if info.duration is not None:
        parts.append(duration(info.duration))
    if info.bitrate is not None:
        parts.append(f"{round(info.bitrate / 1000)} kbit/s")
    return ", ".join(parts)


def _validator(answer: Answer) -> str:
    validator = answer.validator
    parts = []
    if validator.etag is not None:
        parts.append(f"ETag {validator.etag}")
    if validator.last_modified is not None:
        parts.append(f"Last-Modified {validator.last_modified}")
    if not parts:
        return "none: a broken download can be resumed only while its length stays the same"
    strength = "strong" if strong_validator(validator) is not None else "weak: not good enough to join two parts by"
    return f"{', '.join(parts)} ({strength})"


def _timing(found: _Found) -> str:
    first = next((request.first_byte for request in found.requests if request.first_byte is not None), None)
    parts = [] if first is None else [f"first byte after {first * 1000:.0f} ms"]
    parts.append(f"all after {found.seconds * 1000:.0f} ms")
    count = len(found.requests)
    asked = _asked_for(found)
    of = "" if asked is None else f" for {amount(asked)}"
    parts.append(f"{count} {'request' if count == 1 else 'requests'}{of}")
    return ", ".join(parts)
