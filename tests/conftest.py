"""What holds for every test: nothing is left behind, and Hypothesis knows how hard to look."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from actors.testing import leaks

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "ci", deadline=None, print_blob=True, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", deadline=None, print_blob=True, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def _is_setting(name: str) -> bool:
    return name == "XDG_CONFIG_HOME" or (name.startswith("KITHARA_") and not name.startswith("KITHARA_TESTS_"))


def pytest_configure(config: pytest.Config) -> None:
    """Gives the run a temporary directory of its own, so that what appears in it was made by the run."""
    leaks.mark()
    # A shell's background job ignores some signals, and so would every process that a test means to end by one.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    # pytest keeps the last base directories for their reader: those stay where they would be.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    outer = os.environ.get("TMPDIR")
    scratch = tempfile.mkdtemp(prefix="kithara-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    # The settings of whoever runs the tests are theirs.
    before = {name: value for name, value in os.environ.items() if _is_setting(name)}
    for name in before:
        del os.environ[name]
    os.environ["XDG_CONFIG_HOME"] = str(Path(scratch) / "config")

    def restore() -> None:
        tempfile.tempdir = None
        if outer is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = outer
        del os.environ["XDG_CONFIG_HOME"]
        os.environ.update(before)
        shutil.rmtree(scratch, ignore_errors=True)

    config.add_cleanup(restore)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_by_the_run() -> Iterator[set[str]]:
    """Fails the run if a fixture of a wider scope leaks; yields what was blamed on single tests already."""
    before = leaks.snapshot()
    blamed: set[str] = set()
    yield blamed

    def known(line: str) -> bool:
        # pytest-timeout runs one timer a test, from before the test's first fixture to after its last.
        return line in blamed or line.startswith("thread 'pytest_timeout ")

    left = leaks.compare(before, ignore=known)
    if left:
        pytest.fail("the run left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def nothing_left_behind(nothing_left_by_the_run: set[str]) -> Iterator[None]:
    """Fails the test if it leaks a thread, a process, a descriptor, a name in /dev/shm or a temporary file.

    Fixtures of a wider scope are set up before this one, so what they hold is not the test's.
    """
    before = leaks.snapshot()
    yield
    left = leaks.compare(before)
    if left:
        nothing_left_by_the_run.update(left)
        pytest.fail("the test left behind:\n" + "\n".join(left), pytrace=False)
