"""`kithara get`: one URL to one file, or to the standard output."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.clock import monotonic
from kithara_actors.command.event_file import EventFile, event_file
from kithara_actors.command.explain import CommandError, explain, os_remedy
from kithara_actors.command.failed import told_in_json
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.progress import Reporter, Shown, make_reporter
from kithara_actors.command.room import explained_cache, private_folder
from kithara_actors.command.settings import request_headers, system_settings
from kithara_actors.command.text import amount, write_all, write_error_line, write_json
from kithara_actors.errors import KitharaError, StreamError
from kithara_actors.logic.naming import canonical_url, redact
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem

__all__ = ["run"]

_CHUNK = 256 * 1024
_PART = ".part"
_ELSEWHERE = "choose another place with -o"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bytes go: to the file `path`, or into `fd`, where nothing can be renamed."""

    shown: str
    path: Path
    fd: int | None


@dataclass(frozen=True, slots=True)
class _Result:
    count: int
    seconds: float
    codec: str | None
    container: str | None


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Download what `options` say. Blocks.

    Raises CommandError, Interrupted, BrokenPipeError, and argparse.ArgumentTypeError for wrong usage; nothing is
    left behind then.
    """
    headers = request_headers(options)
    if options.json and options.output == "-":
        raise argparse.ArgumentTypeError("--json and -o - would share the standard output")
    if options.events == "-" and (options.json or options.output == "-"):
        raise argparse.ArgumentTypeError("--events - would share the standard output with --json or -o -")
    with told_in_json(options.url if options.json else None):
        settings = _checked(options)
        with _place(options.url, options.output) as place, explained_cache(settings):
            events = event_file(options, place.path)
            try:
                with contextlib.nullcontext() if events is None else events:
                    result = _fetch(options, settings, headers, place, interrupts, events)
            except KitharaError as error:
                raise CommandError(explain(error, options.url, settings) + _other_place(error, place)) from error
    _tell(options, place, result)
    return 0


def _checked(options: argparse.Namespace) -> dict[str, Any]:
    """The settings; before anything is done, the URL is looked at too."""
    if "://" not in options.url:
        raise CommandError(f"{redact(options.url)}: not a URL: it begins with http:// or https://")
    try:
        canonical_url(options.url)
    except ValueError as error:
        raise CommandError(explain(error, options.url)) from error
    return system_settings(options)


def _other_place(error: KitharaError, place: _Place) -> str:
    # Of this very kind are the errors of making the file.
    if type(error) is not StreamError or place.fd is not None:
        return ""
    if os.path.lexists(f"{place.path}{_PART}"):
        return "; wait for it to end, or choose another file with -o"
    return "; choose another place with -o"


def _fetch(
    options: argparse.Namespace,
    settings: dict[str, Any],
    headers: dict[str, str],
    place: _Place,
    interrupts: Interrupts,
    events: EventFile | None,
) -> _Result:
    reporter = make_reporter(place.path.name, json_lines=options.json, quiet=options.quiet)
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(ActorSystem.start(**settings))
        if events is not None:
            events.watch(system)
        stream = stack.enter_context(system.save(options.url, place.path, headers=headers))
        start = monotonic()
        if place.fd is None:
            count = _watched(reporter, stream, interrupts, lambda: _complete(stream))
        else:
            fd = place.fd
            count = _watched(reporter, stream, interrupts, lambda: _copy(stream, fd, place.shown))
        info = stream.declared_info
        return _Result(
            count,
            monotonic() - start,
            None if info is None or info.codec is None else info.codec.value,
            None if info is None or info.container is None else info.container.value,
        )


def _watched(reporter: Reporter, stream: Stream, interrupts: Interrupts, work: Callable[[], int]) -> int:
    def figures() -> tuple[int, int | None]:
        return (0, None) if stream.closed else (stream.tell() + stream.buffered, stream.length)

    # Whoever read the JSON lines is gone: the work has lost its purpose. A lost progress bar is no reason to stop.
    on_error = stream.cancel if reporter.vital else lambda: None
    with Shown(reporter, figures, on_error) as shown, interrupts.armed():
        try:
            return work()
        except KitharaError:
            if reporter.vital and shown.error is not None:
                raise shown.error from None
            raise


def _complete(stream: Stream) -> int:
    stream.wait_complete()
    return stream.length or 0


def _copy(stream: Stream, fd: int, shown: str) -> int:
    count = 0
    while chunk := stream.read1(_CHUNK):
        try:
            write_all(fd, chunk)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(f"cannot write to {shown}: {error.strerror}{os_remedy(error.errno)}") from error
        count += len(chunk)
    return count


@contextlib.contextmanager
def _place(url: str, output: str | None) -> Iterator[_Place]:
    """Where the bytes go, looked at before anything is asked of the network."""
    if output == "-":
        if sys.stdout is None:
            raise CommandError("the standard output is closed")
        with private_folder() as folder:
            yield _Place("the standard output", folder / "body", sys.stdout.fileno())
        return
    named = _name_in(url) if output is None else output
    if not named:
        raise argparse.ArgumentTypeError("the FILE of -o is empty" if output is not None else _NO_NAME)
    # Through symbolic links, so that the file they lead to is replaced and not they.
    path = Path(os.path.realpath(named))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise CommandError(_unwritable(named, error.errno)) from error
    if (mode is not None and stat.S_ISDIR(mode)) or named.endswith("/"):
        raise CommandError(f"cannot write {named}: it is a directory; name a file in it with -o")
    if mode is not None and not stat.S_ISREG(mode):
        # A device or a named pipe is written to; renaming a file over /dev/null would replace it.
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CommandError(f"cannot write {named}: {error.strerror}; {_ELSEWHERE}") from error
        with contextlib.closing(os.fdopen(fd, "wb", buffering=0)), private_folder() as folder:
            yield _Place(named, folder / "body", fd)
        return
    if not path.parent.is_dir():
        raise CommandError(f"cannot write {named}: there is no directory {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CommandError(f"cannot write {named}: {os.strerror(errno.EACCES)}; {_ELSEWHERE}")
    if len(os.fsencode(path.name)) + len(_PART) > os.pathconf(path.parent, "PC_NAME_MAX"):
        raise CommandError(_unwritable(named, errno.ENAMETOOLONG))
    yield _Place(named, path, None)


def _unwritable(named: str, number: int | None) -> str:
    remedy = f"give a shorter one with -o; {_PART} is added meanwhile" if number == errno.ENAMETOOLONG else _ELSEWHERE
    return f"cannot write {named}: {os.strerror(number or 0)}; {remedy}"


_NO_NAME = "the URL's path ends in no file name: give one with -o FILE"


def _name_in(url: str) -> str:
    """The last part of the URL's path as it is written there, without decoding: it cannot leave the directory."""
    name = canonical_url(url).partition("?")[0].split("://", 1)[1].partition("/")[2].rpartition("/")[2]
    return "" if name in (".", "..") else name


def _tell(options: argparse.Namespace, place: _Place, result: _Result) -> None:
    speed = result.count / max(result.seconds, 0.001)
    if options.json:
        write_json(
            {
                "event": "done",
                "url": redact(options.url),
                "path": str(place.path),
                "bytes": result.count,
                "seconds": round(result.seconds, 3),
                "bytes_per_second": round(speed),
                "codec": result.codec,
                "container": result.container,
            }
        )
    elif not options.quiet:
        kind = " ".join(part for part in (result.container, result.codec) if part)
        media = f" ({kind})" if kind else ""
        write_error_line(f"{place.shown}{media}: {amount(result.count)} in {result.seconds:.1f} s, {amount(speed)}/s")
