"""Which versions are installed, against what the package asks for."""

from __future__ import annotations

import importlib.metadata as metadata
import operator
import re
from collections.abc import Callable, Iterable

from kithara_actors.command.checks.finding import Finding, State

__all__ = ["PACKAGE", "fits", "optional", "packages"]

PACKAGE = "kithara-actors"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*([^;]*?)\s*(?:;\s*(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_ORDER: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def packages() -> Finding:
    """The library and what it always needs."""
    version = _version(PACKAGE)
    if version is None:
        return Finding(
            "packages",
            State.NOTE,
            f"{PACKAGE} is not installed: it runs from its sources, and nothing says what it needs",
            "python -m pip install -e . in the folder of the sources",
        )
    return _judged("packages", _required(None), [f"{PACKAGE} {version}"], State.PROBLEM, f"pip install {PACKAGE}")


def optional(name: str) -> Finding:
    """What the extra `name` brings; none of it is needed by the rest."""
    return _judged(f"extra {name}", _required(name), [], State.NOTE, f"pip install '{PACKAGE}[{name}]'")


def fits(version: str, ranges: str) -> bool:
    """Whether `version` is within `ranges`, such as ">=1.4,<2". What follows its numbers is not looked at."""
    numbers = _numbers(version)
    for part in filter(None, (piece.strip() for piece in ranges.split(","))):
        sign, limit = part.rstrip("0123456789.").strip(), _numbers(part.lstrip("<>=! "))
        width = max(len(numbers), len(limit))
        if not _ORDER[sign](_padded(numbers, width), _padded(limit, width)):
            return False
    return True


def _judged(name: str, required: Iterable[tuple[str, str]], found: list[str], absent: State, command: str) -> Finding:
    missing, outside = [], []
    for package, ranges in required:
        version = _version(package)
        if version is None:
            missing.append(package)
        elif fits(version, ranges):
            found.append(f"{package} {version}")
        else:
            outside.append((package, version, ranges))
    parts = ([", ".join(found)] if found else []) + ([f"missing: {', '.join(missing)}"] if missing else [])
    parts += [f"{package} {version} is not {ranges}" for package, version, ranges in outside]
    finding = "; ".join(parts)
    if outside:
        wanted = " ".join(f"'{package}{ranges}'" for package, _, ranges in outside)
        return Finding(name, State.PROBLEM, finding, f"pip install {wanted}")
    if missing:
        return Finding(name, absent, finding, command)
    return Finding(name, State.OK, finding)


def _required(extra: str | None) -> list[tuple[str, str]]:
    """Names and version ranges of what the package, or one of its extras, needs."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        assert match is not None, line
        marker = _EXTRA.search(match[3] or "")
        if (None if marker is None else marker[1]) == extra:
            found.append((match[1], match[2]))
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return (0,) if match is None else tuple(int(part) for part in match[0].split("."))


def _padded(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return numbers + (0,) * (width - len(numbers))
