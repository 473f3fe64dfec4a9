"""The requests of a system that stops come to their ends first, so that each of them has one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from actors.actor.address import Address
from actors.clock import monotonic
from kithara_actors.logic.naming import redact_text
from kithara_actors.messages.commands import Done, EndRequests

__all__ = ["end_requests"]

logger = logging.getLogger(__name__)


def end_requests(find: Callable[[str], Address | None], deadline: float) -> None:
    """Have every request end, and wait for those that run in workers, until `deadline` on the monotonic clock."""
    pause = threading.Event()
    for name in ("registry", "downloader"):
        while monotonic() < deadline:
            address = find(name)
            if address is None:
                break
            try:
                answer = address.ask(EndRequests(), max(0.05, deadline - monotonic()))
            except Exception as error:  # noqa: BLE001 - ending goes on whatever an actor does
                if not address.alive:
                    break
                logger.warning("%s did not end its requests: %s", name, redact_text(str(error)))
                pause.wait(0.05)
                continue
            if not isinstance(answer, Done) or not answer.pending:
                break
            pause.wait(0.002)
