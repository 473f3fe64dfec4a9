"""What one run of pytest left in a folder: report-RUN.xml, and its exit code in status-RUN."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ERROR_LINES = 12
KINDS = ("failure", "error", "skipped")
OUTSIDE_TESTS = "the run left behind:"
"""How tests/conftest.py begins to tell of what no single test left; pytest blames the last test."""


@dataclass(frozen=True)
class Case:
    """A test, as a report has it; twice, if it failed and then what it had was not put away either."""

    element: ElementTree.Element

    @property
    def name(self) -> str:
        return f"{self.element.get('classname')}.{self.element.get('name')}"

    @property
    def seconds(self) -> float:
        return float(self.element.get("time", 0))

    @property
    def found(self) -> list[tuple[str, ElementTree.Element]]:
        """Why it did not pass, each with its kind."""
        return [(kind, found) for kind in KINDS for found in self.element.findall(kind)]

    @property
    def node(self) -> str | None:
        """What has pytest run this test alone, from here; None if it is no test, or did not fail by itself."""
        if any(kind == "skipped" or OUTSIDE_TESTS in (found.text or "") for kind, found in self.found):
            return None
        # The attribute `file` would be where a test was defined, and that may be a base class in another file.
        words = self.element.get("classname", "").split(".")
        for count in range(len(words), 0, -1):
            file = "/".join(words[:count]) + ".py"
            if Path(file).is_file():
                return "::".join([file, *words[count:], self.element.get("name", "")])
        return None  # not collected, or an internal error


@dataclass(frozen=True)
class Run:
    """A run that has ended with a report. `status` is None if it was cut off after that."""

    cases: list[Case]
    seconds: float
    status: int | None

    @property
    def bad(self) -> list[Case]:
        return [case for case in self.cases if case.found]

    @property
    def passed(self) -> bool:
        """Whether it tested something, and all of it passed."""
        return self.status == 0 and bool(self.cases) and not self.bad

    @property
    def failed(self) -> bool:
        """Whether it went to its end, and tests failed. Any other exit code says that it could not do its work."""
        return self.status == 1 and bool(self.bad)


def read(folder: Path, run: str) -> Run | None:
    """None if there is no whole report."""
    try:
        report = ElementTree.parse(folder / f"report-{run}.xml")
    except (OSError, ElementTree.ParseError):
        return None
    try:
        status = int((folder / f"status-{run}").read_text())
    except (OSError, ValueError):
        status = None
    seconds = sum(float(suite.get("time", 0)) for suite in report.iter("testsuite"))
    return Run([Case(each) for each in report.iter("testcase")], seconds, status)


def reasons(found: ElementTree.Element) -> list[str]:
    """The lines that pytest marks with E, and the place; without any, the last ones."""
    lines = (found.text or "").splitlines()
    marked = [line for line in lines if line.startswith("E ")]
    told = (marked[:ERROR_LINES] + [line for line in lines if _is_place(line)][-1:]) or lines[-ERROR_LINES:]
    return told or [(found.get("message") or "").strip()]


def _is_place(line: str) -> bool:
    path, _, rest = line.partition(":")
    return path.endswith(".py") and rest.partition(":")[0].isdigit()
