"""What lies where, how long a file may be, and what no file may hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from repository import PACKAGES, ROOT, parsed, python_files, tracked_files

LINES = 400
TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "actors",
    "docs",
    "kithara_actors",
    "pyproject.toml",
    "scripts",
    "tests",
    "tox.ini",
}
# A path that is right on one machine only. In an URL the same words follow a host name.
LOCAL_PATH = re.compile(rb"(?<![\w.~-])/(?:home|root|work|Users)/[\w.]")
# Which index packages come from is the business of whoever installs them.
REGISTRY = re.compile(rb"pypi\.(?:org|python)|pythonhosted\.org|npmjs\.(?:org|com)|--(?:extra-)?index-url")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=relative)
def test_file_is_one_idea(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= LINES


@pytest.mark.parametrize("path", python_files("tests"), ids=relative)
def test_tests_do_not_sleep(path: Path) -> None:
    assert sleeps(parsed(path)) == []


def sleeps(tree: ast.Module) -> list[int]:
    """Lines on which time.sleep is used or imported, under whatever name."""
    clocks = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="time", names=names) if any(alias.name == "sleep" for alias in names):
                found.append(node.lineno)
            case ast.Attribute(value=ast.Name(id=name), attr="sleep") if name in clocks:
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import time\ntime.sleep(1)", [2]),
        ("import time as clock\nwait = clock.sleep", [2]),
        ("from time import sleep as pause", [1]),
        ("import time\ntime.monotonic()\nevent.sleep()", []),
    ],
)
def test_sleeps_are_seen(source: str, lines: list[int]) -> None:
    assert sleeps(ast.parse(source)) == lines


def test_files_hold_nothing_of_one_machine() -> None:
    found = [
        f"{relative(path)}:{number}: {line.decode(errors='replace').strip()}"
        for path in tracked_files()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if LOCAL_PATH.search(line) or REGISTRY.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("see /{}/user/notes".format("home"), True),
        ("'/{}/.cache'".format("root"), True),
        ("https://example.org/{}/index".format("home"), False),
        ("the /{}/ directory".format("home"), False),
        ("~/.cache/kithara", False),
    ],
)
def test_local_paths_are_seen(text: str, held: bool) -> None:
    assert bool(LOCAL_PATH.search(text.encode())) is held


def test_top_level_is_the_agreed_one() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
