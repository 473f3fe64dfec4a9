"""Whatever bytes a server sends: only the package's own errors come out. The targets are those of `scripts/fuzz.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_script", ROOT / "scripts" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzz = load()

NUMBERS = st.one_of(
    st.integers(-5, 120).map(str),
    st.sampled_from([str(2**63 - 1), str(2**63), "9" * 5_000, "٣", "1_0", " 5", "+5", "0x5", "5e0", ""]),
)
NAMES = st.sampled_from(
    [
        "Content-Length",
        "Content-Range",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "ETag",
        "Last-Modified",
        "Date",
        "Retry-After",
        "Location",
        "content-length",
        "CONTENT-RANGE",
        "X-Other",
        "",
        " ",
        "A\0b",
    ]
)
DATES = st.builds(
    "{}, {:02} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Wed", "Wednesday", "", "Mer"]),
    st.integers(0, 40),
    st.sampled_from(["Oct", "oct", "Okt", "13"]),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from(["GMT", "UTC", "+9999", "-0000", "+99999999", "EST", ""]),
)
VALUES = st.one_of(
    st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS | st.just("*")),
    st.builds("bytes */{}".format, NUMBERS),
    st.lists(NUMBERS, max_size=3).map(", ".join),
    DATES,
    st.sampled_from(["chunked", "gzip", "identity", "text/html", "multipart/byteranges", '"one"', 'W/"one"', '"']),
    st.text(max_size=30),
)
LOCATIONS = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(
            ["", "//", "http://", "https:", "HTTPS://", "file://", "javascript:", "http:/", "?", "#", "\\\\"]
        ),
        st.sampled_from(
            ["", "a.example", "user:pw@a", "[::1]", "[::1", "a:99999", "a:-1", "a:0", "%", "xn--", "é.test"]
        ),
        st.sampled_from(["", "/", "/a/../..", "/%zz", "/\u2028", "/ä", "/a b", "/;x", "\\x"]),
        st.sampled_from(["", "?", "?a=b", "#", "#f", "?\x7f", "\r\nX: y"]),
    ),
)
LINES = st.builds("{}: {}".format, NAMES, VALUES)
STATUSES = st.one_of(
    st.builds("HTTP/1.1 {} {}".format, NUMBERS | st.integers(99, 600).map(str), st.text(max_size=10)),
    st.sampled_from(["HTTP/1.1 200", "HTTP/0.9 200 OK", "HTTP/2 200", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"]),
    st.text(max_size=20),
)
HEADS = st.builds(
    lambda status, lines, end: "\r\n".join([status, *lines]) + end,
    STATUSES,
    st.lists(LINES, max_size=8),
    st.sampled_from(["\r\n\r\n", "\n\n", "\r\n", "", "\r\n\r\nbody"]),
).map(lambda text: text.encode("utf-8", "surrogateescape"))


@given(st.one_of(HEADS, st.binary(), st.sampled_from(fuzz.SEEDS)))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n")
@example(b"HTTP/1.1 200 " + b"x" * 65_536)
def test_any_head_is_an_answer_or_one_of_our_errors(data: bytes) -> None:
    fuzz.TARGETS["head"](data)


@given(st.one_of(st.lists(LINES).map("\n".join).map(lambda text: text.encode("utf-8", "replace")), st.binary()))
def test_any_header_fields_are_accepted_soundly_or_refused(data: bytes) -> None:
    fuzz.TARGETS["fields"](data)


@given(st.one_of(LOCATIONS.map(lambda text: text.encode("utf-8", "replace")), st.binary()))
def test_any_location_leads_to_an_http_url_or_to_our_error(data: bytes) -> None:
    fuzz.TARGETS["location"](data)


@given(st.one_of(DATES.map(lambda text: text.encode("utf-8", "replace")), st.binary(), VALUES.map(str.encode)))
@example(b"Wed, 21 Oct 0000 07:28:00 GMT")
@example(b"Fri, 31 Dec 9999 23:59:59 -9999")
def test_any_date_is_a_moment_with_a_zone_or_none(data: bytes) -> None:
    fuzz.TARGETS["date"](data)


def test_the_script_says_how_fast_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--runs", "300", "--random"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(fuzz.TARGETS)
    assert all("no finding in 300 executions" in line and "a second" in line for line in told)


def test_the_script_tells_a_finding_by_its_input_and_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(data: bytes) -> None:
        if data:
            raise KeyError("fragile")

    monkeypatch.setitem(fuzz.TARGETS, "date", fragile)
    assert fuzz.main(["--runs", "300", "--random", "date"]) == 1
    told = capsys.readouterr().out
    assert "KeyError('fragile')" in told
    assert "input: b" in told


def test_the_same_seed_tries_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    monkeypatch.setitem(fuzz.TARGETS, "date", tried.append)
    for _ in range(2):
        assert fuzz.main(["--runs", "50", "--seed", "3", "--random", "date"]) == 0
    assert tried[:50] == tried[50:]
    assert len(set(tried)) > 30


def test_an_unknown_target_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fuzz.main(["nothing"])
    assert ended.value.code == 2
    assert "no such target: nothing" in capsys.readouterr().err
