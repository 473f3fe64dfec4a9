"""The owner of one-off requests: announces them, ends them, and tells those who wait of the end."""

from __future__ import annotations

from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.messages.command import Command
from kithara_actors.assets.collecting import WaitingTable
from kithara_actors.errors import Failure
from kithara_actors.messages.commands import (
    Abandon,
    CancelFetch,
    Collect,
    CollectedHead,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchFailed,
)
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Collector"]


class Collector(Behaviour):
    """One for all callers, who wait on a bell of their own and copy the bytes themselves. The table is its memory."""

    def __init__(self, waiting: WaitingTable, find: Callable[[str], Address | None]) -> None:
        self._waiting = waiting
        self._find = find

    def on_stop(self) -> None:
        self._waiting.end_all(Failure("SystemStopped", "the system stopped before the request had ended"))

    def handle(self, command: Command) -> None:
        match command:
            case Collect(request):
                spec = self._waiting.spec(request)
                if spec is not None:  # else all has been ended meanwhile
                    self._tell_registry(request, Fetch(spec))
            case Abandon(request):
                if self._waiting.spec(request) is not None:
                    self._tell_registry(request, CancelFetch(request, CancelReason.PEER_CANCEL))
            case CollectedHead():
                self._waiting.answered(command)
            case FetchDone(request, end):
                spec = self._waiting.spec(request)
                if spec is not None:
                    self._waiting.end(request, end - spec.start)
            case FetchFailed(request, _, _, failure):
                self._waiting.end(request, failure=failure)
            case FetchCancelled(request):
                self._waiting.end(request, failure=Failure("SystemStopped", "the system ended the request"))
            case _:
                raise TypeError(f"Collector does not handle {type(command).__name__}")

    def _tell_registry(self, request: RequestId, command: Command) -> None:
        registry = self._find("registry")
        if registry is None or not registry.tell(command):
            self._waiting.end(request, failure=Failure("SystemStopped", "the system has stopped"))
