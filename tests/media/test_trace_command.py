"""`kithara trace`: what it shows, of what, and what it says of files that are damaged or decided otherwise."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recorder_kit import book, frames, recorder, requests
from test_replay import changed_delay, fetches
from test_traces import trace_of

from kithara_actors.cli import main
from kithara_actors.command.trace_text import described, indented, json_of, of_request, text_of
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.machines import VOCABULARY
from kithara_actors.logic.plain import Encoder
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.frames import Event, State, Words
from kithara_actors.traces import pack, read_trace

Run = Callable[..., tuple[int, list[str], str]]
WORDS = described(VOCABULARY.described)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """One command in this process: status, lines of the standard output, standard error."""

    def call(*arguments: object) -> tuple[int, list[str], str]:
        status = main(["trace", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "trace"
    fetches(found)
    return found


def test_a_line_for_each_decision(run: Run, path: Path) -> None:
    status, lines, err = run(path)
    assert (status, err) == (0, "")
    assert len(lines) == len(frames(path)) - 1
    assert re.fullmatch(r" +1 +\+\d\.\d{4}  downloader#1 +state after 0 events", lines[0])
    assert "Start(spec=FetchSpec(request=1, asset=1, peer='source-1', kind=FetchKind.DEMAND, url='http" in lines[1]
    assert (
        "-> [Begin(spec=FetchSpec(request=1, …)), Run(spec=FetchSpec(request=1, …), attempt=1, start=1000" in lines[1]
    )
    assert lines[3].endswith("DelayOver(request=1, attempt=1) -> [AskSlot(request=1)]")


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--actor", "root"), 6),
        (("--actor", "root", "--actor", "source-1"), 7),
        (("--actor", "source-*"), 1),
        (("--actor", "source-*", "--until", "1"), 0),
        (("--request", "2"), 2),
        (("--request", "99"), 0),
        (("--until", "4"), 4),
        (("--request", "1", "--until", "4"), 3),
    ],
)
def test_only_what_is_asked_for(run: Run, path: Path, arguments: tuple[str, ...], count: int) -> None:
    status, lines, err = run(path, *arguments)
    assert (status, len(lines), err) == (0, count, "")


@pytest.mark.parametrize("more", [(), ("--replay",), ("--json",), ("--actor", "root")])
def test_an_actor_that_is_not_in_it(run: Run, path: Path, more: tuple[str, ...]) -> None:
    status, lines, err = run(path, "--actor", "rot", *more)
    assert (status, [json.loads(line)["event"] for line in lines]) == (1, ["failed"] * ("--json" in more))
    assert err == f"kithara: {path}: no actor 'rot' in it; there are downloader, root, source-*\n"


def test_json(run: Run, path: Path) -> None:
    status, lines, err = run(path, "--json")
    assert (status, err) == (0, "")
    state, start, *_ = made = [json.loads(line) for line in lines]
    assert len(made) == len(frames(path)) - 1
    assert (state["event"], state["machine"], state["state"]["type"]) == ("state", "FetchBook", "FetchBook")
    assert (start["event"], start["actor"], start["incarnation"], start["step"]) == ("decision", "downloader", 1, 0)
    assert start["given"]["event"]["type"] == "Start"
    assert start["given"]["draw"] == 0.5
    assert start["given"]["event"]["spec"]["kind"] == "DEMAND"
    assert [action["type"] for action in start["decided"]] == ["Begin", "Run"]
    assert start["answers"] == [{"type": "Suspicion", "since": 1000, "alone": 0, "shared": 0, "forgiven": 0}, 1]
    assert 1e9 < start["time"] < 1e11


def test_replay(run: Run, path: Path) -> None:
    assert run(path, "--replay") == (
        0,
        [
            "downloader      9 decisions as recorded",
            "root            5 decisions as recorded",
            "source-*        1 decisions as recorded",
        ],
        "",
    )
    status, (line,), _ = run(path, "--replay", "--json", "--actor", "root")
    assert (status, json.loads(line)) == (0, {"event": "replayed", "decisions": {"root": 5}, "not_replayed": {}})


def test_state_at_a_step(run: Run, path: Path) -> None:
    status, lines, err = run(path, "--replay", "--until", "3")
    assert (status, err) == (0, "")
    assert lines[:3] == ["downloader      2 decisions as recorded", "", "downloader, incarnation 1, after 2 events:"]
    text = "\n".join(lines)
    assert "state=State.BACKING_OFF" in text
    assert "landed=2000" in text
    status, (line,), _ = run(path, "--replay", "--until", "3", "--json")
    states = json.loads(line)["states"]
    assert states["downloader"]["_lives"][0][1]["state"] == "BACKING_OFF"


def test_first_difference_is_shown_and_the_status_is_1(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "after", changed_delay)
    status, lines, err = run(path, "--replay")
    assert (status, err) == (1, "")
    assert lines[0] == "frame 3: the logic comes to another decision in downloader#1"
    assert lines[1].startswith("  given     (Ended(request=1, attempt=1, end=2000, complete=False")
    assert lines[2].startswith("  recorded  [BackOff(")
    assert "delay=0.123" in lines[3]
    assert lines[4] == "  differs   at [0].delay"
    status, (line,), _ = run(path, "--replay", "--json")
    told = json.loads(line)
    assert (status, told["event"], told["what"], told["where"]) == (1, "difference", "decision", "[0].delay")
    assert told["replayed"][0]["delay"] == 0.123
    assert told["decided"][0]["delay"] != 0.123


def test_what_was_raised_is_shown(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Any:
        raise KeyError("planted")

    monkeypatch.setattr(FetchBook, "_cancel", fails)
    status, lines, _ = run(path, "--replay")
    assert (status, lines[-1]) == (1, "  replayed  'KeyError'")
    fresh = path.with_name("other")
    with pytest.raises(KeyError):
        fetches(fresh)
    status, lines, _ = run(fresh)
    assert lines[-1].endswith("-> raised 'KeyError': \"'planted'\"")


def test_damage_is_told_after_what_is_sound(run: Run, path: Path) -> None:
    last, _ = read_trace(path).laps[-1].frames[-1]
    data = bytearray(path.read_bytes())
    data[last + 10] ^= 0xFF
    path.write_bytes(data)
    status, lines, err = run(path)
    assert status == 1
    assert len(lines) > 10
    assert err == f"kithara: {path}: a damaged frame at offset {last}; what comes before is sound\n"
    status, lines, err = run(path, "--replay", "--json")
    assert status == 1
    assert [json.loads(line)["event"] for line in lines] == ["replayed", "failed"]


def test_wrong_files_and_wrong_usage(run: Run, tmp_path: Path, path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("a" * 5000)
    assert run(notes) == (1, [], f"kithara: {notes}: is not a trace\n")
    status, _, err = run(tmp_path / "none")
    assert (status, err) == (1, f"kithara: {tmp_path / 'none'}: No such file or directory; check the path\n")
    os.mkfifo(tmp_path / "pipe")
    status, _, err = run(tmp_path / "pipe")
    assert (status, err) == (1, f"kithara: {tmp_path / 'pipe'}: is not a trace: it is no file\n")
    status, _, err = run(path, "--replay", "--request", "1")
    assert status == 2
    assert "--request chooses what is shown: a replay needs every event" in err
    status, _, err = run(path, "--request", "one")
    assert (status, "must be a whole number" in err) == (2, True)
    status, (line,), _ = run(notes, "--json")
    assert (status, json.loads(line)["event"]) == (1, "failed")


def test_trace_of_another_version_is_shown_and_not_replayed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    words = Words(0, 1.0, ((40, "far.future.Told", "request", "what"), (41, "far.future.Colour")))
    event = Event(1, 2.0, "herald", 1, 0, "Herald", (0, (40, 7, (41, "RED"))), (), None, (1,))
    path.write_bytes(trace_of(pack(words), pack(event)))
    status, (line,), _ = run(path)
    assert status == 0
    assert line.endswith("  herald#1        Told(request=7, what=Colour.RED) -> []")
    assert len(run(path, "--request", "7")[1]) == 1
    status, _, err = run(path, "--replay")
    assert status == 1
    assert err.startswith(
        f"kithara: {path}: it was recorded by another version of the library: replay it with that one"
    )


def test_nothing_to_replay_is_no_success(run: Run, tmp_path: Path) -> None:
    recorder(tmp_path / "trace").close()
    status, _, err = run(tmp_path / "trace", "--replay")
    assert (status, err) == (1, f"kithara: {tmp_path / 'trace'}: has no event that can be replayed\n")


def test_what_could_not_be_replayed_is_counted(run: Run, tmp_path: Path) -> None:
    made = recorder(tmp_path / "trace")
    requests(made.machine("downloader", book()), range(1, 5))
    made.close()
    words, _, *events = map(pack, frames(tmp_path / "trace"))
    (tmp_path / "cut").write_bytes(trace_of(words, *events))
    status, _, err = run(tmp_path / "cut", "--replay")
    assert (status, err) == (1, f"kithara: {tmp_path / 'cut'}: has no event that can be replayed\n")
    (tmp_path / "cut").write_bytes(trace_of(words, *map(pack, frames(tmp_path / "trace")[1:4]), *events[4:]))
    status, (line,), _ = run(tmp_path / "cut", "--replay")
    assert line.startswith(
        "downloader      2 decisions as recorded; 4 could not be replayed, for the state before them"
    )


def test_nothing_in_a_file_does_anything_to_a_terminal(run: Run, tmp_path: Path) -> None:
    evil = "a\x1b[2J\u202eb\n"
    words = Words(0, 1.0, ((40, f"x.{evil}", evil), (41, "x.E")))
    event = Event(1, 2.0, evil, 1, 0, evil, (0, (40, evil), (41, evil)), (), evil, evil)
    state = State(2, float("nan"), evil, 1, 0, evil, (99, evil, b"\x1b"))
    path = tmp_path / "trace"
    path.write_bytes(trace_of(pack(words), pack(event), pack(state)))
    for arguments in ((), ("--json",)):
        status, lines, _ = run(path, *arguments)
        assert (status, len(lines)) == (0, 2)
        assert all(line.isprintable() for line in lines)


# --- Values


def test_values_as_text_and_as_json() -> None:
    encode = Encoder(VOCABULARY).encode
    value = {"a": (1, None, {2, 1}), 3: [1 << 70, float("inf"), b"x", (7,)]}
    plain = encode(value)
    assert text_of(plain, WORDS) == "{'a': (1, None, {1, 2}), 3: [1180591620717411303424, inf, b'x', (7,)]}"
    assert json_of(plain, WORDS) == [["a", [1, None, [1, 2]]], [3, [1 << 70, "inf", "78", [7]]]]
    assert list(indented(encode([1, 2]), WORDS)) == ["  [1, 2]"]
    tall = list(indented(encode({"key": ["x" * 60, "y" * 60]}), WORDS))
    assert tall == ["  dict of 1", "    'key': list of 2", f"      '{'x' * 60}'", f"      '{'y' * 60}'"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 90) | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=12,
)


@example((None, "\x1f"), 0)
@given(plain, st.integers(0, 9))
@settings(max_examples=100)
def test_any_value_is_shown(value: Any, request: int) -> None:
    for words in (WORDS, {}, {5: ("", ("request", "\x1b"))}):
        assert text_of(value, words, {}).isprintable()
        assert json.dumps(json_of(value, words), allow_nan=False)
        assert all(line.isprintable() for line in indented(value, words))
        assert of_request(value, words, request) in (True, False)


def test_deep_values_end_somewhere() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = (0, deep)
    assert text_of(deep, WORDS).startswith("((((")
    assert json_of(deep, WORDS) is not None
    assert not of_request(deep, WORDS, 1)
    assert len(list(indented(deep, WORDS))) < 100
