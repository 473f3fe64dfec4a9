"""Answers that break HTTP for good, by what is wrong with them, and what a reader has to be told."""

from __future__ import annotations

from typing import Final

from bad_answers_kit import Answer, endless, then

__all__ = ["CHUNKED", "FINAL", "OK", "redirect"]

OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
STATUS: Final = "a status that is no number from 100 to 999"
FIELD: Final = "a line in its head that is no header field"
START: Final = "it does not begin as HTTP/1.1 does"
LONG: Final = "a line in its head of more than 64 KiB"
LOCATION: Final = "302 Found with a Location that is no http(s) URL"
RANGE: Final = "the Content-Range is not 'bytes first-last/total' with a known total"

Table = dict[str, tuple[Answer, str]]


def partial(content_range: str) -> bytes:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: 6\r\nContent-Range: {content_range}\r\n\r\n"
    return head.encode("latin-1") + b"abcdef"


def status(code: str) -> bytes:
    return f"HTTP/1.1 {code} Odd\r\nContent-Length: 6\r\n\r\nabcdef".encode()


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode("latin-1")


def length(value: str) -> bytes:
    return OK + f"Content-Length: {value}\r\n\r\nabcdef".encode("latin-1")


LENGTHS: Final[Table] = {
    **{
        f"length {value!r:.20}": (then(length(value)), "the Content-Length is not a number of bytes")
        for value in ("", "-6", "+6", "0x6", "6.0", "1_0", "6;", "\xb3", str(2**64), "9" * 400)
    },
    "length 2^63": (then(length(str(2**63))), "the Content-Length is larger than any file"),
    **{
        f"lengths {value!r}": (then(length(value)), "two different values of Content-Length")
        for value in ("5, 6", "6, -6", "5\r\nContent-Length: 6", ", 6")
    },
}

RANGES: Final[Table] = {
    **{
        f"range {value!r}": (then(partial(value)), RANGE)
        for value in (
            *("", "bytes", "bytes 0-5", "bytes 0-5/", "bytes 0-5/*", "bytes */6", "0-5/6", "bytes=0-5/6"),
            *("bytes 0-5/6/7", "bytes 0-5/-6", "bytes 0-5/6x", "bytes 0 - 5/6", "bytes 0-5 /6", "octets 0-5/6"),
            *("bytes 0-5/6, bytes 0-5/6", "bytes 99999999999999999999-5/6", "bytes +0-5/6", "bytes 0-5/\xb2"),
        )
    },
    "range past its end": (then(partial("bytes 0-5/5")), "Content-Range 0-5/5 contradicts itself"),
    "range backwards": (then(partial("bytes 0-5/6\r\nContent-Range: bytes 0-5/7")), RANGE),
    "range elsewhere": (then(partial("bytes 1-6/7")), "Content-Range 1-6/7 does not begin at 0"),
}

REDIRECTS: Final[Table] = {
    **{
        f"redirect to {target[:12]!r}": (then(redirect(target)), LOCATION)
        for target in (
            *("file:///etc/passwd", "ftp://h/a", "javascript:alert(1)", "data:,a", "mailto:a@b", "blob:http://h/a"),
            *("http://", "http://u:p@[", "ws://h/", "http://h:0/", "http://h:x/", "//u@:1/", "http://é/"),
            "http://" + "h" * 300,
        )
    },
    "redirect without Location": (
        then(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
        "302 Found without a Location",
    ),
    "redirect to nothing": (then(redirect("")), "302 Found without a Location"),
    "redirect to nothing but space": (then(redirect(" \t ")), "302 Found without a Location"),
    "redirect to a control character": (then(redirect("/\x07")), "with a control character in its Location"),
    "redirect to no host name": (then(redirect("http://a..b/")), "not a host name: a..b"),
    "redirect to 70,000 characters": (then(redirect("/" + "x" * 70_000)), LONG),
}

FIRST_LINES: Final[Table] = {
    **{f"status {code!r}": (then(status(code)), STATUS) for code in ("000", "099", "0", "99", "1000", "-1", "+200")},
    **{f"status {code!r}": (then(status(code)), STATUS) for code in ("20_0", "0200", "2 00", "2e2", "200.5", "٢٠٠")},
    "status 600": (then(status("600")), "600 where 200 or 206 was due"),
    "no status": (then(b"HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef"), START),
    "HTTP/0.9": (then(b"<html>hello</html>"), START),
    "HTTP/0.9 in lines": (then(b"ID3\x04\x00\r\n\r\n\xff\xfb"), START),
    "HTTP/2": (then(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d"), START),
    "HTTP/2 preface": (then(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), START),
    "HTTP/2 in words": (then(b"HTTP/2.0 200 OK\r\nContent-Length: 6\r\n\r\nabcdef"), "not HTTP/1.1"),
    "a line of status without end": (then(b"HTTP/1.1 200 ", endless(b"H" * 4096)), LONG),
    "a line without end": (then(endless(b"H" * 4096)), START),
    "interim answers without end": (then(endless(b"HTTP/1.1 100 Continue\r\n\r\n")), "more than 16 interim answers"),
    "slow interim answers": (then(endless(b"HTTP/1.1 100 Continue\r\n\r\n", b"")), "more than 16 interim answers"),
    "hints without end": (then(endless(b"HTTP/1.1 103 Early Hints\r\n\r\n")), "103 Early Hints where 200"),
    "another protocol": (then(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", endless(b"x")), "101 Switch"),
}

HEADER_FIELDS: Final[Table] = {
    "a field of 64 KiB": (then(OK + b"X: " + b"y" * 65_536 + b"\r\n\r\nabcdef"), LONG),
    "1,000 fields": (then(OK + b"X: y\r\n" * 1_000 + b"\r\nabcdef"), "more than 100 header fields"),
    "fields without end": (then(OK, endless(b"X: y\r\n")), "more than 100 header fields"),
    **{
        f"field {line!r}": (then(OK + line + b"\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nabcdefgh"), FIELD)
        for line in (
            *(b"junk", b"X : y", b": y", b" X: y", b"X\0: y", b"X: y\0", b"X: y\rContent-Length: 3", b"\xe9: y"),
            *(b"Content-Length: 6\r", b"X Y: z"),
        )
    },
}

CHUNKS: Final[Table] = {
    **{
        f"chunk of {size[:20]!r}": (then(CHUNKED + size + b"\r\nabcdef\r\n0\r\n\r\n"), "a malformed chunk size")
        for size in (b"10000000000000000", b"-6", b"0x6", b"+6", b"", b"six", b"6 6", b"6\xb2")
    },
    "chunk with 64 KiB of extension": (
        then(CHUNKED + b"6;a=" + b"y" * 65_536 + b"\r\nabcdef\r\n0\r\n\r\n"),
        "a chunk header or trailer without end",
    ),
    "chunk longer than it says": (then(CHUNKED + b"5\r\nabcdef\r\n0\r\n\r\n"), "longer than its size"),
    "trailers without end": (then(CHUNKED + b"6\r\nabcdef\r\n0\r\n", endless(b"X: y\r\n")), "more than 100 trailer"),
    "a trailer of 64 KiB": (then(CHUNKED + b"6\r\nabcdef\r\n0\r\nX: " + b"y" * 65_536), "trailer without end"),
}

FINAL: Final[dict[str, Table]] = {
    "lengths": LENGTHS,
    "ranges": RANGES,
    "redirects": REDIRECTS,
    "first lines": FIRST_LINES,
    "header fields": HEADER_FIELDS,
    "chunks": CHUNKS,
}
