"""Settings of the command: which source wins, what may be written, and that what is wrong is named with its place."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kithara_actors.command.explain import CommandError
from kithara_actors.command.settings import settings_files, settings_given, system_settings
from kithara_actors.testing.origin import Fault, Origin, Resource

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Places:
    """A working directory and a user's folder with nothing in them."""

    here: Path
    own: Path

    @property
    def user_file(self) -> Path:
        return self.own / "kithara" / "kithara.toml"

    @property
    def environment(self) -> dict[str, str]:
        """For a process: nothing of the developer's own settings gets into it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KITHARA_")}
        return {**kept, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(self.own)}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places(tmp_path / "here", tmp_path / "own")
    made.here.mkdir()
    made.user_file.parent.mkdir(parents=True)
    for name in list(os.environ):
        if name.startswith("KITHARA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made.own))
    monkeypatch.chdir(made.here)
    return made


def options(**given: Any) -> argparse.Namespace:
    """What a command that opens URLs has when nothing is given."""
    bare = {"headers": [], "retries": None, "timeout": None, "workers": None, "insecure": False, "config": None}
    return argparse.Namespace(**{**bare, **given})


def refusal(given: argparse.Namespace | None = None) -> str:
    with pytest.raises(CommandError) as caught:
        system_settings(given or options())
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Which source wins


def test_commands_differ_from_the_library_in_the_workers_alone(places: Places) -> None:
    assert system_settings(options()) == {"workers": 1}


def test_later_sources_win(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[Any, str]:
        setting = settings_given(options(workers=given))["workers"]
        return setting.value, setting.source

    given = None
    places.user_file.write_text("workers = 2\nmax_retries = 9\n")
    assert found() == (2, str(places.user_file))
    (places.here / "kithara.toml").write_text("workers = 3\n")
    assert found() == (3, "./kithara.toml")
    monkeypatch.setenv("KITHARA_WORKERS", "4")
    assert found() == (4, "KITHARA_WORKERS")
    given = 5
    assert found() == (5, "--workers")
    assert system_settings(options()) == {"workers": 4, "max_retries": 9}


def test_one_named_file_takes_the_place_of_the_two(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.user_file.write_text("max_retries = 1\n")
    (places.here / "kithara.toml").write_text("max_retries = 2\n")
    (places.own / "a.toml").write_text("workers = 3\n")
    (places.own / "b.toml").write_text("workers = 4\nverify = false\n")
    monkeypatch.setenv("KITHARA_CONFIG", str(places.own / "a.toml"))
    assert system_settings(options()) == {"workers": 3}
    assert system_settings(options(config=str(places.own / "b.toml"))) == {"workers": 4, "verify": False}
    monkeypatch.setenv("KITHARA_CONFIG", " ")
    assert system_settings(options())["max_retries"] == 2


def test_home_is_expanded_in_the_variable(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(places.own))
    monkeypatch.setenv("KITHARA_CONFIG", "~/mine.toml")
    (places.own / "mine.toml").write_text("workers = 7\n")
    assert system_settings(options())["workers"] == 7


def test_options_of_a_command(places: Places) -> None:
    given = options(retries=0, timeout=4.0, insecure=True)
    assert system_settings(given) == {
        "workers": 1,
        "max_retries": 0,
        "inactivity_timeout": 4.0,
        "connect_timeout": 4.0,
        "verify": False,
    }
    assert system_settings(options(timeout=60.0))["connect_timeout"] == 10.0


def test_timeout_leaves_a_connect_timeout_that_is_set(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITHARA_CONNECT_TIMEOUT", "7")
    settings = system_settings(options(timeout=2.0))
    assert (settings["connect_timeout"], settings["inactivity_timeout"]) == (7.0, 2.0)


def test_command_without_network_options(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITHARA_WORKERS", "2")
    assert system_settings(argparse.Namespace(config=None)) == {"workers": 2}


def test_user_file_without_platformdirs(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    places.user_file.write_text("workers = 2\n")
    assert system_settings(options())["workers"] == 2
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(places.here))
    fallback = places.here / ".config" / "kithara" / "kithara.toml"
    fallback.parent.mkdir(parents=True)
    fallback.write_text("workers = 6\n")
    assert system_settings(options())["workers"] == 6


def test_files_are_named_when_they_exist(places: Places) -> None:
    assert settings_files(options()) == []
    (places.here / "kithara.toml").touch()
    assert settings_files(options()) == ["./kithara.toml"]
    places.user_file.touch()
    assert settings_files(options()) == [str(places.user_file), "./kithara.toml"]


def test_loading_settings_loads_no_part_of_a_system(places: Places) -> None:
    code = (
        "import sys, argparse\n"
        "from kithara_actors.command.settings import system_settings\n"
        "system_settings(argparse.Namespace(config=None))\n"
        "print(sorted({'rich', 'pykka', 'requests', 'urllib3', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=places.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_empty_variable_sets_nothing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITHARA_WORKERS", "")
    monkeypatch.setenv("KITHARA_CACHE_DIR", " ")
    assert system_settings(options()) == {"workers": 1}


def test_variables_of_others_are_left_alone(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KITHARA_TESTS_MEMORY", "KITHARA_SERVICE_HOST", "KITHARA_PORT", "KITHARA_PORT_80_TCP"):
        monkeypatch.setenv(name, "x")
    assert system_settings(options()) == {"workers": 1}


# --- What is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 1\nworkers = yes", "is not TOML: Invalid value (at line 2, column 11)"),
        ("workers = 'x", "is not TOML: "),
        ("a = " + "[" * 100_000, "is nested too deep"),
        ("workers = '3'", "workers must be a whole number, not '3'"),
        ("workers = 0", "workers must be at least 1, not 0"),
        ("workers = {a = 1}", "workers must be a whole number"),
        ("read_timeout = nan", "read_timeout must be a positive number"),
        ("memory_limit = 'much'", "memory_limit must be written as bytes"),
        ("fill = 'half'", "fill must be one of whole, demand"),
        ("cache_dir = ''", "cache_dir must be a path"),
        ("allow_downgrade = 'true'", "allow_downgrade must be True or False"),
        ("inactivity_timeout = 1979-05-27", "inactivity_timeout must be a number"),
        ("proxies = {https = 1}", "proxies must map a scheme to a URL"),
        ("max_retry = 3", "there is no setting max_retry; did you mean max_retries?"),
        ("zebra = 3", "there is no setting zebra; "),
        ("[network]\nworkers = 3", "settings are written at the top level, not in a table: take [network] out"),
        ("[[servers]]\nworkers = 3", "there is no setting servers; "),
        ("key = 'x'", "key is a function: it can be set in Python only"),
        ("url_policy = 'x'", "url_policy is a function"),
        ("heartbeat = 3", "heartbeat_limit must be at least twice heartbeat"),
        ("max_rate = '500k'", "max_rate must be written as bytes per second or like"),
        ("max_rate = 0.5", "max_rate must be at least 1 byte per second"),
        ("max_bytes = '1 MB'", "max_bytes is not supported by this version"),
        ("connections_per_asset = 2", "connections_per_asset other than 1 is not supported"),
    ],
)
def test_file_that_is_wrong_is_named(places: Places, text: str, said: str) -> None:
    named = places.own / "mine.toml"
    named.write_text(text)
    assert refusal(options(config=str(named))).startswith(f"{named}: {said}")


def test_source_is_named_when_several_set_something(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.user_file.write_text("max_retries = 3\nheartbeat = 4\n")
    monkeypatch.setenv("KITHARA_EVENT_CAPACITY", "0")
    monkeypatch.setenv("KITHARA_HEARTBEAT_LIMIT", "9")
    assert refusal(options(workers=2)) == "KITHARA_EVENT_CAPACITY: event_capacity must be at least 1, not 0"
    monkeypatch.setenv("KITHARA_EVENT_CAPACITY", "5")
    assert system_settings(options())["heartbeat"] == 4
    monkeypatch.setenv("KITHARA_HEARTBEAT_LIMIT", "7")
    assert refusal().startswith(f"KITHARA_HEARTBEAT_LIMIT and {places.user_file}: heartbeat_limit must be at least")
    monkeypatch.setenv("KITHARA_HEARTBEAT_LIMIT", "8")
    monkeypatch.setenv("KITHARA_FRESHNESS", "http")
    assert refusal() == "KITHARA_FRESHNESS: freshness is not supported by this version"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("KITHARA_WORKER", "the environment: there is no setting KITHARA_WORKER; did you mean KITHARA_WORKERS?"),
        ("KITHARA_workers", "the environment: there is no setting KITHARA_workers; did you mean KITHARA_WORKERS?"),
        ("KITHARA_ZEBRA", "the environment: there is no setting KITHARA_ZEBRA; "),
        ("KITHARA_KEY", "the environment: KITHARA_KEY is a function"),
        ("KITHARA_WORKERS", "KITHARA_WORKERS: workers must be a whole number, not 'x'"),
    ],
)
def test_variable_that_is_wrong_is_named(
    places: Places, monkeypatch: pytest.MonkeyPatch, variable: str, said: str
) -> None:
    monkeypatch.setenv(variable, "x")
    assert refusal().startswith(said)


def test_file_that_cannot_be_read(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = places.own / "odd.toml"
    given = options(config=str(odd))
    remedy = "; name another file with --config or KITHARA_CONFIG"
    assert refusal(given) == f"{odd}: the settings cannot be read: No such file or directory{remedy}"
    odd.mkdir()
    assert refusal(given) == f"{odd}: the settings cannot be read: it is a directory{remedy}"
    odd.rmdir()
    os.mkfifo(odd)  # nobody will ever write into it
    assert refusal(given) == f"{odd}: the settings cannot be read: it is not a regular file{remedy}"
    odd.unlink()
    odd.write_bytes(b"workers = 1\n# \xff\n")
    assert refusal(given) == f"{odd}: is not UTF-8 text (line 2)"
    odd.write_bytes(b"#" * (1024 * 1024 + 1))
    assert refusal(given) == f"{odd}: the settings cannot be read: it is too large{remedy}"
    odd.write_bytes(b"\xef\xbb\xbfworkers = 2\r\n")
    assert system_settings(given)["workers"] == 2
    with pytest.raises(argparse.ArgumentTypeError, match="FILE of --config is empty"):
        system_settings(options(config=""))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(odd))  # no folder at all: nobody's settings
    assert system_settings(options()) == {"workers": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("printf no", "is no Python 3.11 or later"),
        ("echo loud >&2; exit 3", "is no Python 3.11 or later"),
        (None, "cannot be run: No such file or directory"),
    ],
)
def test_worker_python_is_tried(
    places: Places, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    program = places.own / "program"
    if text is not None:
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o700)
    monkeypatch.setenv("KITHARA_WORKER_PYTHON", str(program))
    remedy = "name a Python interpreter, or leave it out"
    assert refusal() == f"KITHARA_WORKER_PYTHON: worker_python {program} {said}; {remedy}"
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("KITHARA_WORKER_PYTHON", sys.executable)
    assert system_settings(options())["worker_python"] == sys.executable


# --- Somebody else's directory


@pytest.mark.parametrize(
    "line",
    [
        "allow_downgrade = true",
        "cache_dir = 'cache'",
        "cert = 'a.pem'",
        "proxies = {http = 'http://p'}",
        "record = 'a'",
        "verify = false",
        "worker_python = './python'",
    ],
)
def test_file_of_the_directory_may_not_be_dangerous(places: Places, line: str) -> None:
    name = line.split()[0]
    (places.here / "kithara.toml").write_text(f"max_retries = 1\n{line}\n")
    (places.here / "python").symlink_to(sys.executable)
    said = refusal()
    assert said.startswith(f"./kithara.toml: {name} is not taken from the current directory")
    assert f"put it into {places.user_file} or KITHARA_{name.upper()}, or name the file with --config" in said
    assert name in system_settings(options(config="kithara.toml"))


def test_user_may_stand_in_the_folder_of_the_own_file(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.user_file.write_text("verify = false\n")
    monkeypatch.chdir(places.user_file.parent)
    assert system_settings(options())["verify"] is False


@pytest.mark.root
def test_folder_of_another_user_is_no_obstacle(places: Places) -> None:
    """As after su: HOME is still that of root, and may not be looked into."""
    places.user_file.write_text("workers = 0\n")
    places.own.chmod(stat.S_IRWXU)
    code = (
        "import argparse, os, platformdirs\n"
        "from kithara_actors.command.settings import system_settings, user_file\n"
        "named = user_file()\n"
        "os.setuid(65534)\n"
        "print(named)\n"
        "print(system_settings(argparse.Namespace(config=None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=places.environment, cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == [str(places.user_file), "{'workers': 1}"], done.stderr


# --- The commands use them


def get(places: Places, url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "kithara_actors", "get", "--json", url],
        env={**places.environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_variable_changes_what_is_asked(places: Places) -> None:
    with Origin() as origin:
        url = origin.add("/a.mp3", Resource(size=1000, always=Fault(status=503)))
        assert get(places, url, KITHARA_MAX_RETRIES="0", KITHARA_RETRY_BASE="1ms").returncode == 1
        assert len(origin.requests) == 1
        assert get(places, url, KITHARA_MAX_RETRIES="2", KITHARA_RETRY_BASE="1ms").returncode == 1
        assert len(origin.requests) == 1 + 3


def test_file_changes_how_long_is_waited(places: Places) -> None:
    (places.here / "kithara.toml").write_text("inactivity_timeout = '200 ms'\nmax_retries = 0\n")
    with Origin() as origin:
        done = get(places, origin.add("/a.mp3", Resource(size=100_000, always=Fault(stall_after=1000))))
    assert done.returncode == 1
    assert "for 0.2 s" in json.loads(done.stdout.splitlines()[-1])["message"]


def test_wrong_setting_is_one_line_and_status_1(places: Places) -> None:
    done = get(places, "http://127.0.0.1:9/a.mp3", KITHARA_WORKERS="none")
    assert done.returncode == 1
    assert json.loads(done.stdout)["event"] == "failed"
    assert done.stderr == "kithara: KITHARA_WORKERS: workers must be a whole number, not 'none'\n"
