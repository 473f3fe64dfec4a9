"""A terminal, as far as the player's display needs one: text, wrapping, and the few controls that rich sends."""

from __future__ import annotations

import re

from rich.cells import cell_len

__all__ = ["Terminal"]

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|(\x1b)|([^\x1b\r\n]+)")


class Terminal:
    """Rows of text without end. A row that was wrapped at the right edge is joined again when the width changes."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.cursor_shown = True
        # Text, and whether it goes on in the next row.
        self._rows: list[tuple[str, bool]] = [("", False)]
        self._row = 0
        self._start = False

    @property
    def rows(self) -> list[str]:
        """What is shown, without the empty rows at its end."""
        texts = [text for text, _ in self._rows]
        while texts and not texts[-1]:
            texts.pop()
        return texts

    @property
    def wrapped(self) -> bool:
        """Whether any row is a piece of a longer line."""
        return any(goes_on for _, goes_on in self._rows)

    def feed(self, text: str) -> None:
        for match in _TOKEN.finditer(text):
            arguments, control, enter, line, escape, plain = match.groups()
            assert escape is None, f"an escape that is no control: {text!r}"
            if control is not None:
                self._control(arguments, control)
            elif enter is not None:
                self._start = True
            elif line is not None:
                self._down()
            else:
                assert plain.isprintable(), repr(plain)
                self._print(plain)

    def resize(self, columns: int) -> None:
        """Break the lines anew, as most terminals do; the cursor stays at the end of its line."""
        lines, joined = [], ""
        after = sum(1 for text, goes_on in self._rows[self._row + 1 :] if not goes_on)
        for text, goes_on in self._rows:
            joined += text
            if not goes_on:
                lines.append(joined)
                joined = ""
        self.columns = columns
        self._rows = [row for line in lines for row in self._broken(line)]
        self._row = len(self._rows) - 1 - after

    def _broken(self, line: str) -> list[tuple[str, bool]]:
        pieces = [""]
        for character in line:
            if cell_len(pieces[-1] + character) > self.columns:
                pieces.append("")
            pieces[-1] += character
        return [(piece, at < len(pieces) - 1) for at, piece in enumerate(pieces)]

    def _print(self, plain: str) -> None:
        text, _ = self._rows[self._row]
        assert not (self._start and text), "text over text: it was to be erased first"
        self._start = False
        broken = self._broken(text + plain)
        self._rows[self._row : self._row + 1] = broken
        self._row += len(broken) - 1

    def _down(self) -> None:
        self._row += 1
        self._start = True
        if self._row == len(self._rows):
            self._rows.append(("", False))

    def _control(self, arguments: str, control: str) -> None:
        match arguments, control:
            case "?25", "l" | "h":
                self.cursor_shown = control == "h"
            case _, "m":
                pass
            case _, "A":
                self._row -= int(arguments or 1)
                assert self._row >= 0, "above what was written"
            case "2", "K":
                self._rows[self._row] = ("", False)
            case "" | "0", "J":
                assert self._start
                self._rows[self._row :] = [("", False)]
            case _:
                raise AssertionError(f"unknown control: {arguments}{control}")
