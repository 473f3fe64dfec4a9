"""Options that every sub-command has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

__all__ = ["Commands", "Smoke", "common", "positive"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What a sub-command is added to; argparse has no public name for it."""


def positive(text: str) -> int:
    """The type of an option that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


class Smoke(argparse.Action):
    """One round of the smallest size, at once and without a verdict on speed: does it work at all?"""

    def __call__(self, _parser: object, namespace: argparse.Namespace, *_: object) -> None:
        namespace.smoke = namespace.no_verdict = True
        namespace.rounds = 1


def common(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """Rounds, seed, JSON, and whether there is a verdict."""
    parser.add_argument(
        "--rounds", type=positive, default=rounds, help=f"counted ones, after one that is not (default {rounds})"
    )
    parser.add_argument("--seed", type=int, default=None, help="of all chance (default: another each time)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="where every sample is written")
    parser.add_argument("--no-verdict", action="store_true", help="only report; exit with 0")
    parser.add_argument("--smoke", action=Smoke, nargs=0, default=False, help=Smoke.__doc__)
