"""Heads of answers as nearly all are, read at once: what http.client makes of them, for a tenth of its cost."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["UsualHead", "usual_head"]

_USUAL = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2})(?: ([^\x00\r\n]*))?\r\n((?:[!-9;-~]+:[^\x00\r\n]*\r\n){0,90})\r\n")
"""A whole head of a final answer, in HTTP/1.1, with no field on two lines, and not too many."""
_FIELD = re.compile(r"([^:]+):[ \t]*(.*)\r\n")


@dataclass(slots=True)
class UsualHead:
    """`lines` are the fields as they came, `fields` the same by their names in lower case: the first of each.

    `length` is the value of Content-Length, None if there is none that can be used or the body is chunked. `size` is
    how many bytes the head has.
    """

    status: int
    reason: str
    lines: list[tuple[str, str]]
    fields: dict[str, str]
    chunked: bool
    length: int | None
    closes: bool
    size: int

    @property
    def repeats(self) -> bool:
        """Whether a field came more than once."""
        return len(self.fields) < len(self.lines)


def usual_head(received: bytes) -> UsualHead | None:
    """What `received` begins with, if that is a whole head and as usual; None has to be read line by line."""
    found = _USUAL.match(received)
    if found is None:
        return None
    lines = _FIELD.findall(found[3].decode("iso-8859-1"))
    fields = {name.lower(): value for name, value in reversed(lines)}
    if len(fields) < len(lines) and sum(name.lower() == "content-length" for name, _ in lines) > 1:
        return None
    said = fields.get("content-length")
    if said is not None and "," in said:
        return None
    chunked = fields.get("transfer-encoding", "").lower() == "chunked"
    return UsualHead(
        int(found[1]),
        (found[2] or b"").decode("iso-8859-1").strip(),
        lines,
        fields,
        chunked,
        None if chunked else _length(said),
        "close" in fields.get("connection", "").lower(),
        found.end(),
    )


def _length(value: str | None) -> int | None:
    """A Content-Length as http.client takes it; what is wrong with it is said elsewhere."""
    try:
        length = int(value or "")
    except ValueError:
        return None
    return None if length < 0 else length
