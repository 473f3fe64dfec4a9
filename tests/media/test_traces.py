"""A trace that was cut or damaged is read up to there, and told of; hostile ones end in an error, and nothing else."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorder_kit import KIB, book, recorder, replayed, requests

from kithara_actors.errors import TraceError
from kithara_actors.logic.machines import VOCABULARY
from kithara_actors.logic.plain import PlainError
from kithara_actors.logic.replay import Replay
from kithara_actors.messages.frames import Event, State, Words
from kithara_actors.traces import FRAMES_AT, HEADER, STOP, Header, framed, lap_header, pack, read_trace, unpack

SIZE = 64 * KIB


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a trace of two laps."""
    path = tmp_path_factory.mktemp("traces") / "trace"
    made = recorder(path, SIZE)
    requests(made.machine("downloader", book()), range(1, 170))
    made.close()
    assert len(read_trace(path).laps) == 2
    return path.read_bytes()


def trace_of(*frames: bytes, half: int = 32 * KIB, lap: int = 1) -> bytes:
    """A file with these packed frames in its first lap."""
    body = lap_header(lap)[: -len(STOP)] + b"".join(framed(frame, lap) for frame in frames)
    return Header(half, 0.0, 0.0, 1).pack() + body.ljust(half, b"\0") + bytes(half)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    some = [
        Words(0, 1.0, ((16, "a.b.C", "x"),)),
        State(1, 2.0, "a\udc80b", 1, 0, "Kind", None),
        Event(2, 3.0, "a", 1, 0, "Kind", (0, 1), ((0,), None), None, (1, (16, b"x"))),
        Event(3, 4.0, "a", 1, 1, "Kind", (0,), (), "ValueError", "why"),
    ]
    for frame in some:
        assert unpack(pack(frame)) == frame
    path = tmp_path / "trace"
    path.write_bytes(trace_of(*map(pack, some)))
    assert list(read_trace(path)) == some


def test_file_cut_anywhere_is_read_up_to_there(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(whole)
    intact = read_trace(path)
    ends = sorted(at for lap in intact.laps for at, _ in lap.frames[1:])
    """Of the frames before."""
    for cut in range(HEADER, len(whole), 1999):
        path.write_bytes(whole[:cut])
        trace = read_trace(path)
        assert trace.damage or cut > ends[-1] > ends[0], cut
        for damage in trace.damage:
            assert str(damage).startswith(f"{path}: the file ends")
            assert "; what comes before is sound" in str(damage)
        # All that was whole before the cut is there.
        assert sum(len(lap.frames) for lap in trace.laps) >= sum(at <= cut for at in ends)
        replay = Replay()
        assert all(replay.take(frame) is None for frame in trace)


def test_torn_frame_is_named_with_its_offset(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(whole)
    last_at, _ = read_trace(path).laps[-1].frames[-1]
    count = len(list(read_trace(path)))
    torn = bytearray(whole)
    torn[last_at + 20 : last_at + 30] = b"\xff" * 10
    path.write_bytes(torn)
    trace = read_trace(path)
    assert [str(damage) for damage in trace.damage] == [
        f"{path}: a damaged frame at offset {last_at}; what comes before is sound"
    ]
    assert len(list(trace)) == count - 1


def test_damage_in_one_lap_leaves_the_other(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(whole)
    newest = read_trace(path).laps[-1]
    begin = HEADER + (newest.number - 1) % 2 * ((len(whole) - HEADER) // 2)
    other = HEADER + newest.number % 2 * ((len(whole) - HEADER) // 2)
    for where, what in ((other + 3, "a lap has a damaged header"), (other + FRAMES_AT + 30, "a damaged frame")):
        spoilt = bytearray(whole)
        spoilt[where] ^= 0xFF
        path.write_bytes(spoilt)
        trace = read_trace(path)
        assert trace.laps[-1] == newest
        assert what in str(trace.damage[0])
        replay = Replay()
        assert all(replay.take(frame) is None for frame in trace)
        assert sum(replay.replayed.values()) == sum(isinstance(frame, Event) for _, frame in newest.frames)
    assert begin != other


@given(at=st.integers(0, SIZE - 1), flip=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_changed_byte_is_an_error_or_changes_nothing(whole: bytes, tmp_path: Path, at: int, flip: int) -> None:
    path = tmp_path / "trace"
    path.write_bytes(whole)
    before = list(read_trace(path))
    changed = bytearray(whole)
    changed[at % len(whole)] ^= flip
    path.write_bytes(changed)
    if at % len(whole) < HEADER:
        with contextlib.suppress(TraceError):
            assert list(read_trace(path)) == before
        return
    trace = read_trace(path)
    if not trace.damage:
        assert list(trace) == before
    assert all(frame in before for frame in trace)


# --- Hostile files


def test_what_is_no_trace_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    header = Header(32 * KIB, 0.0, 0.0, 1).pack()
    for data, said in (
        (b"", "is not a trace"),
        (b"RIFF" + bytes(5000), "is not a trace"),
        (header[:100], "ends at offset 100, in the middle of its header"),
        (header[:16] + b"\x02" + header[17:], "is a trace of version 2, and this library reads version 1"),
        (header[:20] + b"\xff" + header[21:], "has a damaged header at offset 0"),
        (Header(1 << 40, 0.0, 0.0, 1).pack(), "has a header that no recorder has written"),
        (Header(3, 0.0, 0.0, 1).pack(), "has a header that no recorder has written"),
    ):
        path.write_bytes(data)
        with pytest.raises(TraceError) as caught:
            read_trace(path)
        assert str(caught.value) == f"{path}: {said}"
    with pytest.raises(FileNotFoundError):
        read_trace(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_trace(tmp_path)
    with pytest.raises(TraceError, match="it is no file"):
        read_trace("/dev/null")


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x90",
        msgpack.packb((9, 1)),
        msgpack.packb((True, 1, 1.0, ())),
        msgpack.packb((0, 1, 1.0)),
        msgpack.packb((0, "1", 1.0, ())),
        msgpack.packb((0, 1, 1, ())),
        msgpack.packb((0, 1, 1.0, {})),
        msgpack.packb((0, 1, 1.0, (msgpack.ExtType(5, b"x"),))),
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffab",
        nested(100_000),
        msgpack.packb((0, 1, 1.0, ())) + b"more",
    ],
    ids=range(15),
)
def test_what_is_no_frame_is_damage(packed: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frame"):
        unpack(packed)
    path = tmp_path / "trace"
    path.write_bytes(trace_of(packed, half=256 * KIB))
    trace = read_trace(path)
    assert list(trace) == []
    if packed:
        assert f"at offset {HEADER + FRAMES_AT}; " in str(trace.damage[0])


@given(st.binary(max_size=300))
def test_random_bytes_are_no_frame(data: bytes) -> None:
    try:
        frame = unpack(data)
    except ValueError:
        return
    assert isinstance(frame, Words | State | Event)


@given(st.binary(max_size=200), st.integers(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_random_files_with_good_checksums(tmp_path: Path, data: bytes, cut: int) -> None:
    path = tmp_path / "trace"
    path.write_bytes(trace_of(data, half=1 * KIB)[: -cut or None])
    for frame in read_trace(path):
        with contextlib.suppress(TraceError):
            Replay().take(frame)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 120) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=12,
)


@settings(max_examples=100)
@given(
    st.sampled_from(["FetchBook", "SlotMap", "Supervision", "plan", "int"]), plain, plain, st.lists(plain).map(tuple)
)
def test_hostile_states_and_events_are_an_error_or_a_difference(
    kind: str, state: object, inputs: object, answers: tuple[object, ...]
) -> None:
    replay = Replay()
    with contextlib.suppress(TraceError):
        replay.take(State(1, 1.0, "a", 1, 0, kind, state))
    with contextlib.suppress(TraceError):
        replay.take(Event(2, 1.0, "a", 1, 0, kind, inputs, answers, None, None))


mutations = st.lists(st.tuples(st.integers(0, 200), plain), min_size=1, max_size=3)


def replaced(tree: object, at: list[int], new: object) -> object:
    """`tree` with its node number `at[0]`, counted in order, replaced."""
    at[0] -= 1
    if at[0] == -1:
        return new
    if isinstance(tree, tuple):
        return tuple(replaced(each, at, new) for each in tree)
    return tree


@given(mutations)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_real_trace_with_other_values_in_it(whole: bytes, tmp_path: Path, changes: list[tuple[int, object]]) -> None:
    path = tmp_path / "trace"
    path.write_bytes(whole)
    frames = list(read_trace(path))[:12]
    replay = Replay()
    for at, new in changes:
        which = at % len(frames)
        frame = frames[which]
        if isinstance(frame, State):
            frames[which] = State(
                *(getattr(frame, name) for name in frame.__slots__[:-1]), replaced(frame.state, [at], new)
            )
        elif isinstance(frame, Event) and isinstance(changed := replaced(frame.inputs, [at], new), tuple):
            values = {name: getattr(frame, name) for name in frame.__slots__}
            frames[which] = Event(**values | {"inputs": changed})
    for frame in frames:
        with contextlib.suppress(TraceError):
            replay.take(frame)


def test_large_claims_take_no_memory(tmp_path: Path) -> None:
    """Lengths are believed only as far as the file goes."""
    path = tmp_path / "trace"
    half = 512 * KIB
    lies = [
        struct.pack("<II", 0xFFFFFFF0, 0),
        framed(b"\xdd\xff\xff\xff\xff" + bytes(100), 1),
        framed(b"\xc6\xff\xff\xff\xff" + bytes(100), 1),
        framed(nested(half - 100), 1),
        framed(b"\x93\x00\x01\xdd" + struct.pack(">I", half - 100) + b"\x91\xc0" * (half // 2 - 100), 1),
    ]
    for lie in lies:
        path.write_bytes(Header(half, 0.0, 0.0, 1).pack() + (lap_header(1)[: -len(STOP)] + lie).ljust(half, b"\0"))
        tracemalloc.start()
        try:
            trace = read_trace(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert trace.damage
        assert peak < 40 * half


def test_another_version_of_the_logic_is_told(whole: bytes, tmp_path: Path) -> None:
    words = Words(0, 1.0, (*VOCABULARY.described, (999, "a.New", "x")))
    with pytest.raises(TraceError, match="recorded by another version of the library"):
        Replay().take(words)
    assert issubclass(TraceError, ValueError)
    assert issubclass(PlainError, ValueError)


def test_an_old_frame_behind_a_new_one_is_not_taken_for_newer(tmp_path: Path) -> None:
    """A checksum is of its lap: where the zeros behind the last frame are lost, what was there before is no frame."""
    old, new = pack(Words(5, 1.0, ())), pack(Words(9, 2.0, ()))
    half = 32 * KIB
    body = lap_header(3)[: -len(STOP)] + framed(new, 3) + framed(old, 1)
    path = tmp_path / "trace"
    path.write_bytes(Header(half, 0.0, 0.0, 1).pack() + body.ljust(half, b"\0") + bytes(half))
    trace = read_trace(path)
    assert [frame.seq for frame in trace] == [9]
    assert "a damaged frame" in str(trace.damage[0])
    assert zlib.crc32(old, 1) != zlib.crc32(old, 3)


def test_replay_of_a_trace_of_several_laps(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(whole)
    replay = replayed(path)
    assert not replay.passed
    assert replay.replayed["downloader"] == sum(isinstance(frame, Event) for frame in read_trace(path))
