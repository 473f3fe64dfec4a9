"""Runs the blocks of a documentation page, in order, as its reader would.

- ```python``` is pasted into one interactive Python that lives as long as the page.
- ```sh``` is run by a shell of its own; `python` and `kithara` are those under test.
- ```text``` is what the block before it has written, to either output. A block without one writes nothing.
- ```python``` or ```toml``` behind `<!-- file: NAME -->` is saved under that name.
- ```sh``` behind `<!-- install -->` is not run: a test compares it with README.

All of it happens in one directory. Anything else that looks like code is an error of the page. Where outputs are
compared, `...` stands for any text, and what `normal` replaces may differ.
"""

from __future__ import annotations

import difflib
import json
import os
import random
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from actors.testing import leaks

__all__ = ["Block", "Page", "PageError", "Result", "environment", "free_port", "matches", "parse", "run_page"]

ROOT = Path(__file__).resolve().parents[2]
PORT = "8765"
"""Wherever a page has this number, a free port takes its place."""
_FENCE = re.compile(r"```(.*)")
_DIRECTIVE = re.compile(r"<!-- (?:file: ([\w.-]+)|(install)) -->")
_VARIES = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\[\d\d/\w{3}/\d{4} [\d:]{8}\]"), "[DATE]"),
    (re.compile(r"\b(in|after) [\d.]+ m?s\b"), r"\1 TIME"),
    (re.compile(r"\b[\d.]+ [kM]?B/s"), "SPEED"),
    (re.compile(r"\bETag \"[0-9a-f]+\""), "ETag TAG"),
)


class PageError(Exception):
    """The page holds what cannot be run or compared."""


@dataclass(frozen=True, slots=True)
class Block:
    """`line` is that of the first fence, `section` the heading above it. `output` is what the page shows."""

    line: int
    section: str
    language: str
    source: str
    file: str | None = None
    install: bool = False
    output: str | None = None

    @property
    def name(self) -> str:
        """For people: where it is, and how it begins."""
        return f"line {self.line}: {self.language}: {self.source.partition(chr(10))[0][:40]}"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a block; `failure` is None where it did what the page says."""

    block: Block
    failure: str | None = None


@dataclass(slots=True)
class Page:
    """One run. `left` names what the page has not ended."""

    results: list[Result] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


# --- Reading


def parse(text: str) -> list[Block]:
    """The blocks of a page, each with its output. PageError names the line of what is wrong."""
    blocks: list[Block] = []
    section = ""
    directive: re.Match[str] | None = None
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if (fence := _FENCE.fullmatch(line)) is None:
            if "```" in line or "~~~" in line or line.startswith(("    ", "\t")):
                raise PageError(f"line {number}: code that is not in a fence at the margin: {line}")
            if line and directive is not None:
                raise PageError(f"line {number}: {directive[0]} is followed by no block")
            directive = _DIRECTIVE.fullmatch(line) or directive
            if line.startswith("<!--") and directive is None:
                raise PageError(f"line {number}: the comment says nothing that is known: {line}")
            continue
        source = _inside(lines, number)
        if fence[1] == "text":
            if directive is not None or not blocks or blocks[-1].output is not None or blocks[-1].file:
                raise PageError(f"line {number}: this output belongs to no block")
            blocks[-1] = Block(**{**_fields(blocks[-1]), "output": source})
            continue
        block = Block(number, section, fence[1], source, directive and directive[1], bool(directive and directive[2]))
        if block.language not in (("python", "toml") if block.file else ("sh",) if block.install else ("python", "sh")):
            raise PageError(f"line {number}: nobody knows how to run {fence[1] or 'a block without language'!r}")
        blocks.append(block)
        directive = None
    return blocks


def _inside(lines: Iterator[tuple[int, str]], start: int) -> str:
    found = []
    for _, line in lines:
        if line == "```":
            return "\n".join(found) + "\n"
        found.append(line)
    raise PageError(f"line {start}: this block does not end")


def _fields(block: Block) -> dict[str, Any]:
    return {name: getattr(block, name) for name in Block.__slots__}


# --- Comparing


def normal(text: str) -> str:
    """`text` with a fixed word for each figure that differs from run to run, and no space at the ends of lines."""
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def matches(shown: str, written: str) -> bool:
    """Whether `written` is what the page shows. `...` stands for any text, alone on a line for any lines or none."""
    pieces = re.split(r"^\.\.\.\n|\.\.\.", normal(shown) + "\n", flags=re.MULTILINE)
    pattern = ".*?".join(re.escape(piece) for piece in pieces)
    return re.fullmatch(pattern, normal(written) + "\n", re.DOTALL) is not None


def _difference(shown: str, written: str) -> str:
    lines = difflib.unified_diff(
        normal(shown).splitlines(), normal(written).splitlines(), "the page", "the run", lineterm="", n=100
    )
    return "the output is not what the page shows:\n" + "\n".join(lines) + f"\n--- as it was written\n{written}"


# --- Running


def environment(folder: Path) -> dict[str, str]:
    """For what a reader starts: the commands under test first, none of this user's own settings or proxies."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    python = f"{shlex.quote(sys.executable)} -W error"
    for name, command in (("python", python), ("kithara", f"{python} -m kithara_actors")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)
    home, runtime = folder / "home", folder / "run"
    home.mkdir(exist_ok=True)
    runtime.mkdir(exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("KITHARA_", "XDG_"))
    }
    path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # Without the last, PulseAudio's library makes a temporary directory for each new home.
    return {**kept, "HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(runtime)}


def free_port() -> int:
    """A TCP port below those that the kernel gives out by itself, so that no other test gets it meanwhile."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def run_page(blocks: list[Block], folder: Path, limit: float = 60.0) -> Page:
    """Run `blocks` in a directory below `folder`, each for at most `limit` seconds. After one that fails none is run.

    What a block leaves running is killed if it is of the block's own session.
    """
    page = Page()
    before = leaks.snapshot()
    work = folder / "work"
    work.mkdir()
    port = str(free_port())
    failed: Block | None = None
    with _Console(work, environment(folder), limit) as console:
        for block in blocks:
            if failed is not None:
                page.results.append(Result(block, f"not run, for {failed.name!r} failed"))
                continue
            failure = _run(block, block.source.replace(PORT, port), console)
            page.results.append(Result(block, failure))
            failed = block if failure else None
        if failed is None:
            page.left = console.end()
    page.left += leaks.compare(before)
    return page


def _run(block: Block, source: str, console: _Console) -> str | None:
    """What is wrong with it, or None."""
    if block.install:
        return None
    if block.file:
        (console.folder / block.file).write_text(source)
        return None
    output, why = console.shell(source) if block.language == "sh" else console.paste(source)
    if why is not None:
        return f"{why}:\n{output}"
    return None if matches(block.output or "", output) else _difference(block.output or "", output)


class _Console:
    """The two terminals of the reader, both in `folder`: an interactive Python, and a shell."""

    def __init__(self, folder: Path, variables: dict[str, str], limit: float) -> None:
        self.folder = folder
        self._variables = variables
        self._limit = limit
        self._python: subprocess.Popen[str] = self._start(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("tutorial_console.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _kill(self._python)
        for pipe in (self._python.stdin, self._python.stdout):
            if pipe is not None:
                pipe.close()

    def paste(self, source: str) -> tuple[str, str | None]:
        """What a block of Python writes, and in what way it failed."""
        assert self._python.stdin is not None
        print(json.dumps({"source": source}), file=self._python.stdin, flush=True)
        answer = self._answer()
        return answer["output"], answer["failed"]

    def end(self) -> list[str]:
        """Close the interactive Python; what it had not ended, or wrote at its end."""
        assert self._python.stdin is not None
        self._python.stdin.close()
        answer = self._answer()
        found = [*answer["left"], answer["output"], answer["failed"]]
        if not _ends(self._python, self._limit):
            found.append("the interpreter does not end")
        return [each for each in found if each]

    def shell(self, source: str) -> tuple[str, str | None]:
        """The same for a block for the shell; it fails too if it leaves anything."""
        before = leaks.snapshot()
        with tempfile.TemporaryFile("w+") as output:
            shell = self._start(
                ["sh", "-eu", "-c", source], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            why = None if _ends(shell, self._limit) else f"does not end within {self._limit:g} s"
            own = (f"process {shell.pid}:", "descriptor ")
            left = leaks.compare(before, ignore=lambda line: line.startswith(own)) if why is None else []
            status = _kill(shell)
            output.seek(0)
            text = output.read()
        if why is None and status:
            why = f"status {status}"
        if why is None and left:
            why = f"left behind: {', '.join(left)}"
        return text, why

    def _start(self, command: list[str], **outputs: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self._variables, text=True, start_new_session=True, **outputs
        )

    def _answer(self) -> dict[str, Any]:
        assert self._python.stdout is not None
        nothing = {"output": "", "left": []}
        if not select.select([self._python.stdout], [], [], self._limit)[0]:
            return {**nothing, "failed": f"does not end within {self._limit:g} s"}
        line = self._python.stdout.readline()
        return {"left": [], **json.loads(line)} if line else {**nothing, "failed": "the interpreter is gone"}


def _ends(process: subprocess.Popen[str], limit: float) -> bool:
    """Wait for the end of a process, without taking its status: its number stays its own."""
    fd = os.pidfd_open(process.pid)
    try:
        return bool(select.select([fd], [], [], limit)[0])
    finally:
        os.close(fd)


def _kill(process: subprocess.Popen[str]) -> int:
    """End the process and its session, if they are still there, and take its status."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
