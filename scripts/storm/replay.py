"""Whether what was put on record is decided in the same way again."""

from __future__ import annotations

from kithara_actors.errors import TraceError
from kithara_actors.logic.replay import Replay
from kithara_actors.traces import read_trace
from storm.verdict import Tally

__all__ = ["replay"]


def replay(path: str, tally: Tally) -> None:
    """Replay the whole trace; what is found goes into the tally."""
    tally.recorded = True
    again = Replay()
    try:
        trace = read_trace(path)
        tally.trace += [str(damage) for damage in trace.damage]
        for frame in trace:
            found = again.take(frame)
            if found is not None:
                who = f"{found.frame.actor} (incarnation {found.frame.incarnation})"
                where = found.where or "the whole"
                tally.trace.append(f"frame {found.frame.seq}: another {found.what} of {who}: {where}")
                break
    except TraceError as error:
        tally.trace.append(str(error))
    root = again.machines.get("root")
    if not tally.trace and (root is None or not root.machine.draining or root.machine.names()):
        tally.trace.append("it ends before the system has ended")
    tally.replayed = sum(again.replayed.values())
    if passed := sum(again.passed.values()):
        tally.trace.append(f"{passed} events could not be replayed")
