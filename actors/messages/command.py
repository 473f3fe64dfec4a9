"""What a command is: a frozen, slotted dataclass with a tag of its own, sent from one place to another as bytes."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Command"]


class Command:
    """Base of every command.

    Subclasses are `@dataclass(frozen=True, slots=True)`, give `TAG`, unique within their codec, and raise
    `VERSION` whenever the meaning or the list of their fields changes. Fields may be typed as `bool`, `int`,
    `float`, `str`, `bytes`, an enum, a `NewType` of these, another frozen dataclass, `tuple[X, ...]`,
    `tuple[X, Y]`, or any of them `| None`. The docstring names the sender.
    """

    __slots__ = ()

    TAG: ClassVar[int]
    VERSION: ClassVar[int] = 1
    IDEMPOTENT: ClassVar[bool] = False
    """Whether it may be handled twice. An actor that crashes on such a one gets it once more, as the first of its next
    incarnation; any other is dropped."""
