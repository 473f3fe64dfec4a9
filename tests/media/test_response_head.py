"""The lines of a response head: how they are cut does not matter, and all of them together have to come in time."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.worker import connections
from kithara_actors.worker.connections import Malformed, _Lines

LIMIT = 30.0
MOST = 65_537
"""What http.client asks for at most."""

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nX-Folded: a\r\n b\r\nX: \xe9\r\nContent-Length: 6\r\n\r\n"


class Pieces(io.RawIOBase):
    """Hands out one piece for each read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        now, later = piece[: len(buffer)], piece[len(buffer) :]
        if later:
            self._pieces.insert(0, later)
        buffer[: len(now)] = now
        return len(now)


class Sock:
    def __init__(self) -> None:
        self.limits: list[float] = []

    def gettimeout(self) -> float:
        return LIMIT

    def settimeout(self, seconds: float) -> None:
        self.limits.append(seconds)


def lines_of(pieces: Iterable[bytes]) -> tuple[list[bytes], str | None, bool]:
    """Lines up to the end of the first head that is no interim one, what is wrong with them, whether they were cut."""
    lines = _Lines(Sock(), io.BufferedReader(Pieces(pieces)))
    found: list[bytes] = []
    status = b""
    try:
        while line := lines.readline(MOST):
            found.append(line)
            status = status or line
            if line in (b"\r\n", b"\n"):
                if not status.startswith(b"HTTP/1.1 1"):
                    break
                status = b""
    except Malformed as error:
        return found, str(error), lines.cut
    return found, None, lines.cut


STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 206", b"HTTP/1.1 100 Continue", b"HTTP/1.1 20", b"HTTP/1.1 +200 OK", b"junk", b""]
)
FIELDS = st.lists(
    st.sampled_from(
        [b"A: b", b" folded", b"\tfolded", b"C:", b"junk", b"D : e", b"F: \0", b"G: h\ri", b"J: " + b"k" * 9000]
    )
)
END = st.sampled_from([b"\r\n", b"\n"])


@given(st.lists(st.tuples(STATUS, FIELDS), min_size=1, max_size=3), END, st.data())
def test_how_a_head_is_cut_does_not_matter(
    heads: list[tuple[bytes, list[bytes]]], end: bytes, data: st.DataObject
) -> None:
    whole = b"".join(b"".join(line + end for line in (status, *fields, b"")) for status, fields in heads)
    whole = whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert lines_of(pieces) == lines_of([whole])
    if len(whole) < 500:
        assert lines_of([bytes([byte]) for byte in whole]) == lines_of([whole])


@given(st.binary(max_size=400))
def test_only_what_is_no_head_is_refused(data: bytes) -> None:
    found, _, _ = lines_of([b"HTTP/1.1 200 OK\r\n", data])
    assert b"".join(found) == (b"HTTP/1.1 200 OK\r\n" + data)[: sum(map(len, found))]
    assert all(b"\0" not in line and b"\r" not in line.rstrip(b"\r\n") for line in found[1:] if line.endswith(b"\n"))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_good_head_is_read_line_by_line(size: int) -> None:
    found, wrong, cut = lines_of([GOOD[at : at + size] for at in range(0, len(GOOD), size)])
    assert b"".join(found) == GOOD
    assert (wrong, cut) == (None, False)


@pytest.mark.parametrize(
    ("head", "cut"),
    [(b"", True), (b"HT", True), (b"HTTP/1.1 20", True), (b"<html>", False), (b"HTTP/1.1 200 OK\r\nX: y", True)],
)
def test_a_cut_is_told_from_what_is_no_answer(head: bytes, cut: bool) -> None:
    lines = _Lines(Sock(), io.BufferedReader(Pieces([head])))
    while lines.readline(MOST).endswith(b"\n"):
        pass
    assert lines.cut is cut


def test_the_lines_have_the_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(connections, "monotonic", clock)
    sock = Sock()
    lines = _Lines(sock, io.BufferedReader(Pieces([b"HTTP/1.1 200 OK\r\n", *([b"X: y\r\n"] * 90)])))
    with pytest.raises(TimeoutError):
        list(iter(lambda: lines.readline(MOST), b""))
    # Every wait is as long as what is left, and the last one is not begun.
    assert sock.limits == [LIMIT - passed for passed in range(1, int(LIMIT))]
    lines.release()
    assert sock.limits[-1] == LIMIT


def test_interim_answers_are_counted() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert lines_of([interim * 16, GOOD])[1] is None
    assert lines_of([interim * 17, GOOD])[1] == "more than 16 interim answers"
    assert lines_of([interim] * 17 + [GOOD])[1] == "more than 16 interim answers"


def test_malformed_is_of_http_client() -> None:
    assert issubclass(Malformed, http.client.HTTPException)
