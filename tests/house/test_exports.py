"""`__all__` says what a module gives: it is there, sorted, and true."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from repository import PACKAGES, ROOT, parsed, python_files


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_public(path: Path) -> bool:
    """Whether others may import the module: neither private, nor a script, nor the empty mark of a folder."""
    private = any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts)
    return not private and bool(path.read_text(encoding="utf-8").strip())


def exported(path: Path) -> list[str] | None:
    for node in parsed(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            names = ast.literal_eval(node.value)
            return list(names)
    return None


def in_order(name: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Ruff's order (RUF022): constants, classes, the rest; in each group digits count as numbers."""
    group = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    pieces = re.findall(r"\d+|\D", name)
    return group, [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]


PUBLIC = [path for path in python_files(*PACKAGES) if is_public(path)]


@pytest.mark.parametrize("path", PUBLIC, ids=module_name)
def test_public_module_says_what_it_exports(path: Path) -> None:
    names = exported(path)
    assert names is not None, f"{path.relative_to(ROOT)} defines no __all__"
    assert names == sorted(set(names), key=in_order)


@pytest.mark.parametrize("path", PUBLIC, ids=module_name)
def test_exported_names_exist(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    missing = [name for name in exported(path) or [] if not hasattr(module, name)]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_listing_of_a_package_is_its_exports(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
