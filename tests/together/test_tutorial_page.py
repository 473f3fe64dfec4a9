"""What runs the tutorial sees what is wrong with a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from tutorial_page import Page, PageError, matches, parse, run_page

BROKEN_THREAD = ("import threading", "thread = threading.Thread(target=lambda: 1 / 0)", "thread.start(); thread.join()")


def fenced(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


def run(tmp_path: Path, *blocks: str, limit: float = 60.0) -> Page:
    return run_page(parse("\n".join(blocks)), tmp_path, limit)


def failures(page: Page) -> list[str | None]:
    return [result.failure for result in page.results]


# --- What is right


def test_blocks_share_one_directory_and_one_namespace(tmp_path: Path) -> None:
    page = run(
        tmp_path,
        fenced(
            "python",
            "import subprocess",
            "",
            "number = 41",
            "with open('made', 'w') as file:",
            "    file.write('x')",
            "",
        ),
        fenced("text", "1"),
        fenced("sh", "cat made; echo; echo 8765; python -c 'print(2)' >&2"),
        fenced("text", "x", "..."),
        "<!-- file: more.py -->",
        fenced("python", "value = 1"),
        fenced("python", "from more import value", "number + value"),
        "prints, and a program that it starts prints too:",
        fenced("text", "42"),
        fenced("python", "subprocess.run(['sh', '-c', 'echo out; echo err >&2']).returncode"),
        fenced("text", "out", "err", "0"),
    )
    assert failures(page) == [None] * 5
    assert page.left == []


# --- What is wrong


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (fenced("python", "print(1)", "1 / 0"), "ZeroDivisionError"),
        (fenced("python", "for i in range(3) print(i)"), "SyntaxError"),
        (fenced("python", "if True:", "    x = 1", "x = 2"), "SyntaxError"),
        (fenced("python", "x = ("), "not complete"),
        (fenced("python", "import warnings", "warnings.warn('old')"), "UserWarning"),
        (fenced("python", "import os", "os._exit(3)"), "the interpreter is gone"),
        (fenced("python", "raise SystemExit(3)"), "the interpreter is gone"),
        (fenced("sh", "echo before; exit 3"), "status 3:\nbefore"),
        (fenced("sh", "false; true"), "status 1"),
        (fenced("sh", 'echo "$nothing"'), "nothing"),
        (fenced("sh", "sleep 1000 &"), "left behind: process"),
        (fenced("sh", "sleep 1000 > file & exit 0"), "left behind: process"),
        (fenced("python", "print(1)"), "+1"),
        (fenced("python", "2"), "+2"),
        (fenced("sh", "echo 1"), "+1"),
        (fenced("sh", "true") + fenced("text", "something"), "-something"),
        (fenced("python", "print(1)") + fenced("text", "2"), "-2\n+1"),
        (fenced("python", *BROKEN_THREAD), "ZeroDivisionError"),
    ],
)
def test_block_that_fails(tmp_path: Path, block: str, said: str) -> None:
    page = run(tmp_path, block, fenced("python", "open('after', 'w').close()"))
    failed, after = failures(page)
    assert failed is not None
    assert said in failed
    assert after is not None
    assert after.startswith("not run, for 'line 1: ")
    assert not (tmp_path / "work" / "after").exists()


@pytest.mark.parametrize(
    "block",
    [fenced("python", "import threading", "threading.Event().wait()"), fenced("sh", "sleep 1000")],
    ids=["python", "sh"],
)
def test_block_that_hangs(tmp_path: Path, block: str) -> None:
    (failed,) = failures(run(tmp_path, block, limit=1.5))
    assert failed is not None
    assert failed.startswith("does not end within 1.5 s")


def test_what_a_page_leaves_is_named(tmp_path: Path) -> None:
    page = run(
        tmp_path,
        fenced("python", "import subprocess, tempfile, threading", "gate = threading.Event()"),
        fenced("python", "threading.Thread(target=gate.wait, name='idle', daemon=True).start()"),
        fenced("python", "sleeping = subprocess.Popen(['sleep', '1000'])"),
    )
    assert failures(page) == [None] * 3
    assert [line for line in page.left if line.startswith("thread idle")]
    assert [line for line in page.left if line.startswith("process ")]


@pytest.mark.parametrize(
    "text",
    [
        fenced("ruby", "puts 1"),
        fenced("", "make"),
        fenced("bash", "true"),
        fenced("python title=x", "1"),
        fenced("toml", "a = 1"),
        fenced("text", "of nothing"),
        fenced("sh", "true") + fenced("text", "a") + fenced("text", "b"),
        "<!-- file: a.py -->\n" + fenced("python", "1") + fenced("text", "a"),
        "<!-- file: a.sh -->\n" + fenced("sh", "true"),
        "<!-- file: ../a.py -->\n" + fenced("python", "1"),
        "<!-- file: a.py -->\nA paragraph.\n" + fenced("python", "1"),
        "<!-- install -->\n" + fenced("python", "1"),
        "<!-- skip -->\n" + fenced("python", "1"),
        "```sh\ntrue",
        "- a list\n  ```sh\n  true\n  ```",
        "~~~sh\ntrue\n~~~",
        "Indented:\n\n    make install",
        "````sh\ntrue\n````",
    ],
)
def test_what_cannot_be_run_is_an_error_of_the_page(text: str) -> None:
    with pytest.raises(PageError, match="line"):
        parse(text)


# --- What differs


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ("a", "a\n"),
        ("in 1.9 s, 250.1 kB/s", "in 12 ms, 3 MB/s"),
        ("after 4 ms", "after 405 ms"),
        ("http://127.0.0.1:40213/a", "http://127.0.0.1:1/a"),
        ("[22/Nov/2026 09:30:00] x", "[01/Jan/2027 23:59:59] x"),
        ("a\n...\nd", "a\nb\nc\nd"),
        ("a\n...\nd", "a\nd"),
        ("...\nd", "d"),
        ("a\n...", "a"),
        ("a ... d", "a b c d"),
    ],
)
def test_outputs_that_match(shown: str, written: str) -> None:
    assert matches(shown, written)


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ("a", ""),
        ("", "a"),
        ("a", "a\nb"),
        ("20 s", "21 s"),
        ("481.6 kB in 1 s", "481.5 kB in 1 s"),
        ("a\n...\nd", "a\nb"),
        ("a...d", "ad e"),
        ("a.c", "abc"),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:1/b"),
    ],
)
def test_outputs_that_differ(shown: str, written: str) -> None:
    assert not matches(shown, written)
