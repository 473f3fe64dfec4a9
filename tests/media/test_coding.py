"""Decoding gives the same bytes however the body is cut, never more than was asked for, and never a wrong one."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import ProtocolError
from kithara_actors.logic.coding import CODINGS, Decoder

SHAPES = ["gzip", "zlib", "raw"]


def coded(data: bytes, shape: str) -> bytes:
    if shape == "gzip":
        return gzip.compress(data, mtime=0)
    packer = zlib.compressobj(wbits=15 if shape == "zlib" else -15)
    return packer.compress(data) + packer.flush()


def decoder(shape: str) -> Decoder:
    return Decoder("gzip" if shape == "gzip" else "deflate")


def decoded(decoder: Decoder, body: bytes, cuts: list[int], limit: int) -> bytes:
    """What comes out when the body is fed in pieces; no piece that comes out is larger than `limit`."""
    out = b""
    at = 0
    for size in [*cuts, len(body)]:
        decoder.feed(body[at : at + size])
        at += size
        while piece := decoder.take(limit):
            assert len(piece) <= limit
            out += piece
    return out


BODIES = st.one_of(st.binary(max_size=2000), st.binary(min_size=1, max_size=20).map(lambda part: part * 500))
CUTS = st.lists(st.integers(0, 40), max_size=30)


@given(body=BODIES, shape=st.sampled_from(SHAPES), cuts=CUTS, limit=st.integers(1, 3000))
def test_cuts_and_limits_do_not_matter(body: bytes, shape: str, cuts: list[int], limit: int) -> None:
    one = decoder(shape)
    assert decoded(one, coded(body, shape), cuts, limit) == body
    assert one.complete


@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=5), cuts=CUTS)
def test_gzip_may_have_several_members(parts: list[bytes], cuts: list[int]) -> None:
    one = Decoder("gzip")
    assert decoded(one, b"".join(gzip.compress(part) for part in parts), cuts, 64) == b"".join(parts)
    assert one.complete


@given(body=BODIES, shape=st.sampled_from(SHAPES), cuts=CUTS, data=st.data())
def test_what_is_cut_short_is_not_complete(body: bytes, shape: str, cuts: list[int], data: st.DataObject) -> None:
    whole = coded(body, shape)
    kept = data.draw(st.integers(1, len(whole) - 1))
    one = decoder(shape)
    assert body.startswith(decoded(one, whole[:kept], cuts, 100))
    assert not one.complete


@given(body=BODIES, shape=st.sampled_from(SHAPES), tail=st.binary(min_size=1, max_size=50), cuts=CUTS)
def test_what_follows_the_end_is_dropped(body: bytes, shape: str, tail: bytes, cuts: list[int]) -> None:
    tail = b"\0" + tail
    one = decoder(shape)
    assert decoded(one, coded(body, shape) + tail, cuts, 100) == body
    assert one.complete
    one.feed(gzip.compress(b"more"))  # not a member any more: something else came between
    assert one.take(100) == b""


def test_a_second_member_that_is_cut_short_is_missed() -> None:
    one = Decoder("gzip")
    body = gzip.compress(b"one") + gzip.compress(b"two")[:-1]
    assert decoded(one, body, [], 100).startswith(b"one")
    assert not one.complete


@given(garbage=st.binary(max_size=300), coding=st.sampled_from(sorted(set(CODINGS.values()))), cuts=CUTS)
def test_garbage_raises_nothing_but_what_is_said(garbage: bytes, coding: str, cuts: list[int]) -> None:
    with contextlib.suppress(ProtocolError):
        decoded(Decoder(coding), garbage, cuts, 10)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_not_coded_is_refused(coding: str) -> None:
    with pytest.raises(ProtocolError, match=f"not the {coding} that"):
        decoded(Decoder(coding), b"\xff" * 100, [], 100)


@pytest.mark.parametrize("shape", ["gzip", "zlib"])
def test_a_flipped_bit_is_noticed(shape: str) -> None:
    body = bytearray(coded(bytes(range(256)) * 10, shape))
    body[len(body) // 2] ^= 4
    with pytest.raises(ProtocolError):
        decoded(decoder(shape), bytes(body), [], 1 << 20)


def test_an_empty_body_is_complete() -> None:
    assert Decoder("gzip").complete
    one = Decoder("gzip")
    one.feed(b"")
    assert one.take(1) == b""
    assert one.complete


def test_a_bomb_is_never_held() -> None:
    """A thousand to one: 64 MiB out of 64 KiB, of which one piece is in memory at a time."""
    bomb = gzip.compress(bytes(64 << 20))
    one = Decoder("gzip")
    tracemalloc.start()
    try:
        one.feed(bomb)
        total = 0
        while piece := one.take(1 << 16):
            total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 2 << 20
