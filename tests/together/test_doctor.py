"""`kithara doctor` as its users see it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kithara_actors", "doctor"]
NAMES = [
    "settings",
    "python",
    "system",
    "packages",
    "extra play",
    "extra tags",
    "extra cli",
    "descriptors",
    "memory",
    "cache",
    "proxies",
    "tls",
    "workers",
    "parsing",
    "mp4",
    "decoders",
    "sound",
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of the developer's settings, proxies and certificates."""
    foreign = ("KITHARA_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA", "CURL_CA", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path / "own")}


def doctor(environment: dict[str, str], folder: Path, *arguments: str, **settings: Any) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        **settings,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def checks(environment: dict[str, str], folder: Path, *arguments: str, **settings: Any) -> dict[str, dict[str, Any]]:
    """The checks by name; the shape of the whole, and the exit status, are looked at."""
    status, text = doctor(environment, folder, "--json", *arguments, **settings)
    whole = json.loads(text)
    assert set(whole) == {"checks", "ok"}
    assert [check["name"] for check in whole["checks"]] == NAMES
    for check in whole["checks"]:
        assert set(check) == {"name", "state", "finding", "remedy"}
        assert check["state"] in ("ok", "note", "problem")
        assert check["finding"].isprintable()
        assert (check["remedy"] is None) == (check["state"] == "ok")
    assert whole["ok"] is (status == 0) is all(check["state"] != "problem" for check in whole["checks"])
    return {check["name"]: check for check in whole["checks"]}


# --- The command


def test_healthy_machine(environment: dict[str, str], tmp_path: Path) -> None:
    # The folder may be somebody else's, and what lies there must not run.
    (tmp_path / "miniaudio.py").write_text("open('was-run', 'w')\n")
    found = checks(environment, tmp_path)
    assert {name for name, check in found.items() if check["state"] == "problem"} == set()
    assert found["settings"]["finding"] == "none set: all is as the library has it"
    assert "1 worker ready after" in found["workers"]["finding"]
    assert "was understood" in found["parsing"]["finding"]
    assert "msgpack 1." in found["packages"]["finding"]
    assert "mp3, flac, aac, alac, vorbis, opus" in found["decoders"]["finding"]
    assert [path.name for path in tmp_path.iterdir()] == ["miniaudio.py"]


def test_plain_text_is_a_line_for_each_finding(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "kithara.toml").write_text("workers = 2\n")
    status, text = doctor({**environment, "COLUMNS": "40"}, tmp_path)
    assert status == 0
    lines = text.splitlines()
    assert lines[0] == "ok      settings     ./kithara.toml: workers = 2"
    heads = [line for line in lines[:-2] if not line.startswith(" " * 21 + "-> ")]
    assert [line[8:21].strip() for line in heads] == NAMES
    assert "\x1b" not in text
    assert lines[-2] == ""
    assert lines[-1].startswith("No problem, ") or lines[-1] == "All is well."
    assert any("2 workers ready" in line for line in lines)


def test_settings_are_told_without_secrets(environment: dict[str, str], tmp_path: Path) -> None:
    variables = {
        "KITHARA_PROXIES": '{"https": "http://user:s3cret@proxy:3128", "http://127.0.0.1": ""}',
        "KITHARA_MAX_RETRIES": "2",
        "http_proxy": "http://user:s3cret@other:3128",
        "no_proxy": "localhost,127.0.0.1,::1",
    }
    (tmp_path / "kithara.toml").write_text("")
    status, text = doctor({**environment, **variables}, tmp_path, "--json")
    found = {check["name"]: check for check in json.loads(text)["checks"]}
    assert status == 0, text
    assert "s3cret" not in text
    assert found["settings"]["finding"] == (
        "./kithara.toml: sets nothing; KITHARA_MAX_RETRIES: max_retries = 2; "
        "KITHARA_PROXIES: proxies = {https: http://…@proxy:3128, http://127.0.0.1: }"
    )
    assert found["proxies"]["finding"] == (
        "http through http://…@other:3128, https through http://…@proxy:3128; "
        "not for localhost,127.0.0.1,::1 (no_proxy)"
    )


def test_no_part_of_a_proxy_password_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    variables = {
        "KITHARA_PROXIES": '{"http": "http:/user:pw/one@proxy", "http://127.0.0.1": "http://u:#pw@two@proxy:1"}',
        "HTTPS_PROXY": "http://user:pw/7@proxy:3128",
    }
    _, text = doctor({**environment, **variables}, tmp_path, "--json")
    found = {check["name"]: check for check in json.loads(text)["checks"]}
    assert "pw" not in text
    assert "{http: http:/…@proxy, http://127.0.0.1: http://…@proxy:1}" in found["settings"]["finding"]
    assert "https through http://…@proxy:3128" in found["proxies"]["finding"]


def test_memory_limit_that_holds_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    found = checks({**environment, "KITHARA_MEMORY_LIMIT": "10000"}, tmp_path)
    assert found["workers"]["state"] == "problem"
    assert found["workers"]["remedy"].startswith("raise memory_limit, which is 10,000 bytes")


def test_few_descriptors(environment: dict[str, str], tmp_path: Path) -> None:
    found = checks(environment, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (99, 1000)))
    assert found["descriptors"]["state"] == "problem"
    assert "limit 99 (hard limit 1,000), for about 7 open streams" in found["descriptors"]["finding"]
    assert found["descriptors"]["remedy"].startswith("ulimit -n 1000 before the command, LimitNOFILE=4096 ")
    assert found["workers"]["state"] == "ok"


def test_too_few_descriptors_to_work(environment: dict[str, str], tmp_path: Path) -> None:
    found = checks(environment, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)))
    assert found["descriptors"]["remedy"] == "LimitNOFILE=4096 in a systemd unit"
    assert (found["workers"]["state"], found["parsing"]["state"]) == ("problem", "note")
    assert "Too many open files" in found["workers"]["finding"]


def test_cache_that_cannot_be_written_and_workers_that_do_not_start(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    variables = {"KITHARA_CACHE_DIR": str(tmp_path / "file" / "cache"), "KITHARA_WORKER_PYTHON": "/bin/false"}
    found = checks({**environment, **variables}, tmp_path)
    assert found["cache"]["state"] == found["workers"]["state"] == "problem"
    assert found["cache"]["finding"] == f"{tmp_path}/file/cache: Not a directory"
    assert "WorkerStartError: cannot start worker processes with '/bin/false'" in found["workers"]["finding"]
    assert "check worker_python" in found["workers"]["remedy"]


def test_broken_settings_are_a_problem_and_the_rest_goes_on(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "kithara.toml").write_text("workers = 2\nworkers\n")
    found = checks(environment, tmp_path)
    assert found["settings"]["state"] == "problem"
    assert found["settings"]["finding"].startswith("./kithara.toml: is not TOML: ")
    assert "line 2" in found["settings"]["finding"]
    assert "1 worker ready" in found["workers"]["finding"]


def test_proxy_before_this_machine_itself(environment: dict[str, str], tmp_path: Path) -> None:
    found = checks({**environment, "http_proxy": "http://127.0.0.1:9"}, tmp_path)
    assert found["proxies"]["state"] == "problem"
    assert "this machine itself (localhost, 127.0.0.1, [::1]) through" in found["proxies"]["finding"]
    assert "no_proxy" in found["proxies"]["remedy"]
    assert found["workers"]["state"] == "ok"


def test_extras_that_cannot_be_imported(environment: dict[str, str], tmp_path: Path) -> None:
    stub = tmp_path / "stub"
    stub.mkdir()
    for name in ("miniaudio", "av", "platformdirs", "rich"):
        (stub / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    found = checks({**environment, "PYTHONPATH": f"{stub}:{ROOT}"}, tmp_path)
    assert (found["sound"]["state"], found["decoders"]["state"]) == ("note", "note")
    assert found["sound"]["finding"] == "miniaudio cannot be imported: no miniaudio here"
    assert "pip install 'kithara-actors[play]'" in found["sound"]["remedy"]
    assert "pip install 'kithara-actors[play]'" in found["decoders"]["remedy"]


# --- In a terminal


def in_terminal(environment: dict[str, str], folder: Path, columns: int) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(COMMAND, env=environment, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: the last who had the other end open has closed it
                break
            text += piece
        return process.wait(60), text.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_terminal_gets_colours(environment: dict[str, str], tmp_path: Path) -> None:
    status, text = in_terminal({**environment, "TERM": "xterm"}, tmp_path, 80)
    assert status == 0, text
    assert "\x1b[32mok\x1b[0m      settings     none set" in text
    assert max(len(line.replace("\x1b[32m", "").replace("\x1b[0m", "")) for line in text.splitlines()) <= 80


def test_narrow_terminal_without_colours(environment: dict[str, str], tmp_path: Path) -> None:
    status, text = in_terminal({**environment, "TERM": "xterm", "NO_COLOR": "1"}, tmp_path, 40)
    assert status == 0, text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[:3] == ["ok      settings", "  none set: all is as the library has it", "ok      python"]
    assert max(map(len, lines)) <= 40
