"""What servers do wrong, and what must come of it: the table of the HTTP matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from http_matrix_kit import CUT, NEW, RIGHT, UNTELLABLE, Cell, Outcome, Row, crafted, entity, other

from kithara_actors.testing.origin import Fault

__all__ = ["FAMILIES"]

Expect = Callable[[Cell], Outcome]

PROTOCOL: Final = Outcome("ProtocolError")
CHANGED: Final = Outcome("ResourceChanged")
HTML: Final = Outcome("InvalidContentType")
_REFUSALS: Final = (400, 405, 406, 416, 501)


def right(_: Cell) -> Outcome:
    return RIGHT


def always(outcome: Outcome) -> Expect:
    return lambda _: outcome


def broken(status: int | None = None) -> Expect:
    """It passes: the bytes are right, or, where it lasts, the budget is spent and what has landed stays."""
    cause = "ConnectError" if status is None else "StatusError"
    spent = Outcome("RetryExhausted", cause, status, kept=True)
    return lambda cell: spent if cell.lasting else RIGHT


def refusal(status: int) -> Expect:
    """Of a status that a server may answer to a Range: the first request is made once more without."""

    def expect(cell: Cell) -> Outcome:
        if cell.first and not cell.lasting and cell.server != "refusing":
            return RIGHT
        return broken(status)(cell) if status >= 500 else Outcome("StatusError", None, status)

    return expect


def same(fault: Fault) -> Callable[[Cell], Fault]:
    return lambda _: fault


def bare(cell: Cell) -> bool:
    """Of answers that have neither a body of the server's nor its validators: half of the cells say the same twice."""
    return cell.server != "chunked ranges" and cell.validator in ("strong", "none")


def status_row(status: int, expect: Expect, name: str = "", **headers: str) -> Row:
    return Row(name or f"status {status}", same(Fault(status=status, headers=headers)), expect, fits=bare)


STATUSES: Final = [
    *(status_row(status, broken(status)) for status in (408, 429, 500, 502, 503, 504, 599)),
    status_row(429, broken(429), "429, soon", **{"Retry-After": "0"}),
    status_row(503, broken(503), "503, at a date", **{"Retry-After": "Mon, 05 Jan 2026 10:00:00 GMT"}),
    status_row(503, broken(503), "503, at no time", **{"Retry-After": "tomorrow"}),
    status_row(503, always(Outcome("StatusError", None, 503, kept=True)), "503, in an hour", **{"Retry-After": "3600"}),
    *(status_row(status, always(Outcome("StatusError", None, status))) for status in (300, 402, 404, 410, 451)),
    *(
        status_row(status, lambda cell, status=status: Outcome("StatusError", None, status, kept=not cell.first))
        for status in (401, 403)
    ),
    *(status_row(status, refusal(status)) for status in _REFUSALS),
    *(status_row(status, always(PROTOCOL)) for status in (201, 202, 204, 205, 226, 304)),
    *(
        Row(
            f"status line {line!r:.20}",
            same(Fault(raw=line + b"\r\nContent-Length: 0\r\n\r\n")),
            always(PROTOCOL),
            # Before the answer on a kept connection it may be what the server sent late behind the last body.
            fits=lambda cell: bare(cell) and cell.lasting,
        )
        for line in (
            b"HTTP/1.1 600 Odd",
            b"HTTP/1.1 999 Odd",
            b"HTTP/1.1 20 Short",
            b"HTTP/1.1 2000 Long",
            b"HTTP/1.1 abc",
            b"HTTP/1.1 101 Switching Protocols",
            b"ICY 200 OK",
            b"\x00\xff\x16\x03 garbage",
            b"SSH-2.0-OpenSSH_9.2",
            b"HTTP/1.1 200 " + b"x" * 65_536,
            b"x" * 65_536,
        )
    ),
]


def after(count: int) -> Callable[[Cell], int]:
    """Some way into the body of the answer, which a server without ranges begins at 0."""
    return lambda cell: count + (0 if cell.ranges else cell.start)


BREAKS: Final = [
    Row("cut at once", same(Fault(cut_after=0)), broken()),
    Row("cut", lambda cell: Fault(cut_after=after(700)(cell)), broken()),
    Row("cut before what is held", same(Fault(cut_after=5)), broken()),
    Row("cut at the last byte", same(Fault(short_by=1)), broken()),
    Row("reset at once", same(Fault(reset_after=0)), broken()),
    Row("reset", lambda cell: Fault(reset_after=after(700)(cell)), broken()),
    Row("no answer", same(Fault(raw=b"")), broken()),
    *(
        Row(f"header cut {name}", same(Fault(raw=raw)), broken())
        for name, raw in (
            ("in the status line", b"HTTP/1.1 20"),
            ("in a field", b"HTTP/1.1 200 OK\r\nContent-Le"),
            ("before its end", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"),
        )
    ),
]


SILENCE: Final = [
    Row("no header", same(Fault(stall_headers=True)), broken()),
    Row("stall at once", same(Fault(stall_after=0)), broken()),
    Row("stall", lambda cell: Fault(stall_after=after(700)(cell)), broken()),
]

FRAMING: Final = [
    Row("none", same(Fault()), right),
    Row("chunked", same(Fault(chunked=True)), right),
    Row("no length", same(Fault(no_length=True)), right),
    Row("late", same(Fault(delay=0.05)), right),
    Row("bytes behind the body", same(Fault(extra=b"and more\r\n\r\n")), right, untidy=True),
    Row("identity", same(Fault(encoding="identity")), right),
    Row("gzip", same(Fault(encoding="gzip")), always(PROTOCOL)),
    Row("brotli", same(Fault(encoding="br")), always(PROTOCOL)),
    Row("gzip, twice", same(Fault(headers={"Content-Encoding": "identity, gzip"})), always(PROTOCOL)),
    Row("coded transfer", same(Fault(headers={"Transfer-Encoding": "gzip, chunked"})), always(PROTOCOL)),
    Row("login page", same(Fault(html=True)), always(HTML)),
    Row("html", same(Fault(headers={"Content-Type": "Text/HTML; charset=utf-8"})), always(HTML)),
    Row("xhtml", same(Fault(headers={"Content-Type": "application/xhtml+xml"})), always(HTML)),
    Row("multipart", same(Fault(headers={"Content-Type": "multipart/byteranges; boundary=x"})), always(PROTOCOL)),
    Row("no type", same(Fault(headers={"Content-Type": None})), right),
    Row("header of 70 KB", same(Fault(headers={"X-Long": "x" * 70_000})), always(PROTOCOL)),
    Row("header of 300 fields", same(Fault(headers={f"X-{n}": "x" for n in range(300)})), always(PROTOCOL)),
    Row("interim answers", lambda cell: _early(crafted(cell)), right, fits=lambda cell: not cell.lasting),
]


def _early(fault: Fault) -> Fault:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    return Fault(raw=early + (fault.raw or b""))


def _length(value: str, expect: Expect, name: str = "") -> Row:
    return Row(
        name or f"length {value}",
        lambda cell: crafted(cell, f"Content-Length: {value}", length=False),
        expect,
        # What is no length in chunked framing is passed over, so these servers frame by length.
        fits=lambda cell: cell.server in ("ranges", "whole"),
    )


def _doubled(*more: Callable[[Cell], str]) -> Callable[[Cell], Fault]:
    return lambda cell: crafted(cell, *(line(cell) for line in more))


def _span(cell: Cell) -> int:
    return cell.end - cell.start if cell.ranges else cell.size


LENGTHS: Final = [
    *(_length(value, always(PROTOCOL)) for value in ("-5", "ten", "1e5", "0x10", "", "+5", "5 5", str(2**63))),
    _length("9" * 5_000, always(PROTOCOL), "length of 5000 digits"),
    Row(
        "length twice",
        _doubled(lambda cell: f"Content-Length: {_span(cell)}"),
        right,
        fits=lambda cell: not cell.lasting and cell.server in ("ranges", "whole"),
    ),
    Row(
        "two lengths",
        _doubled(lambda cell: f"Content-Length: {_span(cell) - 5}"),
        always(PROTOCOL),
        fits=lambda cell: cell.server in ("ranges", "whole"),
    ),
    Row(
        "length too short",
        lambda cell: crafted(cell, f"Content-Length: {_span(cell) - 5}", length=False),
        # Of a whole body the length is all that says where it ends: the file is what the server says it is.
        lambda cell: (
            PROTOCOL if cell.ranges else (Outcome(f"right, of {cell.size - 5} bytes") if cell.first else CHANGED)
        ),
        fits=lambda cell: cell.server in ("ranges", "whole"),
    ),
    Row(
        "length too long",
        lambda cell: crafted(cell, f"Content-Length: {_span(cell) + 5}", length=False),
        # The next answer tells another length than the one that was believed.
        lambda cell: PROTOCOL if cell.ranges else (broken()(cell) if cell.first and cell.lasting else CHANGED),
        fits=lambda cell: cell.server in ("ranges", "whole"),
    ),
    Row(
        "length beyond all files",
        lambda cell: crafted(cell, f"Content-Length: {2**63 - 1}", length=False),
        lambda cell: PROTOCOL if cell.ranges else (broken()(cell) if cell.first and cell.lasting else CHANGED),
        fits=lambda cell: cell.server in ("ranges", "whole"),
    ),
]


def _range(name: str, wrong: Callable[[Cell], tuple[int, int, int | None]], expect: Expect) -> Row:
    return Row(f"range {name}", lambda cell: Fault(wrong_range=wrong(cell)), expect)


def _said(name: str, text: Callable[[Cell], str], expect: Expect) -> Row:
    return Row(
        f"range {name}",
        lambda cell: Fault(headers={"Content-Range": text(cell)}),
        expect,
        fits=lambda cell: cell.ranges,
    )


RANGES: Final = [
    _range("of a later start", lambda cell: (cell.start + 1, cell.end - 1, cell.size), always(PROTOCOL)),
    _range(
        "of an earlier start",
        lambda cell: (max(cell.start - 5, 0), cell.end - 1, cell.size),
        lambda cell: RIGHT if cell.first and cell.server != "refusing" else PROTOCOL,
    ),
    _range("of unknown total", lambda cell: (cell.start, cell.end - 1, None), always(PROTOCOL)),
    _range("past its total", lambda cell: (cell.start, cell.end - 1, cell.end - 5), always(PROTOCOL)),
    Row("range missing", same(Fault(no_content_range=True)), always(PROTOCOL)),
    Row(
        "range never asked for",
        same(Fault(unsolicited_206=True)),
        always(PROTOCOL),
        before=lambda cell: [] if cell.server == "refusing" else [Fault(status=416)],
        fits=lambda cell: cell.first,
    ),
    _said("in other units", lambda cell: f"items {cell.start}-{cell.end - 1}/{cell.size}", always(PROTOCOL)),
    _said("of no form", lambda _: "bytes everything", always(PROTOCOL)),
    _said("backwards", lambda cell: f"bytes {cell.end - 1}-{cell.start}/{cell.size}", always(PROTOCOL)),
    _said("below zero", lambda cell: f"bytes -{cell.start}-{cell.end - 1}/{cell.size}", always(PROTOCOL)),
    _said("beyond all files", lambda cell: f"bytes {cell.start}-{cell.end - 1}/{2**63}", always(PROTOCOL)),
    _said(
        "of another total",
        lambda cell: f"bytes {cell.start}-{cell.end - 1}/{cell.size + 5}",
        # Believed from a first answer; the request for what follows tells that it is not so.
        lambda cell: Outcome("StatusError", None, 416) if cell.first and cell.lasting else CHANGED,
    ),
    Row(
        "range twice",
        _doubled(lambda cell: f"Content-Range: bytes {cell.start}-{cell.end - 1}/{cell.size}"),
        right,
        fits=lambda cell: cell.server == "ranges" and not cell.lasting,
    ),
    Row(
        "two ranges",
        _doubled(lambda cell: f"Content-Range: bytes 0-{cell.end - 1}/{cell.size + 1}"),
        always(PROTOCOL),
        fits=lambda cell: cell.server == "ranges",
    ),
    Row(
        "206 shorter than its range",
        lambda cell: Fault(headers={"Content-Length": str(cell.end - cell.start - 7)}),
        always(PROTOCOL),
        fits=lambda cell: cell.server == "ranges",
    ),
    Row(
        "206 longer than its range",
        same(Fault(no_length=True, extra=b"and more")),
        always(PROTOCOL),
        # Elsewhere the reader has all its bytes, which are right, before the surplus is seen.
        fits=lambda cell: cell.server == "ranges" and cell.phase == "seek",
    ),
]

REDIRECTS: Final = [
    *(
        Row(f"redirect to {name}", same(Fault(redirect=target)), always(PROTOCOL), fits=bare)
        for name, target in (
            ("a file", "file:///etc/passwd"),
            ("ftp", "ftp://example.org/a.mp3"),
            ("data", "data:audio/mpeg;base64,AAAA"),
            ("no host", "http:///a.mp3"),
            ("no port", "http://example.org:99999/a.mp3"),
            ("a bad host", "http://[::1/a.mp3"),
            ("nothing", ""),
        )
    ),
    Row(
        "redirect to itself",
        same(Fault(redirect="#again", redirect_status=307)),
        lambda cell: PROTOCOL if cell.lasting else RIGHT,
    ),
    Row("redirect without a place", same(Fault(status=302)), always(PROTOCOL)),
    Row("redirect to what is missing", same(Fault(redirect="/nowhere")), always(Outcome("StatusError", None, 404))),
    Row("redirect to a closed port", same(Fault(redirect="http://127.0.0.1:1/a.mp3")), broken()),
    Row("redirect that loops", lambda _: Fault(redirect="/loop/1?loop"), always(PROTOCOL)),
]


def _replaced(cell: Cell, *, longer: bool) -> Outcome:
    """What a reader of the start of the old entity gets when the server has another one."""
    if cell.first:
        return NEW
    # Without ranges the whole body comes again, and what was held of the old one is not at its start.
    told = cell.validator != "none" or longer or not cell.ranges
    return CHANGED if told else UNTELLABLE


REPLACED: Final = [
    Row("replaced, same length", other, lambda cell: _replaced(cell, longer=False)),
    Row("replaced, longer", lambda cell: other(cell, cell.size + 5), lambda cell: _replaced(cell, longer=True)),
    Row(
        "replaced, shorter",
        lambda cell: other(cell, cell.start + 100),
        lambda cell: _replaced(cell, longer=True),
        fits=lambda cell: cell.phase == "resume",
    ),
    Row(
        "replaced, shorter than what is held",
        lambda cell: other(cell, CUT // 2),
        always(CHANGED),
        fits=lambda cell: cell.phase == "resume",
    ),
    Row(
        "other validators",
        lambda cell: Fault(entity=entity(cell, later=True)),
        lambda cell: RIGHT if cell.first or cell.validator == "none" else CHANGED,
    ),
    Row(
        "validators gone",
        same(Fault(headers={"ETag": None, "Last-Modified": None})),
        # A 206 to If-Range is the old entity; a whole body that was conditional has to say so.
        lambda cell: CHANGED if not cell.first and not cell.ranges and cell.validator in ("strong", "date") else RIGHT,
    ),
]

FAMILIES: Final = {
    "statuses": STATUSES,
    "breaks": BREAKS,
    "silence": SILENCE,
    "framing": FRAMING,
    "lengths": LENGTHS,
    "ranges": RANGES,
    "redirects": REDIRECTS,
    "replaced": REPLACED,
}
