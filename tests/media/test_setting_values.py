"""What may be written for a setting, in a file and in a variable of the environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kithara_actors.command.setting_values import FOR_PYTHON_ONLY, SETTABLE, from_file, from_text
from kithara_actors.config import Config
from kithara_actors.system import UNSUPPORTED

REFUSED = (*UNSUPPORTED, "connections_per_asset")


def test_every_field_can_be_set_or_is_for_python() -> None:
    assert sorted([*SETTABLE, *FOR_PYTHON_ONLY]) == sorted(field.name for field in dataclasses.fields(Config))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("workers", "3", 3),
        ("max_retries", " 0 ", 0),
        ("memory_limit", "1000", 1000),
        ("memory_limit", "256 MiB", 256 * 1024**2),
        ("memory_limit", "1.5GB", 1_500_000_000),
        ("memory_limit", "2 kib", 2048),
        ("look_ahead", "0", 0),
        ("look_ahead", "5TB", 5 * 10**12),
        ("max_rate", "500 kB/s", 500_000.0),
        ("max_rate_per_host", "1 MiB/s", 1024.0**2),
        ("max_rate", "2MiB", 2 * 1024.0**2),
        ("max_rate", "64000", 64_000.0),
        ("inactivity_timeout", "30s", 30.0),
        ("inactivity_timeout", "500 ms", 0.5),
        ("read_timeout", "2min", 120.0),
        ("retry_cap", "0.25", 0.25),
        ("soft_timeout", "1h", 3600.0),
        ("allow_downgrade", "True", True),
        ("verify", "false", False),
        ("verify", "ca.pem", "ca.pem"),
        ("verify", "~/ca.pem", "/folk/ca.pem"),
        ("cert", "both.pem", "both.pem"),
        ("cert", '["a.pem", "~/b.pem"]', ("a.pem", "/folk/b.pem")),
        ("proxies", '{"https": "http://p:1"}', {"https": "http://p:1"}),
        ("proxies", '{https = "http://p:1"}', {"https": "http://p:1"}),
        ("cache_dir", "~/cache", "/folk/cache"),
        ("worker_python", "python3", "python3"),
        ("fill", "demand", "demand"),
    ],
)
def test_text_of_a_variable(name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/folk")
    read = from_text(name, text)
    assert (read, type(read)) == (value, type(value))
    Config(**{name: read})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("workers", "two", "must be a whole number, not 'two'"),
        ("workers", "1.5", "must be a whole number"),
        ("workers", "9" * 5000, "must be a whole number"),
        ("memory_limit", "256M", "must be written as bytes or like"),
        ("memory_limit", "-1", "must be written as bytes"),
        ("memory_limit", "٣ MB", "must be written as bytes"),
        ("inactivity_timeout", "5m", "must be written as seconds or like"),
        ("inactivity_timeout", "nan", "must be written as seconds"),
        ("max_rate", "1 MB/h", "must be written as bytes per second"),
        ("max_rate", "500k", 'must be written as bytes per second or like "500 kB/s" or "1 MiB/s", not \'500k\''),
        ("max_rate_per_host", "4 Mbit/s", "must be written as bytes per second"),
        ("allow_downgrade", "maybe", "must be true or false"),
        ("proxies", "http://u:secret@p", 'must be written like {"https"'),
        ("proxies", '{a = "b"}\nother = 1', "must be written like"),
        ("proxies", "[" * 100_000, "must be written like"),
        ("cert", "[1", "must be written like a path or"),
        ("cache_dir", "~nobody-of-that-name/x", "names a home directory that is not known"),
    ],
)
def test_text_that_means_nothing(name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_text(name, text)
    assert str(caught.value).startswith(f"{name} {said}")
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "toml", "value"),
    [
        ("workers", 3, 3),
        ("memory_limit", "1 MiB", 1024**2),
        ("read_timeout", 5, 5),
        ("read_timeout", "5 s", 5.0),
        ("verify", "false", False),
        ("cert", ["a", "b"], ("a", "b")),
        ("proxies", {"http": "http://p"}, {"http": "http://p"}),
        ("allow_downgrade", False, False),
    ],
)
def test_value_in_a_file(name: str, toml: Any, value: Any) -> None:
    read = from_file(name, toml)
    assert (read, type(read)) == (value, type(value))
    Config(**{name: read})


def test_documentation_names_every_setting_and_its_default() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "command.md").read_text(encoding="utf-8")
    table = page.partition("### All of them")[2].partition("## Environment")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")
    ]
    assert [name.strip("`") for name, *_ in rows] == sorted(SETTABLE)
    for cell, default, meaning in rows:
        name = cell.strip("`")
        if name in ("look_ahead", "worker_python", "workers"):  # whose default is of the command, or of another place
            continue
        said = None if not default else from_text(name, default.strip("`").strip('"'))
        assert said == getattr(Config(), name), name
        assert (meaning == "not supported yet") is (name in REFUSED), name


def test_the_defaults_of_the_scheduler() -> None:
    """SCHED01"""
    made = Config()
    assert (made.max_concurrent, made.max_per_host, made.soft_timeout, made.workers) == (64, 16, 2.0, 2)
    assert (made.preempt_after, made.event_capacity) == (0.5, 1024)
