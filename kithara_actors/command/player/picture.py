"""What the player shows of a track: lines for a terminal of any width, and sentences for a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.command.text import amount, clean, clock, cover_words

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["draw", "ended", "opening", "progress", "state"]

_ONE_LINE = 50
"""Columns from which on the bar stands beside the times, and not below."""
_CELLS = {"played": "━", "present": "─", "absent": "·"}
_ASCII_CELLS = {"played": "#", "present": "-", "absent": "."}
_STYLES = {"played": "bold cyan", "present": "cyan", "absent": "dim"}
_HINTS = (
    ("space pause", "←→ 10 s", "↑↓ 60 s", "n next", "p previous", "q quit"),
    ("space pause", "←→↑↓ seek", "n p track", "q quit"),
    ("space", "←→↑↓", "n p", "q"),
)


def state(playing: Playing) -> str:
    """What it does, in a word."""
    if playing.paused:
        return "paused"
    if not playing.waiting:
        return "playing"
    return "loading" if playing.codec is None and playing.position <= 0 else "buffering"


def ended(playing: Playing, width: int | None = None) -> str:
    """What is left to say of a track that is over: which, and how far it was played. In `width` cells, if given, what
    it is called is cut; that needs rich."""
    length, position = _length(playing), max(0.0, playing.position)
    # Decoders and tags differ by parts of a second on where the end is.
    whole = length is None or position >= length - 1
    time = clock(position) if length is None else clock(length) if whole else f"{clock(position)} of {clock(length)}"
    title, number = _title(playing), _number(playing)
    if width is not None:
        title = _begun(title, width - len(number) - len(time) - 2)
    return " ".join(part for part in (number, title, time) if part)


def opening(playing: Playing) -> str:
    """A sentence about a track that begins, with what is known of it."""
    length = _length(playing)
    parts = (*_sound(playing), None if length is None else clock(length))
    told = ", ".join(part for part in parts if part)
    return f"{_number(playing)} {_title(playing)}" + (f" ({told})" if told else "")


def progress(playing: Playing) -> str:
    """A line of a log: how far it is."""
    return ", ".join([f"{_number(playing)} {state(playing)} {_times(playing)}", *_arrival(playing)])


def draw(playing: Playing | None, tracks: Sequence[Track], width: int, *, keys: bool, ascii_only: bool) -> list[Text]:
    """The lines of the display, none wider than `width` cells; `keys` says that keys are read. Needs rich."""
    from rich.text import Text

    if playing is None:
        name = clean(tracks[0].title or "") or _ending(tracks[0].name, width, ascii_only=ascii_only) if tracks else ""
        lines = [Text(name, style="bold"), Text("loading")]
    else:
        lines = [
            Text(_headline(playing, width, ascii_only=ascii_only), style="bold"),
            *_moving(playing, width, ascii_only=ascii_only),
        ]
        if (facts := _fitting((*_kind(playing), *_arrival(playing)), width)) is not None:
            lines.append(Text(facts))
        if playing.cover is not None and (cover := _fitting(_cover(playing), width)) is not None:
            lines.append(Text(cover, style="dim"))
    if keys and (hint := _hint(width, ascii_only=ascii_only)) is not None:
        lines.append(Text(hint, style="dim"))
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    return lines


# --- Lines of the display


def _headline(playing: Playing, width: int, *, ascii_only: bool) -> str:
    """What it is called; of an address the end, where the name is, if it is longer than the line."""
    title = _title(playing)
    name = playing.track.name
    if not title.startswith(name):
        return title
    rest = title.removeprefix(name)
    return _ending(name, max(width - len(rest), width // 2), ascii_only=ascii_only) + rest


def _ending(name: str, width: int, *, ascii_only: bool) -> str:
    """The last `width` cells of an address; other names as they are."""
    from rich.cells import cell_len

    if "://" not in name or cell_len(name) <= width:
        return name
    mark = "..." if ascii_only else "…"
    room = max(0, width - len(mark))
    while cell_len(name) > room:
        name = name[1:]
    return mark + name


def _begun(text: str, width: int) -> str:
    """At most the first `width` cells."""
    from rich.text import Text

    shown = Text(text if width > 0 else "")
    shown.truncate(max(0, width), overflow="ellipsis")
    return shown.plain


def _moving(playing: Playing, width: int, *, ascii_only: bool) -> list[Text]:
    """Number, state and times, and the bar beside or below them."""
    from rich.text import Text

    # The time matters most, then what it does, then which of the tracks it is.
    number, doing, times = _number(playing), state(playing), _times(playing)
    if width >= _ONE_LINE:
        doing = f"{doing:<9}"  # so that the bar stays where it is
    for parts in ((number, doing, times), (doing, times), (times,)):
        text = "  ".join(parts)
        if len(text) <= width:
            break
    if _length(playing) is None and not playing.length:
        return [Text(text)]
    room = width - len(text) - 2
    if width >= _ONE_LINE and room >= 10:
        return [Text(text + "  ").append_text(_bar(playing, room, ascii_only=ascii_only))]
    return [Text(text), _bar(playing, width, ascii_only=ascii_only)]


def _bar(playing: Playing, width: int, *, ascii_only: bool) -> Text:
    from rich.text import Text

    played, present = _share(playing.position, _length(playing)), _share(playing.downloaded, playing.length)
    upto = {"played": round(played * width), "present": round(present * width), "absent": width}
    cells = _ASCII_CELLS if ascii_only else _CELLS
    bar, at = Text(), 0
    for name, end in upto.items():
        bar.append(cells[name] * (end - at), style=_STYLES[name])
        at = max(at, end)
    return bar


def _hint(width: int, *, ascii_only: bool) -> str | None:
    joint = "  "
    for parts in _HINTS:
        text = joint.join(parts)
        if ascii_only:
            text = text.replace("←→↑↓", "arrows").replace("←→", "left/right").replace("↑↓", "up/down")
        if len(text) <= width:
            return text
    return None


def _fitting(parts: Iterable[str], width: int) -> str | None:
    """As many of `parts`, in order, as fit; one that does not is left out for those after it. None if none does."""
    fitting: list[str] = []
    for part in parts:
        if part and len(", ".join([*fitting, part])) <= width:
            fitting.append(part)
    return ", ".join(fitting) if fitting else None


# --- Parts


def _number(playing: Playing) -> str:
    return f"{playing.index + 1}/{playing.count}"


def _title(playing: Playing) -> str:
    parts = [clean(part) for part in (playing.title or "", playing.artist or "", playing.album or "")]
    if not parts[0]:
        # Without a title the name is what tells it from the others.
        parts[0] = clean(playing.track.title or "") or clean(playing.track.name)
    return " – ".join(part for part in parts if part)


def _length(playing: Playing) -> float | None:
    """The duration, where it is one: a file may say anything."""
    length = playing.duration
    return length if length is not None and math.isfinite(length) and length > 0 else None


def _times(playing: Playing) -> str:
    length = _length(playing)
    return clock(playing.position) if length is None else f"{clock(playing.position)} / {clock(length)}"


def _share(part: float, whole: float | None) -> float:
    return 0.0 if not whole else min(1.0, max(0.0, part / whole))


def _sound(playing: Playing) -> list[str]:
    found = []
    if playing.codec is not None:
        found.append(clean(playing.codec))
    if playing.sample_rate:
        found.append(f"{playing.sample_rate} Hz")
    if playing.channels:
        found.append("1 channel" if playing.channels == 1 else f"{playing.channels} channels")
    return found


def _kind(playing: Playing) -> list[str]:
    """The codec and bitrate first, since what does not fit is left out from the end."""
    codec, rest = _sound(playing)[: playing.codec is not None], _sound(playing)[playing.codec is not None :]
    return codec + ([f"{playing.bitrate / 1000:.0f} kbit/s"] if playing.bitrate else []) + rest


def _arrival(playing: Playing) -> list[str]:
    return [] if playing.speed is None else [f"{amount(playing.speed)}/s"]


def _cover(playing: Playing) -> list[str]:
    if playing.cover is None:
        return []
    kind, *rest = cover_words(playing.cover)
    return [f"cover: {kind}", *rest]
