"""Each of the 25 fault cases has a test that bears its number."""

from __future__ import annotations

import ast
import re

from repository import parsed, python_files

CASES = 25
NAMED = re.compile(r"test_f(\d\d)_")


def test_every_fault_case_has_a_test() -> None:
    found = {
        int(match[1])
        for path in python_files("tests")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef) and (match := NAMED.match(node.name))
    }
    assert found == set(range(1, CASES + 1))
