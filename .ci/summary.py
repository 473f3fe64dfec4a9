"""What the runs of pytest came to, shortly: `summary.py FOLDER RUN...`, of what they left in FOLDER.

Prints one line for each run, and under it each test that did not pass with its error lines. Status 1 if a run failed,
was cut off, tested nothing, or skipped a test. A run whose failed tests all passed when they ran once more, alone, as
RUN-again (see again.py), counts as passed; they are told of at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import reports

LOG_LINES = 60


def main(folder: Path, runs: list[str]) -> int:
    good = True
    twice: list[str] = []
    print("\n== summary")
    for name in runs:
        run = reports.read(folder, name)
        if run is None:
            good = False
            _cut_off(name, folder / f"log-{name}")
            continue
        again = reports.read(folder, f"{name}-again")
        alone = {case.node: case for case in again.cases} if again is not None and again.passed else {}
        print(f"{name}: {_counts(run)}")
        if run.passed:
            continue
        if run.failed and {case.node for case in run.bad} == alone.keys():
            for case in run.bad:
                twice += _twice(name, case, alone[case.node])
            continue
        good = False
        for case in run.bad:
            print("\n".join(_told(case)))
        if again is not None:
            print(f"{name}-again: {_counts(again)}")
            for case in again.bad:
                print("\n".join(_told(case)))
        elif (folder / f"log-{name}-again").exists():
            _cut_off(f"{name}-again", folder / f"log-{name}-again")
    if twice:
        print("\n== failed beside other work, passed alone")
        print("\n".join(twice))
    return 0 if good else 1


def _counts(run: reports.Run) -> str:
    counts = {kind: sum(kind == each for case in run.cases for each, _ in case.found) for kind in reports.KINDS}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    told = told or ("all passed" if run.cases else "so it tested nothing")
    if not (run.passed or run.failed or run.status == 0):
        told += ", then was cut off" if run.status is None else f", exit code {run.status}"
    return f"{len(run.cases)} tests in {run.seconds:.0f} s, {told}"


def _told(case: reports.Case) -> Iterator[str]:
    for kind, found in case.found:
        yield f"  {kind.upper()} {case.name}"
        yield from (f"    {line}" for line in reports.reasons(found))


def _twice(run: str, case: reports.Case, again: reports.Case) -> Iterator[str]:
    for kind, found in case.found:
        yield f"  {run}: {case.name}: {kind} after {case.seconds:.1f} s, then passed in {again.seconds:.1f} s"
        yield from (f"    {line}" for line in reports.reasons(found))


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
