"""What the tests of one-off requests share: that nothing is left of them, and that each has one end."""

from __future__ import annotations

from collections import Counter

from host_kit import until
from stream_kit import HANG, Watch

from kithara_actors import ActorSystem
from kithara_actors.messages.events import RequestCancelled, RequestCompleted, RequestEnqueued, RequestFailed

__all__ = ["nothing_held", "one_end_each"]


def nothing_held(system: ActorSystem) -> None:
    """No place for an answer is left, nor the memory behind it, as soon as the last end has come there."""
    assembly = system._assembly
    assert until(lambda: (len(assembly._waiting), len(assembly._contents)) == (0, 0), HANG)


def one_end_each(watch: Watch) -> None:
    ends = Counter(
        event.request_id
        for event in watch.events
        if isinstance(event, RequestCompleted | RequestFailed | RequestCancelled)
    )
    assert ends == Counter(event.request_id for event in watch.of(RequestEnqueued))
