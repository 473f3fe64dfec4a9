"""Secrets of every kind that an application may hand over, and all the places where text leaves a system."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import pickle
import re
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from stream_kit import Watch, watching

from kithara_actors.errors import KitharaError
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem

__all__ = ["HEADERS", "QUERY", "USERINFO", "Surfaces", "credentials", "fails", "leaked", "raised_by", "secret"]


def secret(name: str) -> str:
    """A value that is found nowhere else; with characters that are written differently in places.

    A slash in the user of a URL would make it a host.
    """
    return f"{name}+s3cr3t" + ("" if name.endswith("user") else f"/{name}=")


USERINFO = f"{quote(secret('user'), safe='')}:{quote(secret('password'), safe='')}"
QUERY = "&".join(
    (
        f"token={quote(secret('query'), safe='')}&token={quote(secret('again'), safe='')};sig={secret('semicolon')}",
        f"{quote(secret('bare'), safe='')}#{quote(secret('fragment'), safe='')}",
    )
)
HEADERS = {
    "Authorization": f"Bearer {secret('bearer')}",
    "Cookie": f"session={secret('cookie')}; other=1",
    "Proxy-Authorization": f"Basic {secret('proxy-header')}",
    "X-Api-Key": secret("api-key"),
    "X-Made-Up": secret("unknown-header"),
}
_NAMES = (
    *("user", "password", "query", "again", "semicolon", "bare", "fragment"),
    *("bearer", "cookie", "proxy-header", "api-key", "unknown-header"),
    *("location", "location-user", "location-password", "server", "proxy-user", "proxy-password"),
    *("discriminator", "callable", "raised", "resolved", "resolved-user", "foreign"),
)


def credentials(url: str, **more: str) -> str:
    """`url` with secret userinfo and query."""
    scheme, rest = url.split("://", 1)
    userinfo = more.get("userinfo", USERINFO)
    return f"{scheme}://{userinfo}@{rest}?{more.get('query', QUERY)}"


def _spellings() -> dict[str, str]:
    """What to look for, and which secret it is."""
    found = {}
    for name in _NAMES:
        value = secret(name)
        for text in (
            value,
            quote(value, safe=""),
            quote(value),
            quote(quote(value, safe=""), safe=""),
            f"{name}+s3cr3t",
        ):
            found[text] = name
        found[base64.b64encode(value.encode()).decode().rstrip("=")] = name
    for prefix in ("", "location-", "proxy-", "resolved-"):
        pair = f"{secret(prefix + 'user')}:{secret(prefix + 'password')}"
        found[base64.b64encode(pair.encode()).decode()[:-4]] = f"{prefix}userinfo in base64"
    return found


def leaked(text: str) -> list[str]:
    """The secrets in `text`, each with its surroundings."""
    found = []
    for spelling, name in _spellings().items():
        at = text.find(spelling)
        if at >= 0:
            found.append(f"{name}: …{text[max(0, at - 200) : at + len(spelling) + 60]}…")
    return found


class Surfaces:
    """Collects what leaves a system while it runs."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._log = io.StringIO()
        self._said: list[str] = []
        self.errors: list[BaseException] = []
        self.recorded = b""
        """The file that the last system has left, as it is."""

    @contextmanager
    def of(self, **settings: Any) -> Iterator[ActorSystem]:
        """A system of one worker; what it says until it has stopped is collected, in the log from DEBUG on, and what it
        puts on record."""
        handler = logging.StreamHandler(self._log)
        handler.setFormatter(logging.Formatter("%(name)s %(threadName)s %(message)s"))
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        folder = tempfile.mkdtemp()
        record = str(Path(folder) / "trace")
        try:
            with ActorSystem.start(workers=1, retry_base=0.01, max_retries=1, record=record, **settings) as system:
                with watching(system) as watch:
                    yield system
                    self._note(system, watch, settings)
            self.recorded = Path(record).read_bytes()
            # Most of the file was never written.
            self._said.append(re.sub(rb"\0{64,}", b" ", self.recorded).decode("latin-1"))
        finally:
            shutil.rmtree(folder)
            root.setLevel(before)
            root.removeHandler(handler)

    def _note(self, system: ActorSystem, watch: Watch, settings: dict[str, Any]) -> None:
        self._said += [repr(event) for event in watch.drain()]
        self._said += [repr(system), repr(system.config)]
        self._said += [thread.name for thread in threading.enumerate()]
        for pid in (os.getpid(), *system.workers().values()):
            for part in ("cmdline", "environ"):
                self._said.append(Path(f"/proc/{pid}/{part}").read_bytes().decode("utf-8", "replace"))
            for path in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    self._said.append(str(path.readlink()))
        if settings.get("cache_dir"):
            self._said += [str(path) for path in Path(settings["cache_dir"]).rglob("*")]

    def error(self, error: BaseException) -> BaseException:
        """Note an error in every form in which it may be shown."""
        self.errors.append(error)
        forms = (str(error), repr(error), repr(error.args), repr(getattr(error, "failure", None)), repr(vars(error)))
        self._said += [*forms, "".join(traceback.format_exception(error))]
        self._said.append(pickle.dumps(error).decode("latin-1"))
        return error

    def stream(self, stream: Stream) -> None:
        """Note what a stream tells of itself."""
        self._said += [repr(stream), stream.name, repr(stream.path), repr(stream.media_info), repr(stream.error)]
        self._said.append(repr(stream.answer))

    @property
    def text(self) -> str:
        """All that was said so far, workers' standard error included."""
        out, err = self._capfd.readouterr()
        self._said += [out, err]
        return "\n".join([*self._said, self._log.getvalue()])


def fails(surfaces: Surfaces, system: ActorSystem, url: str, **options: Any) -> KitharaError:
    """Reads `url`, which has to fail, and notes all that there is to be seen."""
    with system.open(url, **options) as stream:
        with pytest.raises(KitharaError) as caught:
            stream.read()
        surfaces.stream(stream)
        for error in (caught.value, stream.error, raised_by(stream.raise_for_error), raised_by(stream.wait_complete)):
            assert error is not None
            surfaces.error(error)
    return caught.value


def raised_by(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None
