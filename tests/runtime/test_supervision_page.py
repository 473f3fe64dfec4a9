"""docs/supervision.md is true: its programs print what it says, its tables are those of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from state_tables import child_table, restart_table, supervisor_table

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "supervision.md"
TEXT = PAGE.read_text(encoding="utf-8")


def run(*arguments: str, program: str | None = None) -> str:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=program,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_its_programs_print_what_it_says() -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text"] * 3
    program = "".join(text for kind, text in blocks if kind == "python")
    assert run("-", program=program) == "".join(text for kind, text in blocks if kind == "text")


@pytest.mark.parametrize(
    ("name", "table"), [("restart", restart_table), ("child", child_table), ("supervisor", supervisor_table)]
)
def test_its_tables_are_those_of_the_code(name: str, table) -> None:  # type: ignore[no-untyped-def]
    """Where one fails, `python tests/runtime/state_tables.py` prints what belongs there."""
    assert f"<!-- {name} table -->\n{table()}\n\n" in TEXT


def test_the_example_runs() -> None:
    lines = run(str(ROOT / "docs" / "examples" / "supervised.py")).splitlines()
    assert lines[0] == "before: Total(number=4)"
    assert lines[-1] == "health: failed it has been stopped"
    assert "after: Total(number=2)" in lines


def test_it_can_be_found() -> None:
    assert "supervision.md" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert "Supervision: supervision.md" in (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
