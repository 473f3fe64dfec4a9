"""Who makes the requests of `bench.py requests`: the system in two ways, sessions of requests in threads, aiohttp."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import requests

from kithara_actors import ActorSystem, FetchCommand, KitharaError

__all__ = ["Aiohttp", "Batch", "Execute", "Requests", "Subject", "Task"]

_HANG = 60.0
"""Seconds for one sample."""


@dataclass(frozen=True, slots=True)
class Task:
    """`count` requests by `method`: `url` has one for each number, `check` takes status and body of each answer."""

    method: str
    count: int
    url: Callable[[int], str]
    check: Callable[[int, bytes], None]


class Subject(Protocol):
    name: str
    ours: bool

    def run(self, task: Task) -> None:
        """Make all requests; blocks until the last answer was checked."""

    def close(self) -> None:
        """Free what it has."""


class _Threads:
    """Threads that take the next number as soon as they are done with one."""

    def __init__(self, count: int) -> None:
        self._count = count

    def run(self, count: int, make: Callable[[], Callable[[int], None]]) -> None:
        """Call what `make` gives each thread with every number once. Raises what the first that failed has raised."""
        numbers = iter(range(count))
        lock = threading.Lock()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                one = make()
                while not errors:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    one(number)
            except BaseException as error:  # noqa: BLE001 - raised by who waits
                errors.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _HANG
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if errors:
            raise errors[0]
        if any(thread.is_alive() for thread in threads):
            raise SystemExit(f"no end of {count} requests within {_HANG:g} s")


class Execute:
    """`system.execute` from several threads."""

    ours = True

    def __init__(self, system: ActorSystem, threads: int) -> None:
        self.name = f"execute-{threads}"
        self._system = system
        self._threads = _Threads(threads)

    def run(self, task: Task) -> None:
        make = FetchCommand.get if task.method == "GET" else FetchCommand.head

        def one(number: int) -> None:
            result = self._system.execute(make(task.url(number)), _HANG)
            task.check(result.status, result.body)

        self._threads.run(task.count, lambda: one)

    def close(self) -> None:
        """The system is another's."""


class Batch:
    """One `system.batch` for all."""

    name = "batch"
    ours = True

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    def run(self, task: Task) -> None:
        make = FetchCommand.get if task.method == "GET" else FetchCommand.head
        with self._system.batch((make(task.url(number)) for number in range(task.count)), _HANG) as answers:
            for answer in answers:
                if isinstance(answer, KitharaError):
                    raise answer
                task.check(answer.status, answer.body)

    def close(self) -> None:
        """The system is another's."""


class Requests:
    """A session per thread."""

    ours = False

    def __init__(self, threads: int) -> None:
        self.name = f"requests-{threads}"
        self._threads = _Threads(threads)
        self._sessions = [self._session() for _ in range(threads)]

    def run(self, task: Task) -> None:
        free = itertools.cycle(self._sessions)

        def make() -> Callable[[int], None]:
            session = next(free)
            call = session.get if task.method == "GET" else session.head

            def one(number: int) -> None:
                answer = call(task.url(number), timeout=_HANG)
                task.check(answer.status_code, answer.content)

            return one

        self._threads.run(task.count, make)

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        return session


class Aiohttp:
    """One loop, which keeps its connections from one run to the next."""

    name = "aiohttp"
    ours = False

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._loop = asyncio.new_event_loop()
        self._client: aiohttp.ClientSession | None = None

    def run(self, task: Task) -> None:
        self._loop.run_until_complete(asyncio.wait_for(self._all(task), _HANG))

    async def _all(self, task: Task) -> None:
        client = self._client = self._client or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self._tasks))
        numbers = iter(range(task.count))

        async def work() -> None:
            for number in numbers:
                async with client.request(task.method, task.url(number)) as answer:
                    task.check(answer.status, await answer.read())

        await asyncio.gather(*(work() for _ in range(self._tasks)))

    def close(self) -> None:
        if self._client is not None:
            self._loop.run_until_complete(self._client.close())
        self._loop.close()
