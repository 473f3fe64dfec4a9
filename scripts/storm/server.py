"""The origin in a process of its own, so that its work is not the host's; told what to do line by line.

Run as a module it is that process: JSON on standard input and output, gone when the input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kithara_actors.testing.origin import Fault, Origin, Resource

__all__ = ["FILES", "File", "Server"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class File:
    """One file: its bytes follow from `number` and position."""

    number: int
    size: int
    ranges: bool = True
    length: str = "known"
    """Or "chunked", or "close": told by the end of the connection alone."""
    rate: float | None = None

    @property
    def path(self) -> str:
        return f"/{self.number}.mp3"

    @property
    def seekable(self) -> bool:
        return self.ranges and self.length == "known"

    def resource(self) -> Resource:
        return Resource(
            self.size,
            seed=self.number,
            ranges=self.ranges,
            rate=self.rate,
            chunked=self.length == "chunked",
            length=self.length != "close",
        )


FILES = (
    File(0, 40_000),
    File(1, 300_000, rate=400_000),
    File(2, 1_500_000, rate=1_500_000),
    File(3, 6_000_000, rate=6_000_000),
    File(4, 2_500_000),
    File(5, 250_000, ranges=False, rate=800_000),
    File(6, 600_000, ranges=False, length="chunked", rate=2_000_000),
    File(7, 150_000, ranges=False, length="close", rate=600_000),
    File(8, 900_000, length="chunked", rate=1_500_000),
    File(9, 800_000, rate=200_000),
)


class Server:
    """The origin as the host has it, for use in a with statement. Blocks until it answers."""

    def __enter__(self) -> Self:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "scripts")))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "storm.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self._turn = threading.Lock()
        self.base: str = self._ask({"do": "begin"})
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def spoil(self, pick: float) -> str:
        """Have the next answer of some file go wrong, both as `pick` has it; what was done, in a word."""
        told: str = self._ask({"do": "spoil", "pick": pick})
        return told

    def flip(self, file: File, position: int) -> None:
        """Serve one wrong byte from here on: to show that it is found."""
        self._ask({"do": "flip", "file": file.number, "position": position})

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


def _fault(pick: float, file: File) -> tuple[str, Fault]:
    """How an answer goes wrong: where in its body, and in which of four ways."""
    where = int(pick * 1000 % 1 * file.size)
    match int(pick * 100) % 4:
        case 0:
            return "reset", Fault(reset_after=where)
        case 1:
            if file.length == "close":
                return "reset", Fault(reset_after=where)  # cut, it would look complete
            return "cut", Fault(cut_after=where)
        case 2:
            return "status", Fault(status=503)
        case _:
            return "reset", Fault(reset_after=0)


def _serve() -> None:
    resources = {file.number: file.resource() for file in FILES}
    with Origin() as origin:
        for file in FILES:
            origin.add(file.path, resources[file.number])
        for line in sys.stdin:
            order = json.loads(line)
            answer = None
            match order["do"]:
                case "begin":
                    answer = origin.base
                case "spoil":
                    file = FILES[int(order["pick"] * len(FILES))]
                    answer, fault = _fault(order["pick"], file)
                    resources[file.number].script.append(fault)
                case "flip":
                    file = FILES[order["file"]]
                    data = bytearray(resources[file.number].read())
                    data[order["position"]] ^= 1
                    resources[file.number] = Resource(data=bytes(data), rate=file.rate)
                    origin.replace(file.path, resources[file.number])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
