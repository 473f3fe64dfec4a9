"""The Pykka actor that hosts a behaviour: decodes, hands over, reports what goes wrong, begins anew when told to.

What restarts is the behaviour, never the cell: ref, URN, mailbox and thread stay (Pykka's refs copy the inbox when
they are made, so a new actor would be a new address). Between two incarnations the cell is *parked*: it listens to its
supervisor's orders and to Pykka's stop, and what is sent to it waits in the mailbox.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pykka

from actors.actor.behaviour import Behaviour, Crash, StopSelf
from actors.actor.children import ChildSpec
from actors.actor.context import Family
from actors.actor.errors import ActorHungError, WorkerLostError
from actors.actor.forking import DeathSign, close_in_child
from actors.actor.keeper import Break, End, Halt, Keeper, Start
from actors.actor.mailbox import EXPIRED, LAST, Mailbox, Notice, is_stop
from actors.actor.replies import answer, dead, is_resource, refuse
from actors.errors import CodecError
from actors.logic.restarts import Exit
from actors.messages.codec import Codec

__all__ = ["Behaviour", "Cell", "Crash", "Keeper", "StopSelf", "is_resource"]

logger = logging.getLogger(__name__)


class Cell(pykka.ThreadingActor):
    """Hosts one behaviour, as `spec` says, on a daemon thread of its own."""

    use_daemon_thread = True

    def __init__(self, spec: ChildSpec, codec: Codec, keeper: Keeper, lost: Callable[[str], object]) -> None:
        """`lost` hears of what was told in vain, also long after the cell is gone: it must not hold it."""
        asked = None if spec.max_wait is None else keeper.asked
        self._inbox = Mailbox(spec.bound, drop=spec.drop, lost=lost, host_stops=keeper.host_stops, asked=asked)
        super().__init__()
        self._name = spec.name
        self._make = spec.make
        self._codec = codec
        self._keeper = keeper
        self._restart_on: tuple[type[BaseException], ...] = (Crash, *spec.restart_on)
        self._resume_on = spec.resume_on
        self._keeps_children = spec.keep_children
        self._behaviour: Behaviour | None = None
        self.incarnation = 0
        self._stoppers: list[pykka.Future[Any] | None] = []
        self._over = False
        self._abandoned = False
        self._starting = False
        self._asked: pykka.Future[Any] | None = None
        self._again: bytes | None = None
        self.family: Family | None = None
        self.thread: threading.Thread | None = None
        close_in_child(self)

    # --- For the supervisor, from any thread; none of these blocks

    def launch(self) -> None:
        """Register the cell and start its thread, parked. Raises RuntimeError without one; nothing is left then."""
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()

    def register_last(self) -> None:
        """Have the host's `stop_all`, which goes by the order of registration, reach this before all until now."""
        pykka.ActorRegistry.register(self.actor_ref)
        # Takes out the first of the two: at no moment is there none.
        pykka.ActorRegistry.unregister(self.actor_ref)

    def start_incarnation(self, incarnation: int) -> None:
        """Have it make a new behaviour; it reports `started` or `not_started`."""
        self._inbox.order(Start(incarnation))

    def halt(self, incarnation: int) -> None:
        """Have this incarnation end after the current command; it reports `halted`, and waits for a start."""
        self._inbox.order(Halt(incarnation))
        self._hasten(drain=True)

    def break_up(self, incarnation: int, how: Exit, error: BaseException | None) -> None:
        """Have this incarnation end in that way after the current command; it reports `exited`."""
        self._inbox.order(Break(incarnation, how, error))

    def end(self, *, drain: bool = False) -> None:
        """Have the cell end after the current command, or with `drain` after all that are queued. It reports `gone`."""
        if drain:
            with contextlib.suppress(pykka.ActorDeadError):
                self._inbox.put(LAST)
        else:
            self._inbox.order(End())
        self._hasten(drain=drain)

    def _hasten(self, *, drain: bool) -> None:
        """An order comes to its turn when the current command is done. That may be waiting for its children."""
        family = self.family
        if family is not None and self._starting:
            family.drain()
        elif family is not None and not drain:
            family.hurry()

    def abandon(self) -> None:
        """Its thread hangs: refuse what waits and what was asked; what the thread may still say is discarded."""
        self._over = self._abandoned = True
        hung = ActorHungError(f"{self._name} did not end in its time; its thread is left behind")
        self._close(hung)
        refuse(self._asked, hung)
        self._answer_stoppers()
        family = self.family
        if family is not None:
            family.abandon()

    def expire(self, envelope: Any, error: pykka.ActorDeadError) -> None:
        """Refuse what was asked, unless its turn has come."""
        if self._asked is not envelope.reply_to:
            envelope.message = EXPIRED
            refuse(envelope.reply_to, error)

    @property
    def waiting(self) -> int:
        """About how many messages are queued."""
        return len(self._inbox)

    @property
    def pid(self) -> int | None:
        """The process that the behaviour stands for."""
        return getattr(self._behaviour, "pid", None)

    # --- Pykka's hooks

    def _create_actor_inbox(self) -> Mailbox:  # type: ignore[override]  # Pykka calls it on the instance
        return self._inbox

    @property
    def actor_stopped(self) -> DeathSign:
        """Pykka's own; set when the cell has ended."""
        return self._stopped

    @actor_stopped.setter
    def actor_stopped(self, _: threading.Event) -> None:
        self._stopped = DeathSign()

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
            self._end_family()
        except BaseException:
            logger.exception("%s: its supervisor failed", self._name)
        finally:
            self._close()
            try:
                self._keeper.gone()
            except BaseException:
                logger.exception("%s: its supervisor failed", self._name)
            self._answer_stoppers()

    # --- Between incarnations

    def _parked(self) -> int | None:
        """Wait for orders: the number of the incarnation to be made, or None when there will be none."""
        while not self._over:
            match self._inbox.wait_order():
                case Start(incarnation):
                    return incarnation
                case End():
                    self._over = True
                case Halt() | Break():
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
            elif type(envelope) is not bytes and is_stop(envelope.message):
                how = self._note_stopper(envelope.reply_to)
            else:
                self._turn_away(envelope, dead(f"{self._name} was stopped"))
        if not self._over:
            self._keeper.exited(self.incarnation, how, None)

    def _turn_away(self, envelope: Any, error: pykka.ActorDeadError) -> None:
        if type(envelope) is bytes or (envelope.reply_to is None and type(envelope) is not Notice):
            self._keeper.undelivered(str(error))
        else:
            refuse(envelope.reply_to, error)

    def _note_stopper(self, reply_to: pykka.Future[Any] | None) -> Exit:
        """Whoever waits for the stop is the host, and goes on when nothing of this actor's runs any more."""
        if reply_to is None:
            return Exit.SELF_STOP
        self._stoppers.append(reply_to)
        return Exit.HOST_STOP

    # --- One incarnation

    def _live(self, incarnation: int) -> None:
        """Make a behaviour and have it handle what comes, until it is over; whatever that is, it was reported."""
        self.incarnation = incarnation
        self._starting = True
        try:
            self._behaviour = self._make()
            self._behaviour.context = self._keeper.context(incarnation)
            self._behaviour.on_start()
        except BaseException as error:  # noqa: BLE001 - nothing may leave a ref without a thread behind it
            self._starting = False
            self._dispose(error, again=True)
            self._keeper.not_started(incarnation, error)
            return
        self._starting = False
        self._keeper.started(incarnation)
        inbox = self._inbox
        again, self._again = self._again, None
        going = again is None or self._told(again, again=True)
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
            case End():
                self._over = True
                self._dispose(None, again=False)
                return True
            case Halt(incarnation) if incarnation == self.incarnation:
                self._dispose(None, again=True)
                self._keeper.halted(incarnation)
                return True
            case Break(incarnation, how, error) if incarnation == self.incarnation:
                self._dispose(error, again=how.failed)
                self._keeper.exited(incarnation, how, error)
                return True
        return False

    def _told(self, data: bytes, *, again: bool = False) -> bool:
        """Handle a command that nobody waits for; False if the incarnation is over. `again`: one that crashed it."""
        try:
            command = self._codec.decode(data)
        except CodecError as error:
            self._keeper.dead_letter(str(error))
            return True
        try:
            self._behaviour.handle(command)  # type: ignore[union-attr]
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the host
            if isinstance(error, self._resume_on) and isinstance(error, Exception):
                self._keeper.failed(self.incarnation, error, asked=False)
                return True
            if command.IDEMPOTENT and not again:
                self._again = data
            return self._broke(error)
        return True

    def _taken(self, envelope: Any) -> bool:
        """Handle an ask, Pykka's stop, or a proxy's call; False if the incarnation is over."""
        if type(envelope) is Notice:
            if not envelope.wanted():
                return True
            data = envelope.data
            return self._broke(data) if isinstance(data, BaseException) else self._told(data)
        message, reply_to = envelope.message, envelope.reply_to
        if message is EXPIRED:
            return True
        if envelope is LAST:
            self._over = True
            self._dispose(None, again=False)
            return False
        if is_stop(message):
            how = self._note_stopper(reply_to)
            self._dispose(None, again=False)
            self._keeper.exited(self.incarnation, how, None)
            return False
        self._asked = reply_to
        in_time = True
        try:
            in_time = answer(reply_to, self._answer_to(message))
        except StopSelf as error:
            in_time = answer(reply_to, None)
            return self._broke(error)
        except CodecError as error:
            self._keeper.dead_letter(str(error))
            in_time = refuse(reply_to, error)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the host
            if not isinstance(error, Exception):
                # As it is, it would end whoever asked.
                in_time = refuse(reply_to, dead(f"{self._name} was ended by {type(error).__name__}", error))
                return self._broke(error)
            in_time = refuse(reply_to, error)
            if reply_to is None or isinstance(error, self._restart_on):
                return self._broke(error)
            self._keeper.failed(self.incarnation, error, asked=True)
        finally:
            if not in_time:
                self._keeper.discarded()
        return True

    def _answer_to(self, message: Any) -> Any:
        if type(message) is not bytes:
            return self._handle_receive(message)
        command = self._codec.decode(message)
        reply = self._behaviour.handle(command)  # type: ignore[union-attr]
        return None if reply is None else self._codec.encode(reply)

    def _broke(self, error: BaseException) -> bool:
        how = Exit.CRASH
        if isinstance(error, SystemExit):
            how = Exit.NORMAL
        elif isinstance(error, StopSelf):
            how = Exit.SELF_STOP
        elif isinstance(error, WorkerLostError):
            how = Exit.WORKER_LOST
        failed = how.failed
        self._dispose(error if failed else None, again=failed)
        self._keeper.exited(self.incarnation, how, error if failed else None)
        return False

    def _dispose(self, reason: BaseException | None, *, again: bool) -> None:
        behaviour, self._behaviour = self._behaviour, None
        if not again:
            self._end_family()
        try:
            if behaviour is None:
                pass
            elif again:
                behaviour.on_restart(reason)
            else:
                behaviour.on_stop()
        except BaseException as error:  # noqa: BLE001 - it is logged, whatever it is
            self._keeper.log("on_restart failed" if again else "on_stop failed", error)
        if again and not self._keeps_children:
            self._end_family()

    def _end_family(self) -> None:
        """Its own children have ended when this returns, or are left behind."""
        family = self.family
        if family is not None:
            family.stop(family.shutdown)

    # --- The end

    def _close(self, error: pykka.ActorDeadError | None = None) -> None:
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        for envelope in self._inbox.close():
            if envelope is LAST:
                continue
            if type(envelope) is not bytes and is_stop(envelope.message):
                self._stoppers.append(envelope.reply_to)
            else:
                self._turn_away(envelope, error or dead(f"{self._name} has stopped"))

    def _answer_stoppers(self) -> None:
        for stopper in self._stoppers:
            answer(stopper, None)

    def after_fork(self) -> None:
        """In a child of the process: dead, without a lock being taken."""
        self._stopped.forked = True
        self._over = True
        self._inbox.after_fork()


def _forget_in_child() -> None:
    """The host's `stop_all` in a child of the process finds none of ours, nor a lock that nobody will release."""
    registry: Any = pykka.ActorRegistry
    registry._actor_refs_lock = threading.RLock()  # noqa: SLF001 - private to Pykka; a test notices its loss
    registry._actor_refs[:] = [ref for ref in registry._actor_refs if not issubclass(ref.actor_class, Cell)]  # noqa: SLF001


os.register_at_fork(after_in_child=_forget_in_child)
