"""The checks of `kithara doctor`, on machines that are not this one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kithara_actors.command.checks import children, machine, packages
from kithara_actors.command.checks.cache import cache, file_system
from kithara_actors.command.checks.finding import Finding, State, limited
from kithara_actors.command.checks.network import proxies, tls
from kithara_actors.command.checks.packages import fits
from kithara_actors.config import Config
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource


def test_check_that_hangs_is_left() -> None:
    gate, done = threading.Event(), threading.Event()

    def hang() -> Finding:
        gate.wait()
        done.set()
        return Finding("x", State.OK, "late")

    found = limited("x", hang, 0.01)
    assert (found.state, found.finding) == (State.PROBLEM, "no answer within 0.01 s")
    gate.set()
    assert done.wait(10)


def test_check_that_raises_is_a_problem() -> None:
    def fail() -> Finding:
        raise ValueError("that was it")

    found = limited("x", fail, 10)
    assert (found.state, found.finding) == (State.PROBLEM, "ValueError: that was it")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashed: SIGSEGV"),
        ("import os; os._exit(3)", "ended with status 3"),
        ("import signal; signal.pause()", "no answer within 2 s"),
    ],
)
def test_foreign_code_that_fails(code: str, said: str) -> None:
    assert children.ask(code, 2) == said


@pytest.mark.parametrize(
    ("check", "answer", "finding"),
    [
        (children.decoders, {"version": "1", "codecs": ["mp3", "flac"]}, "PyAV 1 decodes mp3, flac; not aac, alac,"),
        (children.decoders, {"missing": "no av"}, "PyAV cannot be imported: no av"),
        (children.mp4_index, {"failed": "TypeError: x"}, "pymp4 does not work: TypeError: x; there will be no index"),
        (children.mp4_index, "crashed: SIGSEGV", "pymp4 does not work: crashed: SIGSEGV; "),
        (children.sound, "no answer within 20 s", "miniaudio: no answer within 20 s"),
        (children.sound, {"failed": "MiniaudioError: x"}, "no sound system answers: MiniaudioError: x"),
        (children.sound, {"backend": "ALSA", "names": ["Discard all samples (playback)"]}, "no device for sound"),
    ],
)
def test_foreign_code_that_lacks_something(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[], Finding], answer: object, finding: str
) -> None:
    monkeypatch.setattr(children, "ask", lambda *_, **__: answer)
    found = check()
    assert found.state is State.NOTE
    assert found.finding.startswith(finding)
    assert found.remedy


def test_devices_for_sound_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"backend": "ALSA", "names": ["Discard all samples", "One", "Two", "Three", "Four", "Five"]}
    monkeypatch.setattr(children, "ask", lambda *_, **__: answer)
    assert children.sound() == Finding("sound", State.OK, "ALSA: One, Two, Three and 2 more")


def test_packages_that_are_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"kithara-actors": "1", "pykka": "4.5", "msgpack": "2.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise packages.metadata.PackageNotFoundError(name)
        return versions[name]

    wanted = ["pykka<5,>=4.4", "msgpack<2,>=1.1", 'av<19,>=14; extra == "play"']
    monkeypatch.setattr(packages.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(packages.metadata, "version", version)
    found = packages.packages()
    assert found.finding == "kithara-actors 1, pykka 4.5; msgpack 2.0 is not <2,>=1.1"
    assert (found.state, found.remedy) == (State.PROBLEM, "pip install 'msgpack<2,>=1.1'")
    assert packages.optional("play") == Finding(
        "extra play", State.NOTE, "missing: av", "pip install 'kithara-actors[play]'"
    )
    versions["av"] = "19.0"
    assert packages.optional("play").state is State.PROBLEM
    del versions["pykka"]
    versions["msgpack"] = "1.1"
    assert packages.packages().finding == "kithara-actors 1, msgpack 1.1; missing: pykka"
    assert packages.packages().state is State.PROBLEM
    del versions["kithara-actors"]
    assert packages.packages().state is State.NOTE


def test_kernel_and_python_that_are_not_fit() -> None:
    assert machine.system("5.4.0-generic").state is State.OK
    assert machine.system("5.3.18").state is State.PROBLEM
    assert machine.system("4.19").remedy == "Linux 5.4 or later is needed: update the kernel"
    assert machine.python("candidate").state is State.NOTE


@pytest.mark.parametrize(
    ("soft", "hard", "state"),
    [(255, 4096, "problem"), (256, 4096, "note"), (1023, -1, "note"), (1024, 4096, "ok"), (-1, -1, "ok")],
)
def test_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, state: str) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (soft, hard))
    found = machine.descriptors()
    assert found.state == state
    assert (found.remedy is None) is (state == "ok")


def group(root: Path, folder: str, version: int, limit: int, usage: int, cached: int) -> None:
    """A control group of that version, in a file tree made up."""
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True)
    (place / names[0]).write_text(f"{limit}\n")
    (place / names[1]).write_text(f"{usage}\n")
    (place / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


def machine_with(root: Path, mib: int, groups: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {mib * 1024} kB\n")
    (root / "proc/self/cgroup").write_text(groups)


def test_memory_of_the_machine(tmp_path: Path) -> None:
    machine_with(tmp_path, 8000, "0::/\n")
    found = machine.memory(Config(), tmp_path)
    assert (found.state, found.finding[:11]) == (State.OK, "8.4 GB free")
    assert machine.memory(Config(memory_limit=9000 * 1024**2), tmp_path).state is State.NOTE
    assert machine.memory(Config(memory_limit=9000 * 1024**2, cache_dir="/cache"), tmp_path).state is State.OK
    assert machine.memory(Config(workers=200), tmp_path).state is State.PROBLEM
    assert machine.memory(Config(), tmp_path / "nothing").state is State.NOTE


@pytest.mark.parametrize(("version", "folder", "line"), [(2, "a", "0::/a/b"), (1, "memory/a", "4:cpu,memory:/a/b")])
def test_memory_of_a_control_group(tmp_path: Path, version: int, folder: str, line: str) -> None:
    """The limit of an outer group counts, and what files take can be had back."""
    machine_with(tmp_path, 8000, f"3:cpu:/c\n{line}\n")
    group(tmp_path, folder, version, 400_000_000, 300_000_000, 200_000_000)
    group(tmp_path, f"{folder}/b", version, 1 << 62, 0, 0)
    found = machine.memory(Config(), tmp_path)
    assert found.finding.startswith("300.0 MB free within the limit of 400.0 MB that is set for this process")
    assert found.state is State.NOTE


def test_stream_costs_as_many_descriptors_as_the_doctor_says() -> None:
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        urls = [origin.add(f"/{number}.mp3", Resource(size=1000)) for number in range(9)]
        opened = []
        with system.open(urls[0]) as first:
            first.wait_complete(30)
            before = ours()
            for url in urls[1:]:
                opened.append(system.open(url))
                opened[-1].wait_complete(30)
            assert ours() - before == len(opened) * machine.STREAM_DESCRIPTORS
            for stream in opened:
                stream.close()


def ours() -> int:
    """Descriptors of streams: sockets and polls are the origin's, which shares the process."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            kind = str(entry.readlink())
        except OSError:  # the descriptor of this listing
            continue
        found += "memfd:kithara" in kind or "[eventfd]" in kind
    return found


# --- Cache, network, packages


def test_cache_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    before = tmp_path.stat()
    found = cache(Config(cache_dir=tmp_path / "a" / "b", max_bytes=1, min_free_bytes=0))
    assert found.state is State.OK
    assert ": writable, " in found.finding
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mode == before.st_mode
    assert cache(Config()).finding.startswith("none: ")


def test_cache_without_room(tmp_path: Path) -> None:
    assert cache(Config(cache_dir=tmp_path, max_bytes=1 << 60, min_free_bytes=0)).state is State.NOTE
    assert cache(Config(cache_dir=tmp_path, min_free_bytes=1 << 60)).state is State.PROBLEM


def test_file_system_of_a_path(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "22 21 0:5 / /srv/my\\040music rw shared:1 - nfs4 host:/music rw\n"
        "23 22 0:6 / /srv/my\\040music/new rw - tmpfs none rw\n"
        "24 23 0:7 / /srv/my\\040music/new rw - xfs /dev/sdb rw\n"
    )
    assert file_system(Path("/srv/my music/a"), mounts) == "nfs4"
    assert file_system(Path("/srv/my music/new"), mounts) == "xfs"
    assert file_system(Path("/srv/my"), mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "nothing") is None


def test_cache_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kithara_actors.command.checks.cache.file_system", lambda path: "fuse.sshfs")
    found = cache(Config(cache_dir=tmp_path, min_free_bytes=0, max_bytes=1))
    assert (found.state, found.remedy) == (State.NOTE, "set cache_dir to a directory on a disk")


def test_proxies_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxies(Config()).finding == "none"
    found = proxies(Config(proxies={"http": "http://p:1"}))
    assert found.state is State.PROBLEM
    assert "to the setting proxies" in str(found.remedy)
    own = {"http": "http://p:1", "http://localhost": "", "http://127.0.0.1": ""}
    assert proxies(Config(proxies=own)).state is State.NOTE
    assert proxies(Config(proxies={**own, "http://::1": ""})).state is State.OK


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert "public CAs" in tls(Config()).finding
    assert tls(Config(verify=False)).state is State.NOTE
    nothing = tmp_path / "nothing.pem"
    assert "verify names" in tls(Config(verify=str(nothing))).finding
    assert tls(Config(verify=str(tmp_path))).state is State.OK
    nothing.write_text("no certificate")
    assert tls(Config(verify=str(nothing))).state is State.PROBLEM
    assert tls(Config(cert=str(nothing))).state is State.PROBLEM
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(nothing))
    assert tls(Config()).finding.startswith("REQUESTS_CA_BUNDLE names ")


@pytest.mark.parametrize(
    ("version", "ranges", "held"),
    [
        ("1.4", ">=1.4,<2", True),
        ("1.4.0", ">=1.4,<2", True),
        ("2", "<2.0,>=1.4", False),
        ("1.10", ">=1.9", True),
        ("0.5.2rc1", "<0.6,>=0.5.2", True),
        ("1.3.9", ">=1.4,<2", False),
        ("3", "", True),
        ("1.5", "!=1.5", False),
    ],
)
def test_version_ranges(version: str, ranges: str, held: bool) -> None:
    assert fits(version, ranges) is held
