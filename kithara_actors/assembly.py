"""What a running system is made of: actors and workers, started from the bottom up and ended in reverse."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import sys
import threading

from actors.actor.pool import PoolListener, WorkerPool
from actors.actor.supervisor import SupervisorHooks
from actors.actor.system import Runtime
from actors.clock import monotonic
from actors.messages.codec import Codec
from kithara_actors.actor.asset_store import AssetStore
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.collector import Collector
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.actor.event_bus import EventBus
from kithara_actors.actor.meters import Meters
from kithara_actors.actor.publisher import Publisher
from kithara_actors.actor.registry import Registry
from kithara_actors.assets.collecting import WaitingTable
from kithara_actors.assets.content import ContentTable
from kithara_actors.config import Config
from kithara_actors.directory import Directory
from kithara_actors.errors import Failure, SystemStopped
from kithara_actors.executing import COLLECTOR, Executor
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.naming import redact_text
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import COMMANDS, Done, EndRequests, WorkerGone, WorkerUp
from kithara_actors.messages.events import ActorCrashed, DeadLetter, SystemStopping
from kithara_actors.parsing import Parsing
from kithara_actors.policies import host_policy
from kithara_actors.stream.subscription import Subscribers

__all__ = ["Assembly"]

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
        self._switch_interval: float | None = None
        self._runtime = Runtime(Codec(COMMANDS), _Hooks(self))
        self._parsing = Parsing(config)
        self._contents = ContentTable()
        self._waiting = WaitingTable(self._contents)
        self._meters: Meters | None = None
        self._subscribers = Subscribers()
        self.callables = Callables()
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
        self._publisher = publisher = Publisher(bus, lambda: self._subscribers.listening)
        self.directory = directory = Directory(
            runtime, self._contents, publisher, self._subscribers, bus, self._parsing
        )
        find = runtime.address
        runtime.spawn(
            "asset_store",
            lambda: AssetStore(config.cache_path, config.memory_limit, self._contents, find, publisher),
            ready_within=_READY_WITHIN,
        )
        runtime.spawn(
            "registry",
            lambda: Registry(SlotMap(config.max_concurrent, config.max_per_host), find, publisher),
            ready_within=_READY_WITHIN,
        )
        if config.max_rate is not None or config.max_rate_per_host is not None:
            # Twice as many as can be in use: a host keeps its meter between two requests.
            origins = 0 if config.max_rate_per_host is None else 2 * min(config.max_concurrent, _MOST_METERS)
            self._meters = Meters(origins)
        asked = host_policy(config.url_policy)
        policy = RetryPolicy(config.max_retries, config.retry_base, config.retry_cap, config.retry_after_limit)
        self._downloader = runtime.spawn(
            "downloader",
            lambda: Downloader(
                FetchBook(policy, asks=asked is not None),
                self._pool,
                self._contents,
                find,
                runtime.timers,
                publisher,
                config.max_retries,
                enquiries=Enquiries(self.callables, asked, find, runtime.timers),
                meters=self._meters,
            ),
            ready_within=_READY_WITHIN,
        )
        runtime.spawn(COLLECTOR, lambda: Collector(self._waiting, find), ready_within=_READY_WITHIN)
        self.executor = Executor(self._waiting, find, directory.next_request, config.execute_limit)
        self._pool.listen(_Listener(self))
        self._pool.wait_ready()
        if self._stop_began:
            raise SystemStopped("the system has stopped by itself while it was starting")
        # Runs while daemon threads still do; needs no new thread, which exit handlers may not start.
        atexit.register(self._at_exit)
        return directory

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
        failure = Failure("SystemStopped", f"the system has stopped by itself: {reason}")
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
        deadline = monotonic() + timeout
        directory = self.directory
        try:
            if directory is not None:
                directory.close(failure)
                self._waiting.close(failure)
                self._publisher.publish(SystemStopping())
                self._end_requests(monotonic() + 0.3 * timeout)
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
            self._stopped.set()
            atexit.unregister(self._at_exit)
        return list(self._survivors)

    def _end_requests(self, deadline: float) -> None:
        """Have every request end, and wait for those that run in workers, within the limit."""
        pause = threading.Event()
        for name in ("registry", "downloader"):
            while monotonic() < deadline:
                address = self._runtime.address(name)
                if address is None:
                    break
                try:
                    answer = address.ask(EndRequests(), max(0.05, deadline - monotonic()))
                except Exception as error:  # noqa: BLE001 - ending goes on whatever an actor does
                    if address.alive:
                        logger.warning("%s did not end its requests: %s", name, redact_text(str(error)))
                    break
                if not isinstance(answer, Done) or not answer.pending:
                    break
                pause.wait(0.002)

    # --- What the parts report

    def part_crashed(self, name: str, error: BaseException) -> None:
        """An actor has crashed."""
        text = redact_text(f"{type(error).__name__}: {error}")
        if self.directory is None:
            return
        self._publisher.publish(ActorCrashed(name, text))
        self.directory.source_crashed(name, Failure("InternalError", f"{name} failed: {text}"))

    def part_ended(self, name: str) -> None:
        """An actor has ended; the system cannot go on without some."""
        if name in _STATIC and not self._stop_began:
            self.give_up(f"{name} has ended")
        elif self.directory is not None:
            self.directory.source_crashed(name, Failure("SystemStopped", f"{name} was stopped from outside"))

    def dead_letter(self, name: str, reason: str) -> None:
        """A message that nobody could read was dropped."""
        logger.warning("dead letter for %s: %s", name, reason)
        if name != "event_bus" and self.directory is not None:
            self._publisher.publish(DeadLetter(name, reason))

    def to_downloader(self, command: WorkerUp | WorkerGone | bytes) -> None:
        """Pass on what the workers say."""
        if isinstance(command, bytes):
            self._downloader.forward(command)
        else:
            self._downloader.tell(command)


class _Hooks(SupervisorHooks):
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:  # noqa: ARG002
        if not asked:
            self._assembly.part_crashed(child, error)

    def shown(self, text: str) -> str:
        return redact_text(text)

    def ended(self, child: str, *, spent: bool, hung: bool) -> None:  # noqa: ARG002
        self._assembly.part_ended(child)

    def dead_letter(self, child: str, reason: str) -> None:
        self._assembly.dead_letter(child, reason)


class _Listener(PoolListener):
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def worker_ready(self, worker: int, pid: int) -> None:
        self._assembly.to_downloader(WorkerUp(worker, pid))

    def frame(self, worker: int, data: bytes) -> None:  # noqa: ARG002
        self._assembly.to_downloader(data)

    def worker_lost(self, worker: int, pid: int, reason: str) -> None:
        self._assembly.to_downloader(WorkerGone(worker, pid, reason))

    def workers_exhausted(self, reason: str) -> None:
        self._assembly.give_up(reason)
