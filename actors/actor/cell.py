"""The Pykka actor that hosts a behaviour: decodes, hands over, reports what goes wrong.

What restarts will be the behaviour, never the cell: ref, mailbox and thread stay (Pykka's refs copy the inbox when
they are made, so a new actor would be a new address). Until a policy for that exists, a behaviour that raises
while handling a tell stops its cell, and `on_crash` hears of it at once; an exception in an ask goes to the caller.
"""

from __future__ import annotations

import logging
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pykka

from actors.actor.mailbox import Mailbox
from actors.errors import CodecError
from actors.messages.codec import Codec
from actors.messages.command import Command

__all__ = ["Behaviour", "Cell", "CellHooks", "StopSelf"]

logger = logging.getLogger(__name__)


class StopSelf(Exception):
    """Raised by a behaviour to end its own cell in the ordinary way, after the current command."""


class Behaviour(ABC):
    """State and decisions of one actor. Every method runs on the actor's own thread."""

    def on_start(self) -> None:  # noqa: B027
        """Before the first command."""

    @abstractmethod
    def handle(self, command: Command) -> Command | None:
        """Take one command; the return value answers an ask. Must not block without a limit."""

    def on_stop(self) -> None:  # noqa: B027
        """After the last command; also after a crash."""


class CellHooks:
    """What a cell reports, from its own thread."""

    def crashed(self, name: str, error: BaseException, text: str) -> None:
        """A behaviour raised `error` while handling a tell or starting, and its cell has stopped."""

    def shown(self, text: str) -> str:
        """`text`, of an error in a behaviour and its traceback, as it may be logged: here as it is. May not raise."""
        return text

    def ended(self, name: str) -> None:
        """The cell has stopped, for whatever reason, and its thread is about to end."""

    def dead_letter(self, name: str, reason: str) -> None:
        """A message could not be decoded; it was dropped."""


class Cell(pykka.ThreadingActor):
    """Hosts one behaviour on a daemon thread of its own."""

    use_daemon_thread = True

    def __init__(self, name: str, make: Callable[[], Behaviour], codec: Codec, hooks: CellHooks) -> None:
        super().__init__()
        self._name = name
        self._make = make
        self._codec = codec
        self._hooks = hooks
        self._behaviour: Behaviour | None = None
        self.thread: threading.Thread | None = None
        self.started = threading.Event()
        self.start_error: BaseException | None = None
        self._stoppers: list[pykka.Future[Any] | None] = []

    @classmethod
    def launch(cls, name: str, make: Callable[[], Behaviour], codec: Codec, hooks: CellHooks) -> Cell:
        """Register and start a cell. Raises RuntimeError if no thread can be started; nothing is left then."""
        cell = cls(name, make, codec, hooks)
        pykka.ActorRegistry.register(cell.actor_ref)
        cell._start_actor_loop()
        return cell

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    def _start_actor_loop(self) -> None:
        self.thread = threading.Thread(target=self._actor_loop, name=f"kithara-{self._name}", daemon=True)
        try:
            self.thread.start()
        except BaseException:
            # The ref is registered already; without a thread it would look alive for ever. The hooks hear nothing:
            # the caller gets the error, and may hold locks that they take.
            self._end()
            self._close_mailbox()
            self._answer_stoppers()
            raise

    def _actor_loop(self) -> None:
        try:
            self._actor_loop_setup()
            self._actor_loop_running()
        finally:
            self._end()
            self._actor_loop_teardown()

    def _actor_loop_setup(self) -> None:
        try:
            self._behaviour = self._make()
            self._behaviour.on_start()
        except BaseException as error:  # noqa: BLE001 - nothing may leave a ref without a thread behind it
            self.start_error = error
            self._crash(error)
        finally:
            self.started.set()

    def _actor_loop_running(self) -> None:
        while not self.actor_stopped.is_set():
            envelope = self.actor_inbox.get()
            try:
                self._deliver(envelope)
            except StopSelf:
                _answer(envelope.reply_to, None)
                self._end()
            except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the host
                if isinstance(error, Exception):
                    _refuse(envelope.reply_to, error)
                    if envelope.reply_to is not None:
                        continue
                else:
                    # As it is, it would end whoever asked.
                    _refuse(envelope.reply_to, _dead(f"{self._name} was ended by {type(error).__name__}", error))
                self._crash(error)

    def _deliver(self, envelope: Any) -> None:
        message = envelope.message
        if type(message) is not bytes:
            # Pykka's own stop message, or a proxy call on the cell.
            value = self._handle_receive(message)
            if self.actor_stopped.is_set():
                self._stoppers.append(envelope.reply_to)
            else:
                _answer(envelope.reply_to, value)
            return
        try:
            command = self._codec.decode(message)
        except CodecError as error:
            self._hooks.dead_letter(self._name, str(error))
            _refuse(envelope.reply_to, error)
            return
        assert self._behaviour is not None
        answer = self._behaviour.handle(command)
        _answer(envelope.reply_to, None if answer is None else self._codec.encode(answer))

    def _actor_loop_teardown(self) -> None:
        self._close_mailbox()
        self._stop_behaviour()
        try:
            self._hooks.ended(self._name)
        except BaseException as error:  # noqa: BLE001 - it is logged, whatever it is
            self._log("the end hook failed", error)
        self._answer_stoppers()

    def _answer_stoppers(self) -> None:
        """Whoever asked for the stop goes on only now, when nothing of this actor's runs any more."""
        for stopper in self._stoppers:
            _answer(stopper, None)

    def _close_mailbox(self) -> None:
        for envelope in self.actor_inbox.close():  # type: ignore[attr-defined]
            if type(envelope.message) is bytes:
                _refuse(envelope.reply_to, _dead(f"{self._name} has stopped"))
            else:
                self._stoppers.append(envelope.reply_to)

    def _stop(self) -> None:
        """Pykka's stop message arrived: end after it. `on_stop` runs once, in teardown."""
        self._end()

    def _end(self) -> None:
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()

    def _stop_behaviour(self) -> None:
        behaviour, self._behaviour = self._behaviour, None
        if behaviour is None:
            return
        try:
            behaviour.on_stop()
        except BaseException as error:  # noqa: BLE001 - it is logged, whatever it is
            self._log("on_stop failed", error)

    def _crash(self, error: BaseException) -> None:
        self._end()
        text = self._log("crashed", error)
        try:
            self._hooks.crashed(self._name, error, text)
        except BaseException as another:  # noqa: BLE001
            self._log("the crash hook failed", another)

    def _log(self, what: str, error: BaseException) -> str:
        text = self._hooks.shown("".join(traceback.format_exception(error)))
        logger.error("%s: %s\n%s", self._name, what, text)
        return text


def _answer(reply_to: pykka.Future[Any] | None, value: Any) -> None:
    if reply_to is not None:
        reply_to.set(value)


def _dead(text: str, cause: BaseException | None = None) -> pykka.ActorDeadError:
    error = pykka.ActorDeadError(text)
    error.__cause__ = cause
    return error


def _refuse(reply_to: pykka.Future[Any] | None, error: BaseException) -> None:
    if reply_to is not None:
        reply_to.set_exception(exc_info=(type(error), error, error.__traceback__))
