"""The Pykka actor that hosts a behaviour: decodes, hands over, reports what goes wrong, begins anew when told to.

What restarts is the behaviour, never the cell: ref, URN, mailbox and thread stay (Pykka's refs copy the inbox when
they are made, so a new actor would be a new address). Between two incarnations the cell is *parked*: it listens to its
supervisor's orders and to Pykka's stop, and what is sent to it waits in the mailbox.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pykka

from actors.actor.errors import ActorHungError
from actors.actor.mailbox import LAST, Mailbox, is_stop
from actors.errors import CodecError
from actors.logic.restarts import Exit
from actors.messages.codec import Codec
from actors.messages.command import Command

__all__ = ["Behaviour", "Cell", "Crash", "Keeper", "StopSelf", "is_resource"]

logger = logging.getLogger(__name__)

_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN})


class StopSelf(Exception):
    """Raised by a behaviour to end its own incarnation in the ordinary way, after the current command."""


class Crash(Exception):
    """Raised by a behaviour that cannot vouch for its state any more: also in an ask, another takes its place."""


class Behaviour(ABC):
    """State and decisions of one actor, for one incarnation. Every method runs on the actor's own thread."""

    def on_start(self) -> None:  # noqa: B027
        """Before the first command. Resources that belong to a thread are got here."""

    @abstractmethod
    def handle(self, command: Command) -> Command | None:
        """Take one command; the return value answers an ask. Must not block without a limit."""

    def on_restart(self, reason: BaseException | None) -> None:  # noqa: ARG002
        """After the last command of an incarnation that another will follow; `reason` None: not by its own fault."""
        self.on_stop()

    def on_stop(self) -> None:  # noqa: B027
        """After the last command of the last incarnation."""


class Keeper(Protocol):
    """Who decides what follows when an incarnation comes up or goes down. Called on the cell's thread; never blocks."""

    def started(self, name: str, incarnation: int) -> None:
        """`on_start` has returned."""

    def not_started(self, name: str, incarnation: int, error: BaseException) -> None:
        """The behaviour could not be made, or its `on_start` raised."""

    def exited(self, name: str, incarnation: int, how: Exit, error: BaseException | None) -> None:
        """The incarnation is over, without an order; `error` is why, if it failed."""

    def halted(self, name: str, incarnation: int) -> None:
        """The incarnation is over, by `Cell.halt`."""

    def failed(self, name: str, error: BaseException) -> None:
        """A command was asked and its handler raised: the asker has the error, and the incarnation goes on."""

    def dead_letter(self, name: str, reason: str) -> None:
        """A message could not be decoded; it was dropped."""

    def gone(self, name: str) -> None:
        """The cell has ended, and its thread is about to."""

    def log(self, name: str, what: str, error: BaseException) -> None:
        """Something that has no other consequence went wrong."""


@dataclass(frozen=True, slots=True)
class _Start:
    incarnation: int


@dataclass(frozen=True, slots=True)
class _Halt:
    incarnation: int


@dataclass(frozen=True, slots=True)
class _End:
    pass


class Cell(pykka.ThreadingActor):
    """Hosts one behaviour on a daemon thread of its own. `restart_on`: what an ask may not raise and go on."""

    use_daemon_thread = True

    def __init__(
        self,
        name: str,
        make: Callable[[], Behaviour],
        codec: Codec,
        keeper: Keeper,
        *,
        bound: int | None = None,
        restart_on: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._inbox = Mailbox(bound)
        super().__init__()
        self._name = name
        self._make = make
        self._codec = codec
        self._keeper = keeper
        self._restart_on: tuple[type[BaseException], ...] = (Crash, *restart_on)
        self._behaviour: Behaviour | None = None
        self._incarnation = 0
        self._stoppers: list[pykka.Future[Any] | None] = []
        self._over = False
        self._abandoned = False
        self._asked: pykka.Future[Any] | None = None
        self.thread: threading.Thread | None = None

    # --- For the supervisor, from any thread; none of these blocks

    def launch(self) -> None:
        """Register the cell and start its thread, parked. Raises RuntimeError without one; nothing is left then."""
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()

    def start_incarnation(self, incarnation: int) -> None:
        """Have it make a new behaviour; it reports `started` or `not_started`."""
        self._inbox.order(_Start(incarnation))

    def halt(self, incarnation: int) -> None:
        """Have this incarnation end after the current command; it reports `halted`, and waits for a start."""
        self._inbox.order(_Halt(incarnation))

    def end(self, *, drain: bool = False) -> None:
        """Have the cell end after the current command, or with `drain` after all that are queued. It reports `gone`."""
        if drain:
            with contextlib.suppress(pykka.ActorDeadError):
                self._inbox.put(LAST)
        else:
            self._inbox.order(_End())

    def abandon(self) -> None:
        """Its thread hangs: refuse what waits and what was asked; what the thread may still say is discarded."""
        self._over = self._abandoned = True
        hung = ActorHungError(f"{self._name} did not end in its time; its thread is left behind")
        self._close(hung)
        _refuse(self._asked, hung)
        self._answer_stoppers()

    @property
    def waiting(self) -> int:
        """About how many messages are queued."""
        return len(self._inbox)

    # --- Pykka's hooks

    def _create_actor_inbox(self) -> Mailbox:  # type: ignore[override]  # Pykka calls it on the instance
        return self._inbox

    def _start_actor_loop(self) -> None:
        self.thread = threading.Thread(target=self._actor_loop, name=f"kithara-{self._name}", daemon=True)
        try:
            self.thread.start()
        except BaseException:
            # The ref is registered already; without a thread it would look alive for ever. The keeper hears nothing:
            # the caller gets the error, and may hold locks that it takes.
            self._close()
            self._answer_stoppers()
            raise

    def _actor_loop(self) -> None:
        try:
            while (incarnation := self._parked()) is not None:
                self._live(incarnation)
        except BaseException:
            logger.exception("%s: its supervisor failed", self._name)
        finally:
            self._close()
            try:
                self._keeper.gone(self._name)
            except BaseException:
                logger.exception("%s: its supervisor failed", self._name)
            self._answer_stoppers()

    def _stop(self) -> None:
        """Pykka's own loop calls this; ours does not."""

    # --- Between incarnations

    def _parked(self) -> int | None:
        """Wait for orders: the number of the incarnation to be made, or None when there will be none."""
        while not self._over:
            match self._inbox.wait_order():
                case _Start(incarnation):
                    return incarnation
                case _End():
                    self._over = True
                case _Halt():
                    pass  # of an incarnation that was over before
                case None:
                    self._stopped_while_parked()
        return None

    def _stopped_while_parked(self) -> None:
        """A stop is queued. What stands before it is refused, for there is nobody to handle it."""
        how = Exit.SELF_STOP
        for envelope in self._inbox.take_to_stop():
            if envelope is LAST:
                self._over = True
            elif type(envelope) is not bytes:
                if is_stop(envelope.message):
                    how = self._note_stopper(envelope.reply_to)
                else:
                    _refuse(envelope.reply_to, _dead(f"{self._name} was stopped"))
        if not self._over:
            self._keeper.exited(self._name, self._incarnation, how, None)

    def _note_stopper(self, reply_to: pykka.Future[Any] | None) -> Exit:
        """Whoever waits for the stop is the host, and goes on when nothing of this actor's runs any more."""
        if reply_to is None:
            return Exit.SELF_STOP
        self._stoppers.append(reply_to)
        return Exit.HOST_STOP

    # --- One incarnation

    def _live(self, incarnation: int) -> None:
        """Make a behaviour and have it handle what comes, until it is over; whatever that is, it was reported."""
        self._incarnation = incarnation
        try:
            self._behaviour = self._make()
            self._behaviour.on_start()
        except BaseException as error:  # noqa: BLE001 - nothing may leave a ref without a thread behind it
            self._dispose(error, again=True)
            self._keeper.not_started(self._name, incarnation, error)
            return
        self._keeper.started(self._name, incarnation)
        inbox = self._inbox
        going = True
        while going and not self._abandoned:
            order, envelope = inbox.get()
            if order is not None:
                going = not self._obeyed(order)
            elif type(envelope) is bytes:
                going = self._told(envelope)
            else:
                going = self._taken(envelope)

    def _obeyed(self, order: object) -> bool:
        """Whether the order ends the incarnation."""
        match order:
            case _End():
                self._over = True
                self._dispose(None, again=False)
                return True
            case _Halt(incarnation) if incarnation == self._incarnation:
                self._dispose(None, again=True)
                self._keeper.halted(self._name, incarnation)
                return True
        return False

    def _told(self, data: bytes) -> bool:
        """Handle a command that nobody waits for; False if the incarnation is over."""
        try:
            command = self._codec.decode(data)
        except CodecError as error:
            self._keeper.dead_letter(self._name, str(error))
            return True
        try:
            self._behaviour.handle(command)  # type: ignore[union-attr]
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the host
            return self._broke(error)
        return True

    def _taken(self, envelope: Any) -> bool:
        """Handle an ask, Pykka's stop, or a proxy's call; False if the incarnation is over."""
        message, reply_to = envelope.message, envelope.reply_to
        if envelope is LAST:
            self._over = True
            self._dispose(None, again=False)
            return False
        if is_stop(message):
            how = self._note_stopper(reply_to)
            self._dispose(None, again=False)
            self._keeper.exited(self._name, self._incarnation, how, None)
            return False
        self._asked = reply_to
        try:
            _answer(reply_to, self._answer_to(message))
        except StopSelf as error:
            _answer(reply_to, None)
            return self._broke(error)
        except CodecError as error:
            self._keeper.dead_letter(self._name, str(error))
            _refuse(reply_to, error)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the host
            if not isinstance(error, Exception):
                # As it is, it would end whoever asked.
                _refuse(reply_to, _dead(f"{self._name} was ended by {type(error).__name__}", error))
                return self._broke(error)
            _refuse(reply_to, error)
            if reply_to is None or isinstance(error, self._restart_on):
                return self._broke(error)
            self._keeper.failed(self._name, error)
        return True

    def _answer_to(self, message: Any) -> Any:
        if type(message) is not bytes:
            return self._handle_receive(message)
        command = self._codec.decode(message)
        answer = self._behaviour.handle(command)  # type: ignore[union-attr]
        return None if answer is None else self._codec.encode(answer)

    def _broke(self, error: BaseException) -> bool:
        how = Exit.CRASH
        if isinstance(error, SystemExit):
            how = Exit.NORMAL
        elif isinstance(error, StopSelf):
            how = Exit.SELF_STOP
        failed = how is Exit.CRASH
        self._dispose(error if failed else None, again=failed)
        self._keeper.exited(self._name, self._incarnation, how, error if failed else None)
        return False

    def _dispose(self, reason: BaseException | None, *, again: bool) -> None:
        behaviour, self._behaviour = self._behaviour, None
        if behaviour is None:
            return
        try:
            if again:
                behaviour.on_restart(reason)
            else:
                behaviour.on_stop()
        except BaseException as error:  # noqa: BLE001 - it is logged, whatever it is
            self._keeper.log(self._name, "on_restart failed" if again else "on_stop failed", error)

    # --- The end

    def _close(self, error: pykka.ActorDeadError | None = None) -> None:
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        for envelope in self._inbox.close():
            if type(envelope) is bytes or envelope is LAST:
                continue
            if is_stop(envelope.message):
                self._stoppers.append(envelope.reply_to)
            else:
                _refuse(envelope.reply_to, error or _dead(f"{self._name} has stopped"))

    def _answer_stoppers(self) -> None:
        for stopper in self._stoppers:
            _answer(stopper, None)


def is_resource(error: BaseException) -> bool:
    """Whether the error is a want of memory, descriptors or room, which an instant restart would make worse."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _RESOURCES)


def _answer(reply_to: pykka.Future[Any] | None, value: Any) -> None:
    if reply_to is not None:
        with contextlib.suppress(queue.Full):  # it was given up, and answered from outside
            reply_to.set(value)


def _refuse(reply_to: pykka.Future[Any] | None, error: BaseException) -> None:
    if reply_to is not None:
        with contextlib.suppress(queue.Full):
            reply_to.set_exception(exc_info=(type(error), error, error.__traceback__))


def _dead(text: str, cause: BaseException | None = None) -> pykka.ActorDeadError:
    error = pykka.ActorDeadError(text)
    error.__cause__ = cause
    return error
