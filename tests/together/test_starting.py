"""`ActorSystem.start` in every kind of program, and what it says when it cannot."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_kit import FETCH, HANG, ROOT, run

import actors
import kithara_actors
from kithara_actors import ActorSystem
from kithara_actors.testing.origin import Origin, Resource

SIZE = 200_000
SERVED = (0, f"{SIZE}\n[]\n", "")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Origin() as origin:
        yield origin.add("/a.mp3", Resource(SIZE, seed=3))


def test_program_from_the_command_line(url: str) -> None:
    assert run(FETCH, url) == SERVED


def test_script_without_a_main_guard(tmp_path: Path, url: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(FETCH)
    assert run(script, url) == SERVED


def test_script_whose_folder_shadows_the_standard_library(tmp_path: Path, url: str) -> None:
    """What the host finds by accident the workers must find the same way: neither more nor less."""
    (tmp_path / "script.py").write_text(FETCH)
    (tmp_path / "helper.py").write_text("raise SystemExit('imported')")
    assert run(tmp_path / "script.py", url, cwd=tmp_path) == SERVED


def test_typed_into_an_interpreter(url: str) -> None:
    typed = FETCH.replace("sys.argv[1]", repr(url)).replace("\nprint(system", "\n\nprint(system")
    code, output, errors = run(None, typed=typed, flags=("-q", "-i"))
    assert (code, output) == (0, f"{SIZE}\n[]\n")
    assert errors.replace(">>> ", "").replace("... ", "").strip() == ""


def test_typed_at_a_terminal(url: str) -> None:
    mine, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    process = subprocess.Popen([sys.executable, "-q"], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    typed = FETCH.replace("sys.argv[1]", repr(url)).replace("\nprint(system", "\n\nprint(system") + "exit(5)\n"
    os.write(mine, typed.encode())
    seen = b""
    try:
        while chunk := os.read(mine, 65536):
            seen += chunk
    except OSError:  # the terminal is gone: EIO
        pass
    os.close(mine)
    assert process.wait(HANG) == 5, seen.decode()
    assert f"{SIZE}\r\n".encode() in seen
    assert b"[]\r\n" in seen


def test_in_a_module_that_pytest_imports(tmp_path: Path, url: str) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from kithara_actors import ActorSystem\n"
        "SYSTEM = ActorSystem.start(workers=1)\n"
        "def test_it():\n"
        f"    with SYSTEM, SYSTEM.open({url!r}) as stream:\n"
        f"        assert len(stream.read()) == {SIZE}\n"
    )
    code, output, _ = run(
        None, "-q", str(tmp_path), flags=("-m", "pytest", "-p", "no:cacheprovider"), env={"PYTEST_ADDOPTS": None}
    )
    assert code == 0, output


def test_from_a_thread_that_ends_before_the_system_does(url: str) -> None:
    code = """
import sys, threading
from kithara_actors import ActorSystem
made = []
thread = threading.Thread(target=lambda: made.append(ActorSystem.start(workers=1)))
thread.start()
thread.join()
with made[0] as system:
    before = system.workers()
    with system.open(sys.argv[1]) as stream:
        print(len(stream.read()))
    assert system.workers() == before, "the worker went with the thread"
print([])
"""
    assert run(code, url) == SERVED


def test_workers_outlive_the_thread_that_started_the_system(url: str) -> None:
    """The parent-death signal is tied to a thread: it must be one that stays."""
    made: list[ActorSystem] = []
    thread = threading.Thread(target=lambda: made.append(ActorSystem.start(workers=1)))
    thread.start()
    thread.join(HANG)
    with made[0] as system:
        before = system.workers()
        for number in range(3):
            with system.open(f"{url}?{number}") as stream:
                assert len(stream.read()) == SIZE
        assert system.workers() == before


def test_found_through_pythonpath_only(tmp_path: Path, url: str) -> None:
    assert run(FETCH, url, cwd=tmp_path, env={"PYTHONPATH": os.pathsep.join(["", str(ROOT), "relative"])}) == SERVED


def user_site(base: Path) -> Path:
    """The user site of the base interpreter, with what the packages need: a virtual environment has none."""
    folder = Path(sysconfig.get_path("purelib", "posix_user", {"userbase": str(base)}))
    folder.mkdir(parents=True)
    (folder / "needs.pth").write_text(str(Path(sysconfig.get_path("purelib"))) + "\n")
    return folder


def base_python() -> str:
    return str(getattr(sys, "_base_executable", sys.executable))


def test_found_through_the_user_site_only(tmp_path: Path, url: str) -> None:
    folder = user_site(tmp_path / "user")
    for package in (actors, kithara_actors):
        source = Path(package.__file__ or "").parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": None, "PYTHONUSERBASE": str(tmp_path / "user"), "PYTHONNOUSERSITE": None}
    where = "import actors; print(actors.__file__)"
    _, found, _ = run(where, python=base_python(), env=env)
    assert Path(found.strip()).is_relative_to(folder)
    assert run(FETCH, url, python=base_python(), env=env) == SERVED


def test_found_through_an_import_hook(tmp_path: Path, url: str) -> None:
    """As setuptools installs a package in editable mode: no entry of sys.path leads to it."""
    folder = user_site(tmp_path / "user")
    places = {name: str(ROOT / name / "__init__.py") for name in ("actors", "kithara_actors")}
    (folder / "editable_hook.py").write_text(
        "import sys\n"
        "from importlib.util import spec_from_file_location\n"
        f"PLACES = {places!r}\n"
        "class Finder:\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        if name in PLACES:\n"
        "            folder = PLACES[name].removesuffix('/__init__.py')\n"
        "            return spec_from_file_location(name, PLACES[name], submodule_search_locations=[folder])\n"
        "sys.meta_path.append(Finder)\n"
    )
    (folder / "editable.pth").write_text("import editable_hook\n")
    env = {"PYTHONPATH": None, "PYTHONUSERBASE": str(tmp_path / "user"), "PYTHONNOUSERSITE": None}
    _, entries, _ = run("import sys; print(sys.path)", python=base_python(), env=env)
    assert repr(str(ROOT)) not in entries
    assert run(FETCH, url, python=base_python(), env=env) == SERVED


def test_search_path_with_entries_that_imports_ignore(url: str) -> None:
    odd = "import sys, pathlib\nsys.path += [pathlib.Path('/odd'), b'/odd', None]\n"
    assert run(odd + FETCH, url) == SERVED


def test_working_directory_that_was_removed(url: str) -> None:
    # socket first: CPython 3.13.0 itself cannot import it from a working directory that is gone.
    gone = "import os, socket, tempfile\nfolder = tempfile.mkdtemp()\nos.chdir(folder)\nos.rmdir(folder)\n"
    assert run(gone + FETCH, url) == SERVED


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (0, 1, 2), (2,)])
def test_host_that_closed_its_standard_streams(tmp_path: Path, url: str, closed: tuple[int, ...]) -> None:
    """Their numbers are the next to be given out, to the channel of a worker too."""
    answer = tmp_path / "answer"
    code = f"import os\nfor fd in {closed!r}:\n    os.close(fd)\n" + FETCH.replace("print(", "said(")
    said = f"def said(what):\n    with open({str(answer)!r}, 'a') as file:\n        file.write(f'{{what}}\\n')\n"
    run(said + code, url, flags=("-W", "ignore"))
    assert answer.read_text() == SERVED[1]


def test_workers_obey_the_host_about_bytecode(tmp_path: Path, url: str) -> None:
    for package in (actors, kithara_actors):
        source = Path(package.__file__ or "").parent
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    assert run(FETCH, url, env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}) == SERVED
    assert list(tmp_path.rglob("*.pyc")) == []
    elsewhere = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(tmp_path / "cache")}
    assert run(FETCH, url, env={"PYTHONPATH": str(tmp_path), **elsewhere}) == SERVED
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.pyc")} == {"cache"}


def test_several_systems_in_one_process(url: str) -> None:
    with ActorSystem.start(workers=1) as one, ActorSystem.start(workers=1) as two:
        for system in (one, two):
            with system.open(url) as stream:
                assert len(stream.read()) == SIZE
        assert not set(one.workers().values()) & set(two.workers().values())
        assert one.stop() == []
        with two.open(f"{url}?again") as stream:
            assert len(stream.read()) == SIZE


def test_child_of_a_fork_is_told_so_and_disturbs_nothing(url: str) -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from kithara_actors import ActorSystem, SystemStopped
system = ActorSystem.start(workers=2)
before = system.workers()
child = os.fork()
if child == 0:
    try:
        system.open(sys.argv[1])
    except SystemStopped as error:
        assert system.stop() == []
        with ActorSystem.start(workers=1) as own, own.open(sys.argv[1]) as stream:
            sys.exit(len(stream.read()) % 251)
    os._exit(99)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 200_000 % 251, status
assert system.workers() == before
with system.open(sys.argv[1]) as stream:
    print(len(stream.read()))
print(system.stop())
"""
    assert run(code, url, flags=()) == SERVED


# --- How long it takes: the limits are four times what is promised on an idle machine, and a second at least


def timed(tmp_path: Path, code: str, after: str = "") -> float:
    """The best of five runs in seconds, after one that leaves the bytecode as an installed package has it."""
    clock = f"import time\nbegan = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)\n{after}"
    env = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    figures = []
    for _ in range(6):
        exit_code, output, errors = run(clock, flags=(), env=env)
        assert exit_code == 0, errors
        figures.append(float(output))
    return min(figures[1:])


def test_import_takes_little(tmp_path: Path) -> None:
    assert timed(tmp_path, "import kithara_actors; kithara_actors.ActorSystem") < 1.0


def test_start_takes_little(tmp_path: Path) -> None:
    code = "from kithara_actors import ActorSystem; system = ActorSystem.start()"
    assert timed(tmp_path, code, "system.stop()") < 4 * 0.500


def test_naming_the_class_loads_no_actors() -> None:
    code = "import kithara_actors, sys; kithara_actors.ActorSystem; print(*sys.modules)"
    loaded = set(run(code)[1].split())
    assert not loaded & {"pykka", "msgpack", "urllib3", "requests", "pymp4", "ssl", "kithara_actors.assembly"}
