"""What to run once more, with nothing beside it, of lanes that have run: `again.py FOLDER LANE...`, as for .ci/lanes.

Prints a lane that runs the tests that failed, each by the command and in the environment in which it failed, as a run
NAME-again. Status 1, and nothing printed, if that is not to be: no test failed, more than a few did, or a run failed
by something else than single tests.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import reports

MOST = 5
"""Lanes take time from each other; what breaks more tests than this is something else."""


def main(folder: Path, lanes: list[str]) -> int:
    repeated: list[str] = []
    count = 0
    for line in "\n".join(lanes).splitlines():
        name, version, profile, command = line.split("|", 3)
        run = reports.read(folder, name)
        if run is None or not (run.passed or run.failed):
            return 1
        nodes = [case.node for case in run.bad]
        if None in nodes:
            return 1
        if nodes:
            chosen = sorted({node for node in nodes if node})
            count += len(chosen)
            listed = folder / f"again-{name}"
            listed.write_text("".join(f"{node}\n" for node in chosen))
            repeated.append(f"{name}-again|{version}|{profile}|{command} {shlex.quote(f'@{listed}')}")
    if not 0 < count <= MOST:
        return 1
    print("\n".join(repeated))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
