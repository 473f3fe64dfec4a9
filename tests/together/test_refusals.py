"""What `ActorSystem.start` refuses, in words that name the setting, and with nothing left of the attempt."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from host_kit import run

from actors.errors import WorkerStartError
from actors.testing import leaks
from kithara_actors import ActorSystem, Config

WRONG: list[tuple[str, object]] = [
    *((name, 0) for name in ("memory_limit", "max_bytes", "execute_limit", "workers", "max_concurrent")),
    *((name, 0) for name in ("max_per_host", "event_capacity", "connections_per_asset", "max_assets")),
    *((name, "5") for name in ("memory_limit", "workers", "max_retries", "look_ahead", "min_free_bytes")),
    *((name, True) for name in ("workers", "max_concurrent", "max_retries", "connect_timeout", "heartbeat")),
    *((name, 1.5) for name in ("workers", "memory_limit", "max_assets", "event_capacity")),
    *((name, -1) for name in ("max_retries", "look_ahead", "min_free_bytes", "preempt_after", "retry_after_limit")),
    *((name, 0) for name in ("connect_timeout", "inactivity_timeout", "soft_timeout", "retry_base", "retry_cap")),
    *((name, float("nan")) for name in ("connect_timeout", "heartbeat", "heartbeat_limit", "read_timeout")),
    *((name, float("inf")) for name in ("inactivity_timeout", "max_rate", "max_rate_per_host", "switch_interval")),
    *((name, "fast") for name in ("read_timeout", "max_rate", "max_rate_per_host", "switch_interval", "fill")),
    *((name, value) for name in ("max_rate", "max_rate_per_host") for value in (0, -1.0, 0.99, True)),
    ("freshness", "sometimes"),
    ("heartbeat_limit", 0.6),
    ("worker_python", ""),
    ("worker_python", None),
    ("worker_python", "py\0thon"),
    ("cache_dir", 5),
    ("cache_dir", b"/tmp"),
    ("cache_dir", ""),
    ("cache_dir", "a\0b"),
    ("record", 5),
    ("verify", 5),
    ("verify", ""),
    ("cert", 5),
    ("cert", ("one",)),
    ("cert", ("one", 2)),
    ("proxies", ["http://proxy"]),
    ("proxies", {"http": 5}),
    ("url_policy", "all"),
    ("key", "all"),
    ("allow_downgrade", "yes"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}={value!r}" for name, value in WRONG])
def test_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        Config(**{name: value})
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        ActorSystem.start(None, **{name: value})


def test_every_checked_field_is_tried() -> None:
    assert set(Config.__slots__) == {name for name, _ in WRONG}


def test_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match="wokers"):
        ActorSystem.start(wokers=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_bytes", 1000),
        ("max_assets", 5),
        ("freshness", "http"),
        ("connections_per_asset", 2),
    ],
)
def test_setting_without_effect_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}.* not supported"):
        ActorSystem.start(None, **{name: value})


def test_settings_replace_fields_of_a_config() -> None:
    with ActorSystem.start(Config(workers=2, max_retries=1), workers=1) as system:
        assert (system.config.workers, system.config.max_retries) == (1, 1)
        assert len(system.workers()) == 1


def refused(**settings: Any) -> str:
    """The text of the WorkerStartError; nothing may be left of the attempt the moment it is raised."""
    before = leaks.snapshot()
    with pytest.raises(WorkerStartError) as raised:
        ActorSystem.start(None, **settings)
    assert leaks.compare(before) == []
    return str(raised.value)


def test_worker_python_that_does_not_exist(tmp_path: Path) -> None:
    missing = str(tmp_path / "python")
    assert missing in refused(worker_python=missing)


def test_worker_python_that_may_not_be_run(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\n")
    assert "Permission denied" in refused(worker_python=str(script))


@pytest.mark.parametrize("program", ["false", "true", "cat"])
def test_worker_python_that_is_not_python(program: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = shutil.which(program)
    assert path is not None
    text = refused(worker_python=path)
    assert path in text
    assert f"status {0 if program == 'true' else 1}" in text


def test_worker_python_that_is_no_program(tmp_path: Path) -> None:
    text = tmp_path / "python"
    text.write_bytes(b"\x7fELF not really")
    text.chmod(0o755)
    assert "Exec format error" in refused(worker_python=str(text))


def test_worker_that_cannot_import_what_it_needs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} "$1" -S -c "raise SystemExit(41)"\n')
    bare.chmod(0o755)
    assert "exited with status 41 before it was ready" in refused(worker_python=str(bare))


@pytest.mark.parametrize("cache_dir", ["/proc/no/cache", "/dev/null/cache"])
def test_cache_directory_that_cannot_be_made(cache_dir: str) -> None:
    before = leaks.snapshot()
    with pytest.raises(OSError, match=r".+"):
        ActorSystem.start(cache_dir=cache_dir)
    assert leaks.compare(before) == []


def test_no_descriptors_to_start_with() -> None:
    code = """
import os, resource
from kithara_actors import ActorSystem
with ActorSystem.start(workers=1):
    pass
import actors.testing.leaks as leaks
before = leaks.snapshot()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
used = max(map(int, os.listdir("/proc/self/fd")))
for more in range(12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
    try:
        system = ActorSystem.start(workers=2)
    except Exception as error:
        pass
    else:
        assert system.stop() == []
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(leaks.compare(before))
with ActorSystem.start(workers=1) as system:
    print(len(system.workers()))
"""
    exit_code, output, errors = run(code)
    assert (exit_code, output) == (0, "[]\n1\n"), errors
