"""The interactive Python of a reader who pastes the blocks of a page, driven through pipes. Run as a script.

A request is a line of JSON on the standard input, `{"source": text}`; the answer is a line of JSON on the standard
output: what the block wrote, to whatever output and by whichever process, and whether it failed. At the end of the
input the last line says which threads and processes the page has left.
"""

from __future__ import annotations

import code
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["PastingConsole"]


class PastingConsole(code.InteractiveConsole):
    """Takes blocks line by line, so that what cannot be pasted fails."""

    failed = False

    def showtraceback(self) -> None:
        self.failed = True
        super().showtraceback()

    def showsyntaxerror(self, *arguments: Any, **settings: Any) -> None:
        self.failed = True
        super().showsyntaxerror(*arguments, **settings)

    def paste(self, source: str) -> None:
        """The lines of `source`, and the empty one with which the reader ends it. Stops at the first that fails."""
        self.failed = False
        for line in [*source.splitlines(), ""]:
            more = self.push(line)
            if self.failed:
                break
        else:
            if more:
                self.failed = True
                self.write("the block is not complete\n")
        self.resetbuffer()


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    # Whatever writes to the outputs, also a process that a block starts, is caught.
    output = os.memfd_create("output")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    for number in (1, 2):
        os.dup2(output, number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    sys.path[0] = ""  # as in an interactive interpreter
    console = PastingConsole({"__name__": "__main__"})
    read = 0

    def written() -> str:
        nonlocal read
        sys.stdout.flush()
        text = os.pread(output, os.fstat(output).st_size - read, read)
        read += len(text)
        return text.decode(errors="replace")

    for line in requests:
        console.paste(json.loads(line)["source"])
        print(
            json.dumps({"output": written(), "failed": "it failed" if console.failed else None}),
            file=answers,
            flush=True,
        )
    print(json.dumps({"output": written(), "failed": None, "left": left()}), file=answers, flush=True)


def left() -> list[str]:
    threads = [f"thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]
    tasks = Path("/proc/self/task").glob("*/children")
    return threads + [f"process {pid}" for children in tasks for pid in children.read_text().split()]


if __name__ == "__main__":
    main()
