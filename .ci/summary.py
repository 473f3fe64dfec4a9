"""What the runs of pytest came to, shortly: `summary.py FOLDER RUN...`, of FOLDER/report-RUN.xml and FOLDER/log-RUN.

Prints one line for each run, and under it each test that did not pass with its error lines. Status 1 if a run failed,
was cut off, tested nothing, or skipped a test.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

ERROR_LINES = 12
LOG_LINES = 60


def main(folder: Path, runs: list[str]) -> int:
    good = True
    print("\n== summary")
    for run in runs:
        report, log = folder / f"report-{run}.xml", folder / f"log-{run}"
        try:
            good &= _reported(run, ElementTree.parse(report))
        except (OSError, ElementTree.ParseError):
            good = False
            _cut_off(run, log)
    return 0 if good else 1


def _reported(run: str, report: ElementTree.ElementTree) -> bool:
    cases = list(report.iter("testcase"))
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "error", "skipped")}
    seconds = sum(float(suite.get("time", 0)) for suite in report.iter("testsuite"))
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    print(f"{run}: {len(cases)} tests in {seconds:.0f} s, {told or 'all passed' if cases else 'so it tested nothing'}")
    for case in cases:
        for kind in counts:
            for found in case.findall(kind):
                print(f"  {kind.upper()} {case.get('classname')}.{case.get('name')}")
                for line in _errors(found.text or "") or [(found.get("message") or "").strip()]:
                    print(f"    {line}")
    return bool(cases) and not told


def _errors(text: str) -> list[str]:
    """The lines that pytest marks with E, and the places; without any, the last ones."""
    lines = text.splitlines()
    marked = [line for line in lines if line.startswith("E ")]
    return (marked[:ERROR_LINES] + [line for line in lines if _is_place(line)][-1:]) or lines[-ERROR_LINES:]


def _is_place(line: str) -> bool:
    path, _, rest = line.partition(":")
    return path.endswith(".py") and rest.partition(":")[0].isdigit()


def _cut_off(run: str, log: Path) -> None:
    if not log.exists():
        print(f"{run}: did not begin")
        return
    lines = log.read_text(errors="replace").splitlines()
    # What pytest-timeout tells before it ends the run: the stack of each thread, between two of these lines.
    marks = [number for number, line in enumerate(lines) if "+ Timeout +" in line]
    print(f"{run}: ended without a report; from its log:")
    for line in list(_own_frames(lines[marks[0] :])) if marks else lines[-LOG_LINES:]:
        print(f"    {line}")


def _own_frames(lines: list[str]) -> Iterator[str]:
    """The stacks without the frames of the standard library and of what is installed."""
    foreign = False
    for line in lines:
        if line.startswith('  File "'):
            foreign = "/lib/python" in line
        elif not line.startswith("    "):
            foreign = False
        if not foreign:
            yield line


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
