"""The last words of `.ci/run`: which tests did not pass, and why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

PASSES = "def test_fine(): pass\n"
FAILS = "def test_sum():\n    wrong = 3\n    assert 1 + 1 == wrong, 'so it is'\n"
BREAKS = "import pytest\n@pytest.fixture\ndef given():\n    raise OSError('no disk')\ndef test_it(given): pass\n"
SKIPS = "import pytest\n@pytest.mark.skip(reason='too hard')\ndef test_hard(): pass\n"
EXPECTED = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_known(): assert False\n"
HANGS = "import threading\ndef test_stuck():\n    threading.Event().wait()\n"
RUNS = {
    "good": PASSES,
    "bad": PASSES + FAILS + BREAKS,
    "out": PASSES + SKIPS + EXPECTED,
    "empty": "",
    "hung": PASSES + HANGS,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports and the logs that these runs of pytest leave in `.ci/run`."""
    folder = tmp_path_factory.mktemp("runs")
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    options = ["-p", "no:cacheprovider", "-c", "/dev/null", "-o", "timeout=2", "-o", "timeout_method=thread"]
    for name, source in RUNS.items():
        tests = folder / f"test_{name}.py"
        tests.write_text(source)
        with (folder / f"log-{name}").open("w") as log:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, f"--junitxml={folder}/report-{name}.xml", str(tests)],
                env=outer | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_timeout"},
                stdout=log,
                stderr=log,
            )
        (folder / f"status-{name}").write_text(f"{done.returncode}\n")
    return folder


def summary(folder: Path, *runs: str) -> tuple[int, str]:
    command = [sys.executable, ".ci/summary.py", str(folder), *runs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_what_failed_is_told_with_its_reason_below_its_run(folder: Path) -> None:
    status, told = summary(folder, "bad", "good")
    assert status == 1
    bad, _, good = told.partition("\ngood: ")
    assert "\nbad: 3 tests in " in bad
    assert ", 1 failure, 1 error\n" in bad
    assert "\n  FAILURE test_bad.test_sum\n    E       AssertionError: so it is\n" in bad
    assert "test_bad.py:4: AssertionError" in bad
    assert "\n  ERROR test_bad.test_it\n    E       OSError: no disk\n" in bad
    assert "test_fine" not in told
    assert good.startswith("1 tests in ")
    assert good.endswith(", all passed\n")


def test_all_passed_is_the_only_success(folder: Path) -> None:
    assert summary(folder, "good")[0] == 0
    assert summary(folder, "good", "empty")[0] == 1


def test_a_run_that_came_to_its_end_and_did_not_end_well_fails(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "report-good.xml").write_bytes((folder / "report-good.xml").read_bytes())
    status, told = summary(tmp_path, "good")
    assert status == 1
    assert told.endswith(", all passed, then was cut off\n")
    (tmp_path / "status-good").write_text("139\n")
    status, told = summary(tmp_path, "good")
    assert status == 1
    assert told.endswith(", all passed, exit code 139\n")


def test_tests_that_were_left_out_fail_the_run(folder: Path) -> None:
    status, told = summary(folder, "out")
    assert status == 1
    assert ", 2 skipped\n" in told
    assert "\n  SKIPPED test_out.test_hard\n" in told
    assert "too hard" in told
    assert "\n  SKIPPED test_out.test_known\n" in told


def test_a_run_that_was_cut_off_tells_where_it_hung(folder: Path) -> None:
    status, told = summary(folder, "hung", "after")
    assert status == 1
    hung, _, after = told.partition("\nafter: ")
    assert "\nhung: ended without a report; from its log:\n" in hung
    frames = [line for line in hung.splitlines() if line.lstrip().startswith("File ")]
    assert [frame for frame in frames if "test_stuck" in frame]
    assert not [frame for frame in frames if "site-packages" in frame]
    assert after == "did not begin\n"
