"""F20: a host that forks after its actors were started. The child gets an error at once and disturbs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("forked_family.py")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = PROGRAM.parent.parent.parent
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def test_f20_a_forked_child_finds_its_actors_dead_and_its_exit_disturbs_nothing() -> None:
    done = run("once")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 1), done.stderr  # the crash that it orders
    assert done.stdout.splitlines() == [
        "child: all is dead",
        "child ended: 0",
        "parent: 10 ok",
        "restarted: True",
        "stopped: []",
    ]


def test_f20_a_fork_while_every_lock_is_in_use_hangs_nowhere() -> None:
    done = run("races", "20")
    assert (done.returncode, done.stdout) == (0, "bad: 0\n"), done.stderr


@pytest.mark.races
def test_f20_two_hundred_forks_while_every_lock_is_in_use_hang_nowhere() -> None:
    done = run("races", "200")
    assert (done.returncode, done.stdout) == (0, "bad: 0\n"), done.stderr
