"""The handler of a worker for whom names below `HANGS` are never resolved; the rest is that of the package.

The workers' own resolver cannot be had to hang without root. Every such lookup leaves a file with the name in the
folder that `FOLDER` names in the environment.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.worker.handler import Send
from kithara_actors.worker.main import FetchHandler
from kithara_actors.worker.main import make_handler as make

__all__ = ["FOLDER", "HANGS", "hang", "make_handler"]

FOLDER = "KITHARA_BENCH_LOOKUPS"
HANGS = ".hangs.invalid"


def hang() -> Callable[[], None]:
    """From now on lookups of such names in this process hang, until what is returned is called."""
    resolve = socket.getaddrinfo
    over = threading.Event()

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        numeric = options.get("flags", 0) & socket.AI_NUMERICHOST
        if isinstance(host, str) and host.endswith(HANGS) and not numeric:
            (Path(os.environ[FOLDER]) / host).touch()
            over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "the lookup hung")
        return resolve(host, *arguments, **options)

    def restore() -> None:
        socket.getaddrinfo = resolve
        over.set()

    socket.getaddrinfo = getaddrinfo
    return restore


def make_handler(settings: bytes, send: Send) -> FetchHandler:
    """What `Hello.handler` names: called once in each worker."""
    hang()
    return make(settings, send)
