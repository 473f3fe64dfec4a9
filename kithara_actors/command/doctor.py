"""`kithara doctor`: what of this machine, its packages and the settings would get in the way."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kithara_actors.command.checks import cache, children, machine, network, packages
from kithara_actors.command.checks.finding import Finding, State, limited
from kithara_actors.command.checks.network import shown_proxy
from kithara_actors.command.checks.working import working
from kithara_actors.command.explain import CommandError
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.settings import Setting, settings_files, settings_given
from kithara_actors.command.text import clean, filled, width, write_json, write_line
from kithara_actors.config import Config

__all__ = ["run"]

_LIMIT = 10.0
"""Seconds for a check that has no limit of its own."""
_LONGEST = 4000
_NARROW = 60
_NAMES = 13
_COLOURS = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "bold red"}


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Check everything, and return the exit status: 1 if there is a problem, else 0. Blocks for some seconds.

    Raises Interrupted, BrokenPipeError, and argparse.ArgumentTypeError for an empty --config.
    """
    show = _shower()
    found = []
    for finding in _findings(options, interrupts):
        found.append(finding)
        if not options.json:
            show(finding)
    well = all(finding.state is not State.PROBLEM for finding in found)
    if options.json:
        write_json({"checks": [_fields(finding) for finding in found], "ok": well})
    else:
        write_line("")
        write_line(_summary(found))
    return 0 if well else 1


def _findings(options: argparse.Namespace, interrupts: Interrupts) -> Iterator[Finding]:
    given: Mapping[str, Setting] = {"workers": Setting(1, "the command")}
    try:
        given = settings_given(options)
        yield _settings(options, given)
    except CommandError as error:
        yield Finding("settings", State.PROBLEM, str(error), "correct that; what follows is about the defaults")
    settings = {name: setting.value for name, setting in given.items()}
    config = Config(**settings)
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", machine.python),
        ("system", machine.system),
        ("packages", packages.packages),
        *((f"extra {name}", lambda name=name: packages.optional(name)) for name in ("play", "tags", "cli")),
        ("descriptors", machine.descriptors),
        ("memory", lambda: machine.memory(config)),
        ("cache", lambda: cache.cache(config)),
        ("proxies", lambda: network.proxies(config)),
        ("tls", lambda: network.tls(config)),
    )
    for name, check in checks:
        with interrupts.armed():
            finding = limited(name, check, _LIMIT)
        yield finding
    yield from working(settings, interrupts)
    for ask in (children.mp4_index, children.decoders, children.sound):
        with interrupts.armed():
            finding = ask()
        yield finding


def _settings(options: argparse.Namespace, given: Mapping[str, Setting]) -> Finding:
    sources: dict[str, list[str]] = {file: [] for file in settings_files(options)}
    for name, setting in given.items():
        if setting.source != "the command":
            sources.setdefault(setting.source, []).append(f"{name} = {_value(setting.value)}")
    parts = [f"{source}: {', '.join(names) or 'sets nothing'}" for source, names in sources.items()]
    return Finding("settings", State.OK, "; ".join(parts) or "none set: all is as the library has it")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scheme}: {shown_proxy(proxy)}" for scheme, proxy in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _summary(found: list[Finding]) -> str:
    problems = sum(finding.state is State.PROBLEM for finding in found)
    notes = sum(finding.state is State.NOTE for finding in found)
    if not problems and not notes:
        return "All is well."
    said = [_counted(problems, "problem")] if problems else ["No problem"]
    return ", ".join(said + ([_counted(notes, "note")] if notes else [])) + "."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# --- Showing


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "state": finding.state.value,
        "finding": _line(finding.finding),
        "remedy": None if finding.remedy is None else _line(finding.remedy),
    }


def _shower() -> Callable[[Finding], None]:
    """Writes a finding: wrapped in a terminal, with colours where rich (extra `cli`) is there; else in whole lines."""
    if sys.stdout is None or not sys.stdout.isatty():
        return lambda finding: write_line("\n".join(_rows(finding, None)))
    paint = _painter()

    def show(finding: Finding) -> None:
        first, *rest = _rows(finding, width())
        mark = str(finding.state)
        write_line(paint(mark, finding.state) + "\n".join((first.removeprefix(mark), *rest)))

    return show


def _rows(finding: Finding, columns: int | None) -> list[str]:
    """The lines of a finding; for None columns one for what was found, and one for what to do."""
    head = f"{finding.state:<8}{finding.name:<{_NAMES}}"
    texts = [_line(finding.finding)] + ([] if finding.remedy is None else [f"-> {_line(finding.remedy)}"])
    if columns is None:
        return [head + texts[0]] + [" " * len(head) + text for text in texts[1:]]
    if columns < _NARROW:
        indent = " " * 2
        return [head.rstrip()] + [line for text in texts for line in _filled(text, columns, indent)]
    indent = " " * len(head)
    lines = [line for text in texts for line in _filled(text, columns, indent)]
    return [head + lines[0].removeprefix(indent), *lines[1:]]


def _filled(text: str, columns: int, indent: str) -> list[str]:
    return filled(text, columns, indent, indent)


def _painter() -> Callable[[str, State], str]:
    if os.environ.get("TERM", "") in ("", "dumb", "unknown") or os.environ.get("NO_COLOR"):
        return lambda text, _: text
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return lambda text, _: text
    console = Console(force_terminal=True, highlight=False)

    def paint(text: str, state: State) -> str:
        with console.capture() as captured:
            console.print(Text(text, _COLOURS[state]), end="")
        return captured.get()

    return paint


def _line(text: str) -> str:
    """`text` as one line, with nothing in it that a terminal would obey."""
    return clean(text, _LONGEST)
