"""A test runs or is not there: what needs more than a plain machine carries a marker instead."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from repository import ROOT, parsed, python_files

WAYS_OUT = {
    "SkipTest",
    "exit",
    "expectedFailure",
    "importorskip",
    "skip",
    "skipIf",
    "skipUnless",
    "skipif",
    "xfail",
}
FRAMEWORKS = {"pytest", "unittest"}


def ways_out(tree: ast.Module) -> list[str]:
    """Each use of a skip or an expected failure, as `line: name`."""
    frameworks: set[str] = set()
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                frameworks |= {alias.asname or alias.name for alias in names if alias.name in FRAMEWORKS}
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in FRAMEWORKS:
                frameworks |= {alias.asname or alias.name for alias in names if alias.name == "mark"}
                found += [f"{node.lineno}: {alias.name}" for alias in names if alias.name in WAYS_OUT]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WAYS_OUT and origin(node) in frameworks:
            found.append(f"{node.lineno}: {node.attr}")
    return found


def origin(node: ast.expr) -> str | None:
    """The name that a chain of attributes starts from."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


@pytest.mark.parametrize("path", python_files("tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_is_skipped(path: Path) -> None:
    assert ways_out(parsed(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\npytest.skip('no')",
        "import pytest as p\n@p.mark.skipif(True, reason='')\ndef f(): ...",
        "from pytest import mark\nfail = mark.xfail",
        "from pytest import importorskip",
        "import unittest\nraise unittest.SkipTest",
    ],
)
def test_ways_out_are_seen(source: str) -> None:
    assert len(ways_out(ast.parse(source))) == 1


def test_other_uses_of_the_words_are_fine() -> None:
    assert ways_out(ast.parse("import pytest, sys\nreader.skip(3)\nsys.exit(1)\npytest.raises(OSError)")) == []
