"""`.ci/run` runs lanes side by side: a few tests that failed there run once more, alone, and that counts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import ROOT

pytestmark = pytest.mark.long

PASSES = "def test_fine(): pass\n"
FAILS = "def test_sum():\n    wrong = 3\n    assert 1 + 1 == wrong, 'so it is'\n"
# Something else is in the way at first: so says a file, and no test depends on who is faster.
KIT = """
import pathlib, unittest

def be_quick(name):
    busy = pathlib.Path(f"busy {name}")
    was = busy.exists()
    busy.touch()
    assert was, "too much to do"

class Base(unittest.TestCase):
    def runTest(self):
        be_quick("base")
"""
ONCE = """
import kit, pytest

@pytest.mark.parametrize("given", ["a  b::c[d]", "e|f 'g'", "\\u00e9\\x1b"])
class TestSlow:
    def test_load(self, given):
        kit.be_quick(given.encode().hex())

class TestInherited(kit.Base):
    pass

def test_fine(): pass

@pytest.mark.left
def test_left_out(): assert False
"""
MANY = "import pytest\n@pytest.mark.parametrize('number', range(4))\ndef test_four(number): assert False\n"
AT_THE_END = "import pytest\n@pytest.fixture(autouse=True)\ndef given():\n    yield\n    assert False, 'put away'\n"


@dataclass
class Ended:
    """What lanes, and what ran after them, came to."""

    again: str
    """The lane that was to run alone; empty if none was."""
    status: int
    told: str


class Desk:
    """`.ci` in a folder whose tests are in `tests/RUN/`, with one interpreter, that writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = folder / "left"
        """What `.ci/run` has as a folder for what is left by its runs."""
        python = self.left / "venv-any" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho "$HYPOTHESIS_PROFILE $*" >>"{folder}/ran"\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = left\n")

    def run(self, name: str, source: str) -> str:
        """A line of a lane."""
        tests = self.folder / "tests" / name
        tests.mkdir(parents=True)
        (tests / f"test_{name}.py").write_text(source)
        (tests / "kit.py").write_text(KIT)
        return f"{name}|any|few|python -m pytest -o testpaths=tests/{name} -m 'not left'"

    def carry_out(self, *lanes: str) -> Ended:
        """As in `.ci/run`."""
        self._call(".ci/lanes", *lanes)
        done = self._call(".ci/again.py", *lanes)
        again = done.stdout.removesuffix("\n")
        assert done.stderr == ""
        assert done.returncode == (0 if again else 1)
        if again:
            self._call(".ci/lanes", again)
        names = [line.partition("|")[0] for each in lanes for line in each.splitlines()]
        summary = self._call(".ci/summary.py", *names)
        assert summary.stderr == ""
        return Ended(again, summary.returncode, summary.stdout)

    def calls(self) -> list[str]:
        """What the interpreter was called with, behind the profile of Hypothesis."""
        return (self.folder / "ran").read_text().splitlines()

    def _call(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [*([sys.executable] if script.endswith(".py") else []), ROOT / script, self.left, *arguments],
            cwd=self.folder,
            env=outer | plain,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_fails_beside_other_work_and_passes_alone_is_told_and_lets_the_run_pass(desk: Desk) -> None:
    ended = desk.carry_out(desk.run("good", PASSES), desk.run("late", ONCE))
    assert ended.status == 0
    runs, heading, alone = ended.told.partition("\n== failed beside other work, passed alone\n")
    assert "\ngood: 1 tests in " in runs
    assert "\nlate: 5 tests in " in runs
    assert runs.endswith(", 4 failure\n")
    assert heading
    assert alone.count("    E       AssertionError: too much to do\n") == 4
    for name in ("TestInherited.runTest", "TestSlow.test_load[a  b::c[d]]"):
        assert alone.count(f"  late: tests.late.test_late.{name}: failure after ") == 1
    assert alone.count(" s, then passed in ") == 4
    assert "test_fine" not in ended.told


def test_what_runs_alone_runs_as_it_did_and_nothing_with_it(desk: Desk) -> None:
    lane = desk.run("late", ONCE)
    ended = desk.carry_out(lane)
    assert ended.again.startswith(lane.replace("late|", "late-again|", 1) + " @")
    calls = desk.calls()
    assert len(calls) == 2
    assert calls[0] == "few -m pytest -o testpaths=tests/late -m not left"
    assert calls[1].startswith(f"{calls[0]} @")
    assert "collected 4 items\n" in (desk.left / "log-late-again").read_text()


def test_runs_of_several_lanes_run_alone_one_after_the_other(desk: Desk) -> None:
    one, two, three = (
        desk.run(name, f"import kit\ndef test_it(): kit.be_quick('{name}')\n") for name in ("a", "b", "c")
    )
    ended = desk.carry_out(f"{one}\n{two}", three)
    assert ended.status == 0
    assert [line.partition("|")[0] for line in ended.again.splitlines()] == ["a-again", "b-again", "c-again"]
    assert ended.told.count("then passed in") == 3


def test_what_fails_alone_too_fails_the_run(desk: Desk) -> None:
    ended = desk.carry_out(desk.run("late", ONCE + FAILS))
    assert ended.status == 1
    assert "passed alone" not in ended.told
    first, _, alone = ended.told.partition("\nlate-again: 5 tests in ")
    assert first.count("  FAILURE tests.late.test_late.") == 5
    assert alone.count("  FAILURE tests.late.test_late.test_sum\n    E       AssertionError: so it is\n") == 1
    assert alone.count("FAILURE") == 1


def test_what_breaks_when_it_is_put_away_counts_once_though_reported_twice(desk: Desk) -> None:
    ended = desk.carry_out(desk.run("late", AT_THE_END + MANY))
    assert ended.status == 1
    assert "4 failure, 4 error\n" in ended.told
    assert "\nlate-again: 8 tests in " in ended.told


def test_more_than_a_few_fail_at_once(desk: Desk) -> None:
    ended = desk.carry_out(desk.run("late", ONCE), desk.run("bad", FAILS), desk.run("worse", FAILS))
    assert (ended.again, ended.status) == ("", 1)
    assert len(desk.calls()) == 3


def test_nothing_runs_again_where_nothing_failed(desk: Desk) -> None:
    ended = desk.carry_out(desk.run("good", PASSES))
    assert (ended.again, ended.status) == ("", 0)


@pytest.mark.parametrize(
    "source",
    [
        "import nothing_there\n",
        "import os\ndef test_it(): os._exit(1)\n",
        "def test_it(): raise KeyboardInterrupt\n",
        FAILS + "import pytest\n@pytest.mark.skip(reason='')\ndef test_hard(): pass\n",
        FAILS + "import atexit, os\natexit.register(os._exit, 3)\n",
        "",
    ],
    ids=["not collected", "died", "interrupted", "skipped", "bad end", "nothing tested"],
)
def test_what_is_no_failed_test_fails_at_once(desk: Desk, source: str) -> None:
    ended = desk.carry_out(desk.run("bad", FAILS), desk.run("worse", source))
    assert (ended.again, ended.status) == ("", 1)


def test_what_the_run_left_behind_fails_at_once(desk: Desk) -> None:
    """No test alone did it, though pytest blames the last one."""
    lane = desk.run(
        "late",
        "import pathlib, pytest, tempfile\n"
        "@pytest.fixture(scope='session')\n"
        "def shared(nothing_left_by_the_run):\n"
        "    yield\n"
        "    pathlib.Path(tempfile.gettempdir(), 'left').touch()\n"
        "def test_it(shared): pass\n",
    )
    (desk.folder / "tests" / "late" / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    ended = desk.carry_out(lane)
    assert (ended.again, ended.status) == ("", 1)
    assert "  ERROR tests.late.test_late.test_it\n    the run left behind:\n" in ended.told
