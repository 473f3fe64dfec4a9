"""The settings of a command's system: what its options, the environment and files say, in this order of weight.

The names are those of `Config`. Nothing here loads the parts of a system: it is done before each command.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import stat
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kithara_actors.command.explain import CommandError
from kithara_actors.command.setting_values import FOR_PYTHON_ONLY, SETTABLE, from_file, from_text
from kithara_actors.config import Config
from kithara_actors.logic.naming import check_headers, redact_source
from kithara_actors.system import check_supported

__all__ = [
    "FILE",
    "PREFIX",
    "Setting",
    "request_headers",
    "settings_files",
    "settings_given",
    "system_settings",
    "user_file",
]

FILE = "kithara.toml"
_HERE = f"./{FILE}"
PREFIX = "KITHARA_"
_NOT_SETTINGS = re.compile(r"KITHARA_(?:CONFIG|TESTS_.*|PORT|PORT_.*|SERVICE_.*)")
"""Besides ours: Kubernetes tells every container about a service named kithara under such names."""
_LIMIT = 1024 * 1024
"""Bytes of a settings file."""
_ASKED = "import sys; print(sys.version_info >= (3, 11))"
_PATIENCE = 10.0
_NOT_FROM_HERE = ("allow_downgrade", "cache_dir", "cert", "proxies", "record", "verify", "worker_python")
"""A `kithara.toml` may come with somebody else's directory: it may not run a program, weaken or redirect
connections, or choose where is written."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for a field of `Config`; `source` is the file, variable or option that it comes from."""

    value: Any
    source: str


def system_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `ActorSystem.start`. Reads files and tries the setting `worker_python`; blocks no longer
    than that takes, at most ten seconds.

    Raises CommandError that names the source of a setting which is wrong or which this version does not support, and
    argparse.ArgumentTypeError for an empty --config.
    """
    given = settings_given(options)
    if (python := given.get("worker_python")) is not None:
        _try_python(str(python.value), python.source)
    return {name: setting.value for name, setting in given.items()}


def settings_given(options: argparse.Namespace) -> dict[str, Setting]:
    """The same with the source of each; only what differs from the library's defaults by someone's will."""
    given = {"workers": Setting(1, "the command")}
    given |= _from_files(options)
    given |= _from_environment()
    given |= _from_options(options, given)
    _check(given)
    return given


def request_headers(options: argparse.Namespace) -> dict[str, str]:
    """The headers of `--header`. Raises argparse.ArgumentTypeError, which shows no value: it may be a credential."""
    headers: dict[str, str] = {}
    for text in options.headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise argparse.ArgumentTypeError("a header is written 'Name: value'")
        if not value:
            # Without the quotes its value would be taken for what is to be opened, and be named as such.
            raise argparse.ArgumentTypeError(f"the header {name.strip()!r} has no value: write 'Name: value' in quotes")
        if name.strip() in headers:
            raise argparse.ArgumentTypeError(f"the header {name.strip()!r} is given twice")
        headers[name.strip()] = value.strip()
    try:
        return check_headers(headers)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def user_file() -> Path:
    """Where the user's own settings are, whether or not they exist."""
    try:
        # Part of the extra `cli`; what it does beyond the lines below concerns other systems than Linux.
        import platformdirs
    except ImportError:
        base = os.environ.get("XDG_CONFIG_HOME", "").strip() or os.path.expanduser("~/.config")  # noqa: PTH111 - no error
        return Path(base) / "kithara" / FILE
    return platformdirs.user_config_path("kithara") / FILE


def _from_options(options: argparse.Namespace, given: dict[str, Setting]) -> dict[str, Setting]:
    found = {}
    if getattr(options, "workers", None) is not None:
        found["workers"] = Setting(options.workers, "--workers")
    if getattr(options, "retries", None) is not None:
        found["max_retries"] = Setting(options.retries, "--retries")
    if getattr(options, "timeout", None) is not None:
        found["inactivity_timeout"] = Setting(options.timeout, "--timeout")
        if "connect_timeout" not in given:
            found["connect_timeout"] = Setting(min(Config().connect_timeout, options.timeout), "--timeout")
    if getattr(options, "insecure", False):
        found["verify"] = Setting(False, "--insecure")
    return found


# --- The environment


def _from_environment() -> dict[str, Setting]:
    found = {}
    for variable in sorted(os.environ):
        if not variable.startswith(PREFIX) or _NOT_SETTINGS.fullmatch(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if variable != PREFIX + name.upper() or name not in SETTABLE:
            raise CommandError(_unknown(variable, "the environment", name, lambda known: PREFIX + known.upper()))
        text = os.environ[variable]
        if not text.strip():
            continue
        try:
            found[name] = Setting(from_text(name, text), variable)
        except ValueError as error:
            raise CommandError(f"{variable}: {error}") from None
    return found


# --- Files


def settings_files(options: argparse.Namespace) -> list[str]:
    """The files that settings are read from, the weightier later. Raises argparse.ArgumentTypeError."""
    named = getattr(options, "config", None)
    if named == "":
        raise argparse.ArgumentTypeError("the FILE of --config is empty")
    if named is None and (variable := os.environ.get("KITHARA_CONFIG", "").strip()):
        named = os.path.expanduser(variable)  # noqa: PTH111 - stays as it is where no home is known
    if named is not None:
        return [str(named)]
    own, here = user_file(), Path(FILE)
    return [str(path) for path in (own, _HERE) if _visible(Path(path))][: 1 if _same(own, here) else 2]


def _from_files(options: argparse.Namespace) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for file in settings_files(options):
        added = _from_file(file)
        for name in _NOT_FROM_HERE if file == _HERE else ():
            if name in added:
                raise CommandError(
                    f"{file}: {name} is not taken from the current directory, which may be somebody else's: put it "
                    f"into {user_file()} or {PREFIX}{name.upper()}, or name the file with --config"
                )
        found |= added
    return found


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _from_file(shown: str) -> dict[str, Setting]:
    try:
        values = tomllib.loads(_text(Path(shown)))
    except OSError as error:
        raise CommandError(
            f"{shown}: the settings cannot be read: {error.strerror}; name another file with --config or KITHARA_CONFIG"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{shown}: is not UTF-8 text (line {line})") from None
    except RecursionError:
        raise CommandError(f"{shown}: is nested too deep") from None
    except ValueError as error:
        raise CommandError(f"{shown}: is not TOML: {error}") from None
    return {name: _setting(name, value, shown) for name, value in values.items()}


def _setting(name: str, value: Any, shown: str) -> Setting:
    if name not in SETTABLE:
        raise CommandError(_unknown(name, shown, name, str, table=isinstance(value, dict)))
    try:
        return Setting(from_file(name, value), shown)
    except ValueError as error:
        raise CommandError(f"{shown}: {error}") from None


def _visible(path: Path) -> bool:
    """Whether there is such a file, as far as this user may know."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return True


def _text(path: Path) -> str:
    """The content of a settings file. Raises OSError, ValueError; never waits, as for who writes to a pipe."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file")
        data = b""
        while len(data) <= _LIMIT and (piece := os.read(fd, _LIMIT)):
            data += piece
    finally:
        os.close(fd)
    if len(data) > _LIMIT:
        raise OSError(0, "it is too large")
    return data.decode("utf-8-sig")


# --- What is wrong


def _check(given: dict[str, Setting]) -> None:
    values = {name: setting.value for name, setting in given.items()}
    problem = _problem(values)
    if problem is None:
        return
    # Config names the fields it speaks of, before it shows what it was given.
    named = re.findall(r"\w+", re.split(r", | not ", problem)[0])
    sources = dict.fromkeys(given[name].source for name in named if name in given)
    raise CommandError(f"{' and '.join(sources) or 'settings'}: {problem}")


def _try_python(python: str, source: str) -> None:
    """Raises CommandError for a program that is no such Python: each worker would say so in words of its own."""
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", _ASKED],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        problem = None if done.stdout.strip() == b"True" else "is no Python 3.11 or later"
    except OSError as error:
        problem = f"cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        problem = f"gives no answer within {_PATIENCE:g} s"
    if problem is not None:
        raise CommandError(f"{source}: worker_python {python} {problem}; name a Python interpreter, or leave it out")


def _problem(values: dict[str, Any]) -> str | None:
    try:
        check_supported(Config(**values))
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _unknown(written: str, where: str, name: str, spelt: Any, *, table: bool = False) -> str:
    if name in FOR_PYTHON_ONLY:
        return f"{where}: {written} is a function: it can be set in Python only"
    near = _nearest(name, SETTABLE)
    if near is not None:
        return f"{where}: there is no setting {written}; did you mean {spelt(near)}?"
    if table:
        return f"{where}: settings are written at the top level, not in a table: take [{written}] out"
    shown = redact_source(written)
    return f"{where}: there is no setting {shown}; settings are named as the fields of kithara_actors.Config are"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1)), None)
