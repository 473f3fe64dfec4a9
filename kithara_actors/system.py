"""The composition root: starts the actors and the workers, hands out streams, and ends all of it in order."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import select
import stat
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from actors.actor.cell import CellHooks
from actors.actor.pool import PoolListener, PoolSettings, WorkerPool
from actors.actor.system import Runtime
from actors.clock import monotonic
from actors.messages.codec import Codec
from kithara_actors.actor.asset_store import AssetStore
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.event_bus import EventBus
from kithara_actors.actor.publisher import Publisher
from kithara_actors.actor.registry import Registry
from kithara_actors.actor.source import SourceSpec
from kithara_actors.assets.content import ContentTable, View
from kithara_actors.config import Config
from kithara_actors.directory import Directory, OpenOptions
from kithara_actors.errors import Failure, UnsupportedPlatform
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.naming import (
    asset_key,
    check_headers,
    digested_url,
    extension,
    origin_of,
    split_userinfo,
)
from kithara_actors.logic.ranges import Ranges
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import COMMANDS, Done, EndRequests, WorkerGone, WorkerUp
from kithara_actors.messages.events import (
    ActorCrashed,
    DeadLetter,
    Envelope,
    Scope,
    SystemStopping,
)
from kithara_actors.messages.worker import HEAD_CODEC, Head, WorkerSettings
from kithara_actors.stream.reader import Stream
from kithara_actors.stream.subscription import Subscribers, Subscription
from kithara_actors.values import Phase, Priority, Validator

__all__ = ["ActorSystem"]

logger = logging.getLogger(__name__)

_SYSTEM = Scope()
_READY_WITHIN = 10.0
_DEMAND_LOOK_AHEAD = 8 * 1024 * 1024
_BYTES_PER_SECOND = 40_000  # 320 kbit/s, where a look-ahead is given in seconds
_REQUEST_LIMIT = 48 * 1024
_STATIC = ("event_bus", "asset_store", "registry", "downloader")
_NEEDS = ((os, "memfd_create"), (os, "eventfd"), (os, "pidfd_open"), (os, "splice"), (select, "epoll"))


class ActorSystem:
    """A running system; made by `start`, ended by `stop`. Safe from any thread; several may live in one process."""

    def __init__(self, config: Config) -> None:
        """Use `ActorSystem.start`."""
        self.config = config
        self._pid = os.getpid()
        self._secret = secrets.token_bytes(32)
        self._stop_lock = threading.Lock()
        self._stop_began = False
        self._stopped = threading.Event()
        self._survivors: list[str] = []
        self._switch_interval: float | None = None
        self._runtime = Runtime(Codec(COMMANDS), _Hooks(self))
        self._contents = ContentTable()
        self._subscribers = Subscribers()
        self._pool = WorkerPool(_pool_settings(config), _Listener(self))

    @classmethod
    def start(cls, config: Config | None = None, **settings: Any) -> ActorSystem:
        """Start a system; blocks until it is ready to serve (about 0.2 s).

        `settings` are fields of `Config`, instead of one or replacing fields of it. Raises ValueError or TypeError
        naming a wrong field, UnsupportedPlatform, WorkerStartError, OSError (cache directory, descriptors); nothing
        is left running then.
        """
        _check_platform()
        if config is None:
            config = Config(**settings)
        elif settings:
            known = {name: getattr(config, name) for name in Config.__slots__}
            config = Config(**{**known, **settings})
        _check_supported(config)
        system = cls(config)
        try:
            system._start()
        except BaseException:
            system.stop(2.0)
            raise
        return system

    def open(
        self,
        source: str | os.PathLike[str],
        *,
        headers: Mapping[str, str] | None = None,
        discriminator: str | None = None,
        shared: bool = False,
        extension: str | None = None,
        look_ahead: int | str | None = None,
        priority: Priority | None = None,
        digest: str | None = None,
        resolve: Callable[[str], str] | None = None,
        wait_for_length: bool = False,
        subscribe: bool = False,
    ) -> Stream:
        """A stream of `source`, an http(s) URL or the absolute path of an existing file. Does not wait for the network.

        `headers` go with every request; those that may carry credentials make an asset of their own unless
        `shared`. `look_ahead`, in bytes or as "30s", fetches only so far ahead of the reader instead of the whole
        file; `wait_for_length` makes a body without length seekable by waiting for its end. ValueError,
        FileNotFoundError, IsADirectoryError for what can be known at once; what the network says comes at the first
        read. Raises SystemStopped after `stop`.
        """
        for name, value in (("digest", digest), ("resolve", resolve)):
            if value is not None:
                raise ValueError(f"{name} is not supported by this version")
        path = _local_path(source)
        if path is not None:
            return self._open_path(path, wait_for_length=wait_for_length, subscribe=subscribe)
        spec, identity, name = self._source(
            str(source), headers, discriminator, shared=shared, hint=extension, target=None
        )
        options = OpenOptions(
            name,
            self._look_ahead(look_ahead),
            self.config.read_timeout,
            wait_for_length,
            Priority.LOW if priority is None else Priority(priority),
            subscribe,
            self.config.event_capacity,
        )
        return self._directory.open(spec, identity, options)

    def save(self, source: str, path: str | os.PathLike[str], *, headers: Mapping[str, str] | None = None) -> Stream:
        """Like `open`, with the bytes going to `path`: to `path` + `.part` first, renamed when complete.

        The stream has to stay open until then (`wait_complete`); closed before, nothing is left at either name.
        """
        target = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links
        spec, identity, name = self._source(source, headers, None, shared=False, hint=None, target=target)
        options = OpenOptions(
            name, None, self.config.read_timeout, False, Priority.HIGH, False, self.config.event_capacity
        )
        return self._directory.open(spec, f"{identity}>{target}", options)

    def subscribe(
        self, capacity: int | None = None, callback: Callable[[Envelope], object] | None = None
    ) -> Subscription:
        """All events of the system from here on; see `Subscription`. `callback` runs on a thread of its own."""
        return self._directory.subscribe(
            _SYSTEM, self.config.event_capacity if capacity is None else capacity, callback
        )

    def workers(self) -> dict[int, int]:
        """Worker processes that are ready, by number, with their process ids."""
        return self._pool.workers()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the system has stopped, by `stop` or by itself: True, or False after `timeout` seconds."""
        return self._stopped.wait(timeout)

    def stop(self, timeout: float = 10.0) -> list[str]:
        """End everything, in order: requests, streams, workers, actors. Blocks at most about `timeout` seconds.

        Idempotent, from any thread; with `timeout=0` it only asks and returns at once, as a signal handler needs.
        Returns the names of what could not be ended.
        """
        if os.getpid() != self._pid:
            return []  # a forked child: the workers are its parent's
        if timeout <= 0:
            self._runtime.timers.soon(lambda: self.stop(10.0))
            return []
        with self._stop_lock:
            first, self._stop_began = not self._stop_began, True
        if not first:
            self._stopped.wait(timeout)
            return list(self._survivors)
        return self._shut_down(timeout, Failure("SystemStopped", "the system has been stopped"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ActorSystem {'stopped' if self._stopped.is_set() else 'running'}>"

    # --- Starting

    def _start(self) -> None:
        config = self.config
        runtime = self._runtime
        if config.switch_interval is not None:
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(config.switch_interval)
        runtime.start()
        self._bus = runtime.spawn("event_bus", lambda: EventBus(self._subscribers), ready_within=_READY_WITHIN)
        self._publisher = publisher = Publisher(self._bus, lambda: self._subscribers.listening)
        self._directory = Directory(runtime, self._contents, publisher, self._subscribers, self._bus)
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
        policy = RetryPolicy(config.max_retries, config.retry_base, config.retry_cap, config.retry_after_limit)
        self._downloader = runtime.spawn(
            "downloader",
            lambda: Downloader(
                FetchBook(policy),
                self._pool,
                self._contents,
                find,
                runtime.timers,
                publisher,
                config.max_retries,
            ),
            ready_within=_READY_WITHIN,
        )
        self._pool.start()
        # Runs while daemon threads still do; needs no new thread, which exit handlers may not start.
        atexit.register(self.stop)

    # --- Opening

    def _source(
        self,
        source: str,
        headers: Mapping[str, str] | None,
        discriminator: str | None,
        *,
        shared: bool,
        hint: str | None,
        target: Path | None,
    ) -> tuple[SourceSpec, str, str]:
        url, authorization = split_userinfo(source)
        named = digested_url(source, self.config.key)
        sent = check_headers(headers or {})
        if authorization is not None and not any(name.lower() == "authorization" for name in sent):
            sent["Authorization"] = authorization
        if len(url) + sum(len(name) + len(value) + 4 for name, value in sent.items()) > _REQUEST_LIMIT:
            raise ValueError(f"URL and headers must stay under {_REQUEST_LIMIT} characters together")
        suffix = extension(url, hint)
        key = asset_key(named, sent, self._secret, discriminator, shared, authorization)
        spec = SourceSpec(
            asset=0,
            name="",
            url=url,
            origin=origin_of(url),
            headers=tuple(sent.items()),
            key=key,
            extension=suffix,
            target=None if target is None else str(target),
            limit=self.config.memory_limit if target is None and self.config.cache_path is None else None,
        )
        return spec, key, f"{key}.{suffix}"

    def _open_path(self, path: Path, *, wait_for_length: bool, subscribe: bool) -> Stream:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(21, os.strerror(21), str(path))
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is not a regular file")
            content = self._contents.create()
        except BaseException:
            os.close(fd)
            raise
        content.attach(fd, path)
        content.block.write_head(status.st_size, 0, HEAD_CODEC.encode(Head(Validator(), None)))
        content.publish(View(phase=Phase.COMPLETE, coverage=Ranges().add(0, status.st_size)))
        stream = self._directory.open_local(
            content,
            OpenOptions(str(path), None, None, wait_for_length, Priority.LOW, subscribe, self.config.event_capacity),
        )
        stream.announce()
        return stream

    def _look_ahead(self, given: int | str | None) -> int | None:
        if isinstance(given, str):
            try:
                seconds = float(given.removesuffix("s"))
            except ValueError:
                seconds = -1.0
            if not given.endswith("s") or not 0 <= seconds < float("inf"):
                raise ValueError(f'look_ahead must be bytes or seconds such as "30s", not {given!r:.40}')
            return int(seconds * _BYTES_PER_SECOND)
        if given is None:
            if self.config.fill == "whole":
                return None
            return _DEMAND_LOOK_AHEAD if self.config.look_ahead is None else self.config.look_ahead
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"look_ahead must be a number of bytes or a string, not {type(given).__name__}")
        if given < 0:
            raise ValueError(f"look_ahead must not be negative, not {given}")
        return given

    # --- Ending

    def give_up(self, reason: str) -> None:
        """A part without which nothing works is gone: end, with every read raising SystemStopped."""
        with self._stop_lock:
            if self._stop_began:
                return
            self._stop_began = True
        failure = Failure("SystemStopped", f"the system has stopped by itself: {reason}")
        if hasattr(self, "_directory"):
            self._directory.end_streams(failure)
        threading.Thread(target=self._shut_down, args=(5.0, failure), name="kithara-give-up", daemon=True).start()

    def _shut_down(self, timeout: float, failure: Failure) -> list[str]:
        deadline = monotonic() + timeout
        try:
            if hasattr(self, "_directory"):
                self._directory.close(failure)
                self._publisher.publish(SystemStopping())
                self._end_requests(monotonic() + 0.3 * timeout)
                self._directory.end_streams(failure)
            left = self._pool.stop(max(0.1, 0.5 * (deadline - monotonic())))
            left += self._runtime.stop(max(0.1, deadline - monotonic()))
            self._subscribers.end_all()
            if self._switch_interval is not None:
                sys.setswitchinterval(self._switch_interval)
            self._survivors = left
            if left:
                logger.warning("not ended within %.1f s: %s", timeout, ", ".join(left))
        finally:
            self._stopped.set()
            atexit.unregister(self.stop)
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
                    logger.warning("%s did not end its requests: %s", name, error)
                    break
                if not isinstance(answer, Done) or not answer.pending:
                    break
                pause.wait(0.002)

    # --- What the parts report

    def part_crashed(self, name: str, error: BaseException) -> None:
        """An actor has crashed."""
        text = f"{type(error).__name__}: {error}"
        if not hasattr(self, "_directory"):
            return
        self._publisher.publish(ActorCrashed(name, text))
        self._directory.source_crashed(name, Failure("InternalError", f"{name} failed: {text}"))

    def part_ended(self, name: str) -> None:
        """An actor has ended; the system cannot go on without some."""
        if name in _STATIC and not self._stop_began:
            self.give_up(f"{name} has ended")
        elif hasattr(self, "_directory"):
            self._directory.source_crashed(name, Failure("SystemStopped", f"{name} was stopped from outside"))

    def dead_letter(self, name: str, reason: str) -> None:
        """A message that nobody could read was dropped."""
        logger.warning("dead letter for %s: %s", name, reason)
        if name != "event_bus" and hasattr(self, "_publisher"):
            self._publisher.publish(DeadLetter(name, reason))

    def to_downloader(self, command: WorkerUp | WorkerGone | bytes) -> None:
        """Pass on what the workers say."""
        if isinstance(command, bytes):
            self._downloader.forward(command)
        else:
            self._downloader.tell(command)


class _Hooks(CellHooks):
    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    def crashed(self, name: str, error: BaseException, text: str) -> None:  # noqa: ARG002
        self._system.part_crashed(name, error)

    def ended(self, name: str) -> None:
        self._system.part_ended(name)

    def dead_letter(self, name: str, reason: str) -> None:
        self._system.dead_letter(name, reason)


class _Listener(PoolListener):
    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    def worker_ready(self, worker: int, pid: int) -> None:
        self._system.to_downloader(WorkerUp(worker, pid))

    def frame(self, worker: int, data: bytes) -> None:  # noqa: ARG002
        self._system.to_downloader(data)

    def worker_lost(self, worker: int, pid: int, reason: str) -> None:
        self._system.to_downloader(WorkerGone(worker, pid, reason))

    def workers_exhausted(self, reason: str) -> None:
        self._system.give_up(reason)


def _pool_settings(config: Config) -> PoolSettings:
    cert, key = (config.cert, None) if isinstance(config.cert, str | None) else config.cert
    settings = WorkerSettings(
        connect_timeout=config.connect_timeout,
        inactivity_timeout=config.inactivity_timeout,
        verify=bool(config.verify),
        ca_bundle=config.verify if isinstance(config.verify, str) else None,
        certificate=cert,
        key=key,
        proxies=None if config.proxies is None else tuple(config.proxies.items()),
        max_connections=config.max_per_host,
        allow_downgrade=config.allow_downgrade,
    )
    return PoolSettings(
        handler="kithara_actors.worker.main:make_handler",
        settings=Codec([WorkerSettings]).encode(settings),
        size=config.workers,
        python=config.worker_python,
        heartbeat=config.heartbeat,
        heartbeat_limit=config.heartbeat_limit,
    )


def _check_platform() -> None:
    if not sys.platform.startswith("linux"):
        raise UnsupportedPlatform(f"kithara-actors needs Linux 5.4 or later, not {sys.platform}")
    missing = [name for module, name in _NEEDS if not hasattr(module, name)]
    if missing:
        raise UnsupportedPlatform(f"this Python lacks {', '.join(missing)}; use CPython 3.11+ built for Linux 5.4+")


def _check_supported(config: Config) -> None:
    """A setting that changes nothing yet must not be taken for one that works."""
    default = Config()
    for name in ("url_policy", "record", "max_rate", "max_rate_per_host", "max_assets", "freshness"):
        if getattr(config, name) != getattr(default, name):
            raise ValueError(f"{name} is not supported by this version")
    if config.connections_per_asset != 1:
        raise ValueError("connections_per_asset other than 1 is not supported by this version")


def _local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that `source` is, or None for a URL. ValueError for what is neither."""
    if isinstance(source, os.PathLike):
        path = Path(source)
        if not path.is_absolute():
            raise ValueError(
                f"{str(source)!r:.200} is a relative path: give an absolute one, such as {path.absolute()}"
            )
        return path
    if not isinstance(source, str):
        raise TypeError(f"source must be a URL or a path, not {type(source).__name__}")
    if source.startswith("/"):
        return Path(source)
    if "://" not in source:
        raise ValueError(f"{source!r:.200} is neither an http(s) URL nor an absolute path")
    return None
