"""`kithara trace`: shows what a system has put on record, and has the same logic decide it again."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from kithara_actors.command.explain import CommandError
from kithara_actors.command.failed import told_in_json
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.text import write_json, write_line
from kithara_actors.command.trace_text import Descriptions, described, indented, json_of, of_request, text_of
from kithara_actors.errors import TraceError
from kithara_actors.logic.machines import MACHINES
from kithara_actors.logic.plain import Plain
from kithara_actors.logic.replay import Difference, Replay
from kithara_actors.messages.frames import Event, Frame, State, Words
from kithara_actors.traces import Trace, read_trace

__all__ = ["run"]

_LONGEST = 2000
"""Characters of one value that are shown to people."""

Shown = Callable[[State | Event, Descriptions], object]


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Show or replay the trace that `options` name. Blocks. Raises CommandError, Interrupted, BrokenPipeError, OSError,
    argparse.ArgumentTypeError."""
    if options.replay and options.request is not None:
        raise argparse.ArgumentTypeError("--request chooses what is shown: a replay needs every event")
    with told_in_json(options.file if options.json else None), interrupts.armed():
        trace = read_trace(options.file)
        _check_actors(trace, options)
        try:
            status = _replay(trace, options) if options.replay else _show(trace, options)
        except TraceError as error:
            raise CommandError(f"{options.file}: {error}") from error
        if trace.damage:
            more = f" (and {len(trace.damage) - 1} more)" if len(trace.damage) > 1 else ""
            raise CommandError(f"{trace.damage[0]}{more}")
    return status


def _check_actors(trace: Trace, options: argparse.Namespace) -> None:
    """A name that is misspelt must not pass for an actor that has decided nothing."""
    known = {frame.actor for frame in trace if not isinstance(frame, Words)}
    for name in options.actor:
        if not any(fnmatchcase(actor, name) for actor in known):
            there = ", ".join(_name(actor) for actor in sorted(_summed(Counter(known)))) or "none"
            raise CommandError(f"{options.file}: no actor {name!r:.60} in it; there are {there}")


def _frames(trace: Trace, options: argparse.Namespace) -> Iterator[tuple[Frame, Descriptions]]:
    """Those that are asked for, each with the descriptions of its lap."""
    words: Descriptions = {}
    for frame in trace:
        if options.until is not None and frame.seq > options.until:
            return
        if isinstance(frame, Words):
            try:
                words = described(frame.words)
            except ValueError as error:
                raise TraceError(f"frame {frame.seq} has {error}") from error
        elif options.actor and not any(fnmatchcase(frame.actor, name) for name in options.actor):
            continue
        yield frame, words


# --- Showing


def _show(trace: Trace, options: argparse.Namespace) -> int:
    shown: Shown = _Objects(trace) if options.json else _Lines(trace)
    for frame, words in _frames(trace, options):
        if isinstance(frame, Words):
            continue
        if options.request is not None and not _concerns(frame, words, options.request):
            continue
        shown(frame, words)
    return 0


def _concerns(frame: State | Event, words: Descriptions, request: int) -> bool:
    if isinstance(frame, State):
        return False
    return any(of_request(part, words, request) for part in (frame.inputs, frame.decided))


class _Lines:
    """For people."""

    def __init__(self, trace: Trace) -> None:
        self._clock = trace.header.clock
        self._seen: dict[Plain, Plain] = {}

    def __call__(self, frame: State | Event, words: Descriptions) -> None:
        if isinstance(frame, State):
            what = f"state after {frame.step} events"
        else:
            given = text_of(frame.inputs[1] if len(frame.inputs) > 1 else None, words, self._seen)
            outcome = _outcome(frame, words, self._seen)
            what = f"{_brief(given)} -> {_brief(outcome)}"
        who = _name(f"{frame.actor}#{frame.incarnation}")
        write_line(f"{frame.seq:>7} {frame.time - self._clock:>+10.4f}  {who:<15} {what}")


def _outcome(frame: Event, words: Descriptions, seen: dict[Plain, Plain] | None = None) -> str:
    if frame.error is not None:
        return f"raised {frame.error!r}: {text_of(frame.decided, words)}"
    return text_of(frame.decided, words, seen)


def _name(actor: str) -> str:
    """As it may be shown: a file may say anything."""
    return repr(actor)[1:-1]


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class _Objects:
    """For scripts."""

    def __init__(self, trace: Trace) -> None:
        self._epoch = trace.header.wall - trace.header.clock

    def __call__(self, frame: State | Event, words: Descriptions) -> None:
        write_json(self.object(frame, words))

    def object(self, frame: State | Event, words: Descriptions) -> dict[str, object]:
        made: dict[str, object] = {
            "event": "state" if isinstance(frame, State) else "decision",
            "seq": frame.seq,
            "time": json_of(frame.time + self._epoch, words),
            "actor": frame.actor,
            "incarnation": frame.incarnation,
            "step": frame.step,
            "machine": frame.kind,
        }
        if isinstance(frame, State):
            made["state"] = json_of(frame.state, words)
            return made
        given = json_of(frame.inputs, words)
        machine = MACHINES.get(frame.kind)
        if machine is not None and isinstance(given, list):
            given = dict(zip(machine.inputs, given, strict=False))
        made |= {"given": given, "answers": [json_of(answer, words) for answer in frame.answers]}
        return made | {"error": frame.error, "decided": json_of(frame.decided, words)}


# --- Replaying


def _replay(trace: Trace, options: argparse.Namespace) -> int:
    replay = Replay()
    words: Descriptions = {}
    for frame, words in _frames(trace, options):
        found = replay.take(frame)
        if found is not None:
            _tell(trace, found, words, json=options.json)
            return 1
    if not replay.replayed and not trace.damage:
        raise CommandError(f"{options.file}: has no event that can be replayed")
    if options.json:
        write_json(_summary(replay, words, states=options.until is not None))
        return 0
    replayed, passed = _summed(replay.replayed), _summed(replay.passed)
    for actors in sorted(replayed | passed):
        left = passed[actors]
        without = f"; {left} could not be replayed, for the state before them is not in the trace" if left else ""
        write_line(f"{_name(actors):<15} {replayed[actors]} decisions as recorded{without}")
    if options.until is not None:
        for actor, machine in sorted(replay.machines.items()):
            write_line(f"\n{_name(actor)}, incarnation {machine.incarnation}, after {machine.step} events:")
            for line in indented(machine.state, words):
                write_line(_brief(line))
    return 0


def _summed(counts: Counter[str]) -> Counter[str]:
    """With all that are alike together: sources are many."""
    summed: Counter[str] = Counter()
    for actor, count in counts.items():
        kind, dash, number = actor.rpartition("-")
        summed[f"{kind}-*" if dash and number.isdecimal() else actor] += count
    return summed


def _summary(replay: Replay, words: Descriptions, *, states: bool) -> dict[str, object]:
    made: dict[str, object] = {
        "event": "replayed",
        "decisions": dict(replay.replayed),
        "not_replayed": dict(replay.passed),
    }
    if states:
        made["states"] = {actor: json_of(machine.state, words) for actor, machine in sorted(replay.machines.items())}
    return made


def _tell(trace: Trace, found: Difference, words: Descriptions, *, json: bool) -> None:
    """The first difference."""
    frame = found.frame
    if json:
        told = _Objects(trace).object(frame, words)
        told["event"] = "difference"
        told |= {"what": found.what, "where": found.where, "replayed": json_of(found.replayed, words)}
        write_json(told)
        return
    who = _name(f"{frame.actor}#{frame.incarnation}")
    another = "another decision" if found.what == "decision" else "another state before the next event"
    write_line(f"frame {frame.seq}: the logic comes to {another} in {who}")
    if isinstance(frame, Event):
        write_line(f"  given     {_brief(text_of(frame.inputs, words))}")
    write_line(f"  recorded  {_brief(text_of(found.recorded, words))}")
    write_line(f"  replayed  {_brief(text_of(found.replayed, words))}")
    if found.where:
        write_line(f"  differs   at {found.where}")
