"""What a running system is made of: actors and workers, started from the bottom up and ended in reverse."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from actors.actor.address import Address
from actors.actor.pool import WorkerPool
from actors.actor.system import Runtime
from actors.clock import monotonic
from actors.messages.codec import Codec
from kithara_actors.actor.asset_store import AssetStore
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.collector import Collector
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.actor.event_bus import EventBus
from kithara_actors.actor.leads import Leads
from kithara_actors.actor.meters import Meters
from kithara_actors.actor.publisher import Publisher
from kithara_actors.actor.registry import Registry
from kithara_actors.assets.collecting import WaitingTable
from kithara_actors.assets.content import ContentTable
from kithara_actors.assets.requests import RequestTable
from kithara_actors.assets.shelf import Shelf
from kithara_actors.config import Config
from kithara_actors.directory import Directory
from kithara_actors.ending import end_requests
from kithara_actors.errors import Failure, SystemStopped
from kithara_actors.executing import COLLECTOR, Executor
from kithara_actors.logic.demand import plan
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.naming import redact_text
from kithara_actors.logic.prefetching import PrefetchLine
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import COMMANDS, WorkerGone, WorkerRetires, WorkerUp
from kithara_actors.messages.events import ActorRestarted, DeadLetter, SystemStopping
from kithara_actors.parsing import Parsing
from kithara_actors.policies import host_policy
from kithara_actors.reporting import Reports
from kithara_actors.status import Monitor
from kithara_actors.stream.subscription import Subscribers
from kithara_actors.workers import Listener

if TYPE_CHECKING:
    from kithara_actors.recorder import Recorder

__all__ = ["Assembly"]

M = TypeVar("M")

logger = logging.getLogger(__name__)

_READY_WITHIN = 10.0
_STATIC = ("event_bus", "asset_store", "registry", "downloader", COLLECTOR)
_GIVE_UP_WITHIN = 5.0
_MOST_METERS = 1 << 20
"""More attempts at once than any machine runs, whatever the limit says."""
_EXIT_WITHIN = 8.0
"""Seconds; containers commonly allow 10 before they kill."""


class Assembly:
    """The parts of one system. `stop` and `give_up` may come from any thread."""

    def __init__(self, config: Config, pool: WorkerPool) -> None:
        self._config = config
        self._pool = pool
        self._pid = os.getpid()
        # Counting takes no lock: a signal handler may come in the middle of it, on the same thread.
        self._stops = itertools.count()
        self._stop_began = False
        self._stopped = threading.Event()
        self._survivors: list[str] = []
        self._ended: Failure | None = None
        self._switch_interval: float | None = None
        self._recorder: Recorder | None = None
        if config.record is not None:
            from kithara_actors.recorder import Recorder  # it looks at all that may be recorded

            self._recorder = Recorder(config.record)
        self._runtime = Runtime(Codec(COMMANDS), Reports(self))
        self._parsing = Parsing(config)
        self._requests = RequestTable()
        self._shelf = Shelf()
        self._contents = ContentTable()
        self._waiting = WaitingTable(self._contents)
        self._meters: Meters | None = None
        self._subscribers = Subscribers()
        self._reasons: dict[str, str] = {}
        self._due: set[str] = set()
        self.callables = Callables()
        self.monitor = Monitor(
            self._runtime,
            pool,
            self._contents,
            self._requests,
            self._shelf,
            config.workers,
            self._why_ended,
            lambda: 0 if self.directory is None else self.directory.open_streams,
            lambda: (0, 0, 0) if self.directory is None else self.directory.prefetches,
        )
        self.directory: Directory | None = None

    def start(self) -> Directory:
        """Start the actors, wait for the workers, and give the door to what is running.

        Raises what an actor raised, WorkerStartError, TimeoutError, RuntimeError (no thread). `stop` is due then.
        """
        config = self._config
        runtime = self._runtime
        if config.switch_interval is not None:
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(config.switch_interval)
        runtime.start()
        bus = runtime.spawn("event_bus", lambda: EventBus(self._subscribers), ready_within=_READY_WITHIN)
        self._publisher = publisher = Publisher(bus, self._subscribers)
        requests = self._requests
        prefetches = PrefetchLine(config.max_concurrent)
        self.directory = directory = Directory(
            runtime, self._contents, publisher, self._subscribers, self._parsing, requests, prefetches
        )
        if self._recorder is not None:
            record = self._recorder.function
            directory.planner = lambda name: record(name, plan)
        find = runtime.address
        runtime.spawn(
            "asset_store",
            lambda: AssetStore(
                config.cache_path, config.memory_limit, self._contents, find, publisher, self._shelf, runtime.sources
            ),
            ready_within=_READY_WITHIN,
        )
        runtime.spawn(
            "registry",
            lambda: Registry(
                self.recorded(
                    "registry",
                    SlotMap(config.max_concurrent, config.max_per_host, preempt_after=config.preempt_after),
                ),
                find,
                publisher,
                requests,
                self._owners,
                show=self.monitor.show,
                timers=runtime.timers,
                leads=Leads(self._contents, config.preempt_after).review,
            ),
            ready_within=_READY_WITHIN,
        )
        if config.max_rate is not None or config.max_rate_per_host is not None:
            # Twice as many as can be in use: a host keeps its meter between two requests.
            origins = 0 if config.max_rate_per_host is None else 2 * min(config.max_concurrent, _MOST_METERS)
            self._meters = Meters(origins)
        asked = host_policy(config.url_policy)
        policy = RetryPolicy(config.max_retries, config.retry_base, config.retry_cap, config.retry_after_limit)
        attempts = itertools.count(1)
        self._downloader = runtime.spawn(
            "downloader",
            lambda: Downloader(
                self.recorded(
                    "downloader",
                    FetchBook(policy, asks=asked is not None, attempts=attempts, suspicions=requests.suspicion),
                ),
                self._pool,
                self._contents,
                find,
                runtime.timers,
                publisher,
                config.max_retries,
                requests=requests,
                enquiries=Enquiries(self.callables, asked, find, runtime.timers),
                meters=self._meters,
                soft_timeout=config.soft_timeout,
            ),
            ready_within=_READY_WITHIN,
        )
        runtime.spawn(
            COLLECTOR,
            lambda: Collector(self._waiting, find, lambda: requests.create(0, COLLECTOR)),
            ready_within=_READY_WITHIN,
        )
        runtime.settle(_READY_WITHIN)
        self.executor = Executor(self._waiting, find, requests, config.execute_limit)
        self._pool.listen(Listener(self.to_downloader, self.give_up))
        self._pool.wait_ready()
        if self._stop_began:
            raise SystemStopped("the system has stopped by itself while it was starting")
        # Runs while daemon threads still do; needs no new thread, which exit handlers may not start.
        atexit.register(self._at_exit)
        return directory

    def recorded(self, actor: str, machine: M) -> M:
        """The machine that decides for an actor's next incarnation; with `Config.record`, what stands for it."""
        return machine if self._recorder is None else self._recorder.machine(actor, machine)

    def _owners(self) -> list[Address]:
        """Whose requests there are."""
        collector = self._runtime.address(COLLECTOR)
        return [*self._runtime.sources(), *([] if collector is None else [collector])]

    def wait(self, timeout: float | None) -> bool:
        """Block until all has ended: True, or False after `timeout` seconds."""
        return self._stopped.wait(timeout)

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self, timeout: float) -> list[str]:
        """End everything; the first call does it, the others wait. See `ActorSystem.stop`."""
        if os.getpid() != self._pid:
            return []  # a forked child: threads and workers are its parent's
        if timeout <= 0:
            self._runtime.timers.soon(self._stop_unless_begun)
            return []
        if next(self._stops):
            self._stopped.wait(timeout)
            return list(self._survivors)
        return self._shut_down(timeout, Failure("SystemStopped", "the system has been stopped"))

    def give_up(self, reason: str) -> None:
        """A part without which nothing works is gone: end, with every read raising SystemStopped. Does not block."""
        if next(self._stops):
            return
        self._ended = failure = Failure("SystemStopped", f"the system has stopped by itself: {reason}")
        self._stop_began = True
        if self.directory is not None:
            self.directory.end_streams(failure)
        self._waiting.close(failure)
        self._waiting.end_all(failure)
        # On a thread that exists: at the end of the interpreter none can be started.
        self._runtime.timers.soon(lambda: self._shut_down(_GIVE_UP_WITHIN, failure))

    def _stop_unless_begun(self) -> None:
        # Who has begun will join the thread that this runs on: it must not wait for them.
        if not self._stop_began:
            self.stop(10.0)

    def _at_exit(self) -> None:
        self.stop(_EXIT_WITHIN)

    def _shut_down(self, timeout: float, failure: Failure) -> list[str]:
        self._stop_began = True
        self._ended = failure
        deadline = monotonic() + timeout
        directory = self.directory
        try:
            if directory is not None:
                directory.close(failure)
                self._waiting.close(failure)
                self._publisher.publish(SystemStopping())
                end_requests(self._runtime.address, monotonic() + 0.3 * timeout)
                directory.end_streams(failure)
            self._waiting.end_all(failure)
            left = self.callables.stop(max(0.1, 0.5 * (deadline - monotonic())))
            left += self._pool.stop(max(0.1, 0.5 * (deadline - monotonic())))
            left += self._parsing.stop(max(0.1, 0.5 * (deadline - monotonic())))
            left += self._runtime.stop(max(0.1, deadline - monotonic()))
            self._subscribers.end_all()
            if self._switch_interval is not None:
                sys.setswitchinterval(self._switch_interval)
            self._survivors = left
            if left:
                logger.warning("not ended within %.1f s: %s", timeout, ", ".join(left))
        except BaseException:
            # A second Ctrl-C, or an error of ours: no process may stay, and no reader wait for one.
            if directory is not None:
                directory.end_streams(failure)
            self._waiting.end_all(failure)
            self.callables.stop(0.0)
            self._pool.stop(0.0)
            self._parsing.stop(0.0)
            raise
        finally:
            if self._meters is not None:
                self._meters.close()
            self._shelf.close()
            if self._recorder is not None:
                self._recorder.close()
            self._stopped.set()
            atexit.unregister(self._at_exit)
        return list(self._survivors)

    # --- What the parts report

    def part_failed(self, name: str, error: BaseException) -> None:
        """An incarnation of an actor has ended with `error`."""
        self._reasons[name] = redact_text(f"{type(error).__name__}: {error}")

    def _why_ended(self) -> str | None:
        failure = self._ended
        return failure.text if failure is not None else None

    def part_restarting(self, name: str) -> None:
        """Another incarnation of an actor will follow the one that has failed."""
        self._due.add(name)

    def part_restarted(self, name: str, incarnation: int) -> None:
        """Another incarnation of an actor is up."""
        self.monitor.restarted()
        self._due.discard(name)
        reason = self._reasons.pop(name, "")
        if self.directory is not None:
            self._publisher.publish(ActorRestarted(name, incarnation, reason))

    def part_ended(self, name: str, *, spent: bool) -> None:
        """An actor has ended; the system cannot go on without some."""
        reason, due = self._reasons.pop(name, None), name in self._due
        self._due.discard(name)
        if name in _STATIC:
            if not self._stop_began:
                self.give_up(f"{name} has ended" if reason is None else f"{name} failed: {reason}")
        elif self.directory is not None:
            failure = self._ended or Failure("SystemStopped", f"{name} was stopped from outside")
            # One that would have begun anew was stopped from outside, whatever it failed on.
            if spent or (reason is not None and not due):
                failure = Failure("InternalError", f"{name} failed{' too often' * spent}: {reason}")
            self.directory.source_ended(name, failure)

    def gave_up(self, child: str) -> None:
        """An actor without which nothing works has failed too often."""
        self.give_up(f"{child} failed too often: {self._reasons.get(child, 'no reason known')}")

    def drained(self, supervisor: str, blame: str | None) -> None:
        """A supervisor has ended its children and starts none any more."""
        if blame is None and not self._stop_began:
            self.give_up(f"its {supervisor} were stopped from outside")

    def dead_letter(self, name: str, reason: str) -> None:
        """A message that nobody could read was dropped."""
        if name != "event_bus" and self.directory is not None:
            self._publisher.publish(DeadLetter(name, reason))

    def to_downloader(self, command: WorkerUp | WorkerRetires | WorkerGone | bytes) -> None:
        """Pass on what the workers say."""
        if isinstance(command, bytes):
            self._downloader.forward(command)
        else:
            self._downloader.tell(command)
