"""F21 with the media system: programs that end without `stop` end soon, with their own status, and leave nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_kit import run
from leaving_kit import SCENES, START, serving


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving() as url:
        yield url


ENDS = {
    "main returns": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "exception": ("raise KeyError('mine')", 1, "KeyError: 'mine'"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("scene", SCENES)
def test_f21_exit_without_stop(base: str, scene: str, end: str) -> None:
    code, status, last = ENDS[end]
    exit_code, output, errors = run(START + SCENES[scene] + code, base)
    assert (exit_code, output) == (status, "")
    if last:
        assert errors.strip().splitlines()[-1] == last
        assert errors.count("Traceback") == 1
    else:
        assert errors == ""


def test_f21_exit_waits_for_a_thread_that_still_reads(base: str) -> None:
    """Python joins threads that are not daemons before it ends: what they read must keep coming."""
    code = """
stream = system.open(base + "/slow")
def finish():
    with stream:
        print(len(stream.read(150_000)))
threading.Thread(target=finish).start()
"""
    assert run(START + code, base) == (0, "150000\n", "")


def test_f21_exit_while_another_thread_starts_a_system(base: str) -> None:
    code = """
import threading
from kithara_actors import ActorSystem
from kithara_actors.assembly import Assembly
started = threading.Event()
wait_ready = Assembly.start
def announce(self):
    started.set()
    return wait_ready(self)
Assembly.start = announce
threading.Thread(target=ActorSystem.start, daemon=True).start()
started.wait()
"""
    assert run(code, flags=()) == (0, "", "")


def test_f21_part_that_gives_up_while_the_interpreter_ends(base: str) -> None:
    """Exit handlers may not start threads on every version: the system must end on one that exists."""
    code = """
import atexit, pykka
@atexit.register
def end_actors():
    pykka.ActorRegistry.stop_all()
    print(system.wait(30), system.stop())
"""
    assert run(START + SCENES["downloading"] + code, base) == (0, "True []\n", "")
