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
    Announce,
    CancelFetch,
    Collect,
    CollectedHead,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchOver,
)
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Collector"]


class Collector(Behaviour):
    """One for all callers, who wait on a bell of their own and copy the bytes themselves. The table is its memory."""

    def __init__(
        self,
        waiting: WaitingTable,
        find: Callable[[str], Address | None],
        next_request: Callable[[], RequestId],
    ) -> None:
        self._next_request = next_request
        self._waiting = waiting
        self._find = find

    def on_start(self) -> None:
        self._announce()

    def on_restart(self, reason: BaseException | None) -> None:
        """Who waits goes on waiting."""

    def on_stop(self) -> None:
        self._waiting.end_all(Failure("SystemStopped", "the system stopped before the request had ended"))

    def handle(self, command: Command) -> None:
        match command:
            case Collect(requests):
                for request in requests:
                    spec = self._waiting.spec(request)
                    if spec is not None:  # else all has been ended meanwhile
                        self._tell_registry(request, Fetch(spec))
            case CollectedHead(request, end=end):
                spec = self._waiting.spec(request)
                if spec is not None:
                    self._waiting.answered(command)
                    if end is not None:
                        self._waiting.end(request, end - spec.start)
            case Abandon(requests):
                for request in requests:
                    if self._waiting.spec(request) is not None:
                        self._tell_registry(request, CancelFetch(request, CancelReason.PEER_CANCEL))
            case FetchOver(request):
                self._renew(request)
            case Announce():
                self._announce()
            case FetchDone(request, end):
                spec = self._waiting.spec(request)
                if self._waiting.headless(request):
                    self._renew(request)
                elif spec is not None:
                    self._waiting.end(request, end - spec.start)
            case FetchFailed(request, _, _, failure):
                self._waiting.end(request, failure=failure)
            case FetchCancelled(request):
                self._waiting.end(request, failure=Failure("SystemStopped", "the system ended the request"))
            case _:
                raise TypeError(f"Collector does not handle {type(command).__name__}")

    def _renew(self, request: RequestId) -> None:
        """What came of the request was told to an incarnation before: what is asked for is asked for once more."""
        if self._waiting.spec(request) is None:
            return
        again = self._waiting.renew(request, self._next_request())
        if again is not None:
            self._ask(*again)

    def _announce(self) -> None:
        """Say again what is wanted: the Registry ignores what it has."""
        for spec, abandoned in self._waiting.specs():
            self._ask(spec, abandoned)

    def _ask(self, spec: FetchSpec, abandoned: bool) -> None:
        self._tell_registry(spec.request, Fetch(spec))
        if abandoned:
            self._tell_registry(spec.request, CancelFetch(spec.request, CancelReason.PEER_CANCEL))

    def _tell_registry(self, request: RequestId, command: Command) -> None:
        registry = self._find("registry")
        if registry is None or not registry.tell(command):
            self._waiting.end(request, failure=Failure("SystemStopped", "the system has stopped"))
