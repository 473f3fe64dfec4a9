"""The files of this repository, for the rules that are tests."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PACKAGES", "ROOT", "parsed", "python_files", "tracked_files"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("actors", "kithara_actors")

_MADE_BY_TOOLS = {"build", "dist", "__pycache__", "PKG-INFO", "setup.cfg"}


def python_files(*folders: str) -> list[Path]:
    """The modules under the folders, tracked or not: a rule holds before the first commit too."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def tracked_files() -> list[Path]:
    """What git tracks and is there, or, outside a checkout, all files but those that tools make."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
        return sorted(path for path in paths if path.is_file())
    return sorted(_walk(ROOT))


def _walk(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        made = path.name in _MADE_BY_TOOLS or path.name.endswith((".egg-info", "_cache"))
        hidden = path.is_dir() and path.name.startswith(".") and path.name != ".ci"
        if made or hidden or (path / "pyvenv.cfg").exists():
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
