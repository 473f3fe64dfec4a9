"""A stable name to send commands to. Nothing but bytes crosses it."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Any

import pykka

from actors.actor.errors import ActorGoneError, MailboxFullError
from actors.actor.forking import FORKED
from actors.actor.mailbox import Notice
from actors.errors import CodecError
from actors.messages.codec import Codec
from actors.messages.command import Command

__all__ = ["Address", "AskTimeout"]


class AskTimeout(pykka.Timeout):
    """An ask had no answer within its limit; the command may still be handled later."""


class Address:
    """Where one actor's commands go. Equal by name within its system; safe from any thread."""

    __slots__ = ("_codec", "_put", "_ref", "name")

    def __init__(self, name: str, ref: pykka.ActorRef[Any], codec: Codec) -> None:
        self.name = name
        self._ref = ref
        self._codec = codec
        # Past Pykka's own tell: the mailbox refuses by itself, and takes the bytes as they are.
        self._put: Callable[[Any], None] = ref.actor_inbox.put

    def tell(self, command: Command) -> bool:
        """Send; never blocks. False if the actor has stopped: the command is dropped, and counted as a dead letter.

        Raises CodecError for a command its system does not know, MailboxFullError where the mailbox has a bound.
        """
        return self.forward(self._codec.encode(command))

    def forward(self, data: bytes) -> bool:
        """Like `tell`, for a command that is encoded already."""
        try:
            self._put(data)
        except MailboxFullError:
            raise
        except pykka.ActorDeadError:
            return False
        return True

    def ask(self, command: Command, timeout: float) -> Command:
        """Send and block until the answer, at most `timeout` seconds.

        Raises the handler's own exception, AskTimeout, and of `pykka.ActorDeadError` what `actors.actor.errors` has.
        """
        future = self._ref.ask(self._codec.encode(command), block=False)
        try:
            answer = future.get(timeout=timeout)
        except ActorGoneError:
            raise
        except pykka.ActorDeadError as error:
            if type(error) is not pykka.ActorDeadError:
                raise
            # Pykka's own, of an actor that had stopped before: it knows no name.
            why = FORKED if getattr(self._ref.actor_stopped, "forked", False) else "it has stopped"
            raise ActorGoneError(f"{self.name}: {why}; the message was not queued") from None
        except (pykka.Timeout, queue.Empty):
            raise AskTimeout(f"{self.name} gave no answer within {timeout:g} s") from None
        if not isinstance(answer, bytes):
            raise CodecError(f"{self.name} answered {type(command).__name__} with no command")
        return self._codec.decode(answer)

    @property
    def codec(self) -> Codec:
        """What its commands are encoded with."""
        return self._codec

    def deliver(self, notice: Notice) -> None:
        """Queue a command of the runtime's; it is dropped if the actor has stopped."""
        with contextlib.suppress(pykka.ActorDeadError):
            self._put(notice)

    @property
    def alive(self) -> bool:
        return self._ref.is_alive()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self._ref is other._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    def __repr__(self) -> str:
        return f"<Address {self.name}>"
