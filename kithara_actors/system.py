"""The door for applications. Naming the class costs little: the parts are loaded by `start`."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kithara_actors.config import Config
from kithara_actors.errors import PolicyError, SystemStopped, UnsupportedPlatform
from kithara_actors.forks import FORKED
from kithara_actors.stream.timeouts import checked_wait
from kithara_actors.values import Priority

if TYPE_CHECKING:
    from actors.actor.pool import WorkerPool
    from kithara_actors.assembly import Assembly
    from kithara_actors.batching import Batch
    from kithara_actors.directory import Directory
    from kithara_actors.fetching import FetchCommand, FetchResult
    from kithara_actors.messages.events import Envelope
    from kithara_actors.status import Health, Stats
    from kithara_actors.stream.prefetch import Prefetch
    from kithara_actors.stream.reader import Stream
    from kithara_actors.stream.subscription import Subscription

__all__ = ["UNSUPPORTED", "ActorSystem", "check_platform", "check_supported"]

_NEEDS = ((os, "memfd_create"), (os, "eventfd"), (os, "pidfd_open"), (os, "splice"), (select, "epoll"))
UNSUPPORTED = (
    "freshness",
    "max_assets",
    "max_bytes",
    "min_free_bytes",
)
"""Fields of `Config` whose part is not built yet."""


class ActorSystem:
    """A running system; made by `start`, ended by `stop`. Safe from any thread; several may live in one process."""

    def __init__(self, config: Config, pool: WorkerPool, assembly: Assembly, directory: Directory) -> None:
        """Use `ActorSystem.start`."""
        self.config = config
        self._pid = os.getpid()
        self._secret = os.urandom(32)
        self._pool = pool
        self._assembly = assembly
        self._running = directory

    @classmethod
    def start(cls, config: Config | None = None, **settings: Any) -> ActorSystem:
        """Start a system; blocks until it is ready to serve (about 0.2 s).

        `settings` are fields of `Config`, instead of one or replacing fields of it. Raises ValueError or TypeError
        naming a wrong field, UnsupportedPlatform, WorkerStartError, OSError (cache directory, descriptors); nothing
        is left running then.
        """
        check_platform()
        if config is None:
            config = Config(**settings)
        elif settings:
            known = {name: getattr(config, name) for name in Config.__slots__}
            config = Config(**{**known, **settings})
        check_supported(config)
        from kithara_actors.workers import worker_pool

        pool = worker_pool(config)
        try:
            pool.launch()
            # While the processes start, this one loads what they do not need.
            from kithara_actors.assembly import Assembly

            assembly = Assembly(config, pool)
        except BaseException:
            pool.stop(2.0)
            raise
        try:
            return cls(config, pool, assembly, assembly.start())
        except BaseException:
            assembly.stop(2.0)
            raise

    def open(
        self,
        source: str | os.PathLike[str],
        *,
        headers: Mapping[str, str] | Callable[[str], Mapping[str, str]] | None = None,
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
        file; `wait_for_length` makes a body without length seekable by waiting for its end. `priority` is its class,
        LOW unless given, until `Stream.play`, `Stream.pause` or its first blocking read. With `subscribe` its events,
        from the first on, are in `Stream.events`. ValueError, TypeError, FileNotFoundError, IsADirectoryError for what
        can be known at once; what the network says comes at the first read. Raises SystemStopped after `stop`,
        PolicyError for a path under `public_only`.

        `headers` may be a callable, for credentials that change: it is called with the URL that will be requested
        before the first request, and again when that is answered 401 or 403. Nobody knows for whom its answer is
        good, so without `discriminator` (who it is that asks) or `shared` (all get the same bytes) the asset is
        for this stream alone, in memory, and gone with it. `resolve` is for signed URLs: called with `source` (without
        userinfo) it returns the URL to request instead, before the first request and again on 401, 403, 404 or 410.
        The asset is still that of `source`; on another origin `headers` of a mapping are dropped as at a redirect.
        Either is asked again once, until more bytes have come, and never twice at a time for one asset; it runs on a
        thread of the system's, where 5 seconds are its limit, and what it raises becomes PolicyError: that names the
        type alone, for the message may hold a secret; only of a PolicyError of its own the message is kept, with the
        URLs in it redacted. Before the first byte that is the end of the stream; later the bytes that came are still
        served, and the next read of others asks again. Of streams that share an asset, the callables of the first serve
        them all.
        """
        if digest is not None:
            raise ValueError("digest is not supported by this version")
        from kithara_actors.entries import OpenOptions
        from kithara_actors.opening import ahead_of, local_path, named, priority_of

        directory = self._directory
        initial = priority_of(priority)
        path = self._local(local_path(source))
        if path is not None:
            return directory.open_file(
                path,
                OpenOptions(
                    str(path), None, None, wait_for_length, Priority.LOW, subscribe, self.config.event_capacity
                ),
            )
        remote = named(
            self.config,
            self._secret,
            str(source),
            headers,
            discriminator,
            callables=self._assembly.callables,
            resolve=resolve,
            shared=shared,
            hint=extension,
        )
        options = OpenOptions(
            remote.name,
            ahead_of(self.config, look_ahead),
            self.config.read_timeout,
            wait_for_length,
            initial,
            subscribe,
            self.config.event_capacity,
        )
        return directory.open(remote.spec, remote.identity, options)

    def prefetch(
        self,
        source: str | os.PathLike[str],
        *,
        headers: Mapping[str, str] | Callable[[str], Mapping[str, str]] | None = None,
        discriminator: str | None = None,
        shared: bool = False,
        extension: str | None = None,
        resolve: Callable[[str], str] | None = None,
    ) -> Prefetch:
        """Fetch `source` ahead of its use, all of it, behind everything that somebody waits for. Returns at once.

        The arguments are those of `open`, and an `open` with the same ones, now or later, shares the download: what it
        reads goes first, and when it is closed the prefetch goes on. Any number may wait; of one origin a few are
        fetched at a time. Keep the handle: to close it before the end, or to drop it, ends what no stream needs.

        With `cache_dir` a complete asset is kept as any other, and the handle holds nothing of it. In memory it is
        there for as long as the handle is open, whatever `memory_limit` says; after that as what was opened and
        closed: within `memory_limit`, the oldest dropped first. A local path is complete at once.

        Raises what `open` does at once, except for lacking descriptors or threads: that comes, as what the network
        says, at `Prefetch.wait`; an error is final for the handle. ValueError for callable `headers` without
        `discriminator` or `shared`: nobody could ever open what they fetch.
        """
        from kithara_actors.opening import local_path, named

        path = self._local(local_path(source))
        if path is not None:
            return self._directory.prefetch_file(path)
        remote = named(
            self.config,
            self._secret,
            str(source),
            headers,
            discriminator,
            callables=self._assembly.callables,
            resolve=resolve,
            shared=shared,
            hint=extension,
        )
        if not remote.spec.key:
            raise ValueError("callable headers need discriminator= or shared=True to be prefetched with: see open")
        return self._directory.prefetch(remote.spec, remote.identity, remote.name)

    def save(
        self,
        source: str,
        path: str | os.PathLike[str],
        *,
        headers: Mapping[str, str] | Callable[[str], Mapping[str, str]] | None = None,
        resolve: Callable[[str], str] | None = None,
    ) -> Stream:
        """Like `open`, with the bytes going to `path`: to `path` + `.part` first, renamed when complete.

        The stream has to stay open until then (`wait_complete`); closed before, nothing is left at either name.
        """
        from kithara_actors.entries import OpenOptions
        from kithara_actors.opening import named

        target = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links
        remote = named(
            self.config,
            self._secret,
            source,
            headers,
            callables=self._assembly.callables,
            resolve=resolve,
            target=target,
        )
        options = OpenOptions(
            remote.name, None, self.config.read_timeout, False, Priority.HIGH, False, self.config.event_capacity
        )
        return self._directory.open(remote.spec, remote.identity, options)

    def execute(self, command: FetchCommand, timeout: float | None = None) -> FetchResult:
        """Carry out one request, retries and redirects included, and return its answer. Blocks; from any thread.

        For small things: a body of more than `execute_limit` bytes, after decoding, is BodyTooLarge. It takes its
        turn with the streams, waits for a slot as they do, and nothing of it is kept. `timeout` limits the whole
        call, in seconds; then the request is cancelled and ReadTimeout raised. A KeyboardInterrupt cancels it too.

        ValueError or TypeError for misuse, before anything is sent; OSError without descriptors. Else it raises
        what reading a stream does: StatusError for every status that is no success, RetryExhausted, ConnectError,
        ProtocolError, InvalidContentType, PolicyError, StorageFull, SystemStopped when the system stops meanwhile.
        """
        self._check_process()
        return self._assembly.executor.execute(command, timeout)

    def batch(self, commands: Iterable[FetchCommand], timeout: float | None = None) -> Batch:
        """Carry out many requests side by side, as `execute` does one: an iterator over their answers, in order.

            with system.batch(FetchCommand.head(url) for url in urls) as answers:
                for answer in answers:

        Each is a FetchResult or, in its place, the KitharaError that ended this one request; the others go on. The
        first are asked for at once. `commands` is drawn from as results are taken, on the caller's thread, so it may be
        endless; at most 512 (three times `max_concurrent`, if that is less, but at least 64) are known at a time, those
        included whose results nobody has taken. All together take turns with the streams as one peer does. `timeout`
        is in seconds from this call on; a result that is not there by then is ReadTimeout when its turn comes.

        Whatever is raised ends the iteration and cancels the rest: ReadTimeout, what `commands` raises, TypeError or
        ValueError that names the item which cannot be asked for, OSError without descriptors. So does `Batch.close`.
        After `stop` the rest are SystemStopped, each in its place. Blocks while results are waited for; from any
        thread, one at a time.
        """
        from kithara_actors.batching import Batch, window_of

        self._check_process()
        window = window_of(self.config.max_concurrent)
        return Batch(commands, timeout, self._assembly.executor, window, self._check_process)

    def subscribe(
        self, capacity: int | None = None, callback: Callable[[Envelope], object] | None = None
    ) -> Subscription:
        """All events of the system from here on; see `Subscription`.

        `callback` runs on a thread of its own; what it raises is logged as it is, with its message.
        """
        return self._directory.subscribe_to_all(self.config.event_capacity if capacity is None else capacity, callback)

    def workers(self) -> dict[int, int]:
        """Worker processes that are ready, by number, with their process ids."""
        self._check_process()
        return self._pool.workers()

    def stats(self) -> Stats:
        """The numbers of this moment: actors, workers, requests, bytes, cache. Waits for no actor; from any thread."""
        self._check_process()
        return self._assembly.monitor.stats()

    def health(self) -> Health:
        """Whether all is well, in one word with reasons: `ok`, `degraded` (something is down and is being brought back;
        readers go on) or `failed` (the system has stopped, or is stopping). Waits for no actor; from any thread."""
        self._check_process()
        return self._assembly.monitor.health()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the system has stopped, by `stop` or by itself: True, or False after `timeout` seconds."""
        self._check_process()
        return self._assembly.wait(checked_wait(timeout))

    def stop(self, timeout: float = 10.0) -> list[str]:
        """End everything, in order: requests, streams, workers, actors. Blocks at most about `timeout` seconds.

        Idempotent, from any thread; with `timeout=0` it only asks and returns at once, as a signal handler needs.
        Returns the names of what could not be ended.
        """
        return self._assembly.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ActorSystem {'stopped' if self._assembly.stopped else 'running'}>"

    def _local(self, path: Path | None) -> Path | None:
        from kithara_actors.policies import public_only

        if path is not None and self.config.url_policy is public_only:
            raise PolicyError(f"public_only refuses {str(path)!r:.200}: it is a local path")
        return path

    @property
    def _directory(self) -> Directory:
        self._check_process()
        return self._running

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise SystemStopped(FORKED)


def check_platform() -> None:
    """Raise UnsupportedPlatform, with the remedy, where a system cannot run."""
    if not sys.platform.startswith("linux"):
        raise UnsupportedPlatform(f"kithara-actors needs Linux 5.4 or later, not {sys.platform}")
    missing = [name for module, name in _NEEDS if not hasattr(module, name)]
    if missing:
        raise UnsupportedPlatform(f"this Python lacks {', '.join(missing)}; use CPython 3.11+ built for Linux 5.4+")


def check_supported(config: Config) -> None:
    """A setting that changes nothing yet must not be taken for one that works."""
    default = Config()
    for name in UNSUPPORTED:
        if getattr(config, name) != getattr(default, name):
            raise ValueError(f"{name} is not supported by this version")
    if config.connections_per_asset != 1:
        raise ValueError("connections_per_asset other than 1 is not supported by this version")
