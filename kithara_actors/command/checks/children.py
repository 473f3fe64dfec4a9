"""What foreign code says of itself, asked in a process of its own: it may crash, hang or write where it likes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kithara_actors.command.checks.finding import Finding, State

__all__ = ["CODECS", "ask", "decoders", "mp4_index", "sound"]

CODECS = ("mp3", "flac", "aac", "alac", "vorbis", "opus")
_LIMIT = 20.0
_PLAY = "pip install 'kithara-actors[play]'"

_DECODERS = """
import av
answer = {"version": av.__version__, "codecs": sorted(av.codecs_available)}
"""
_SOUND = """
import miniaudio
devices = miniaudio.Devices()
names = [device["name"] for device in devices.get_playbacks()]
answer = {"version": miniaudio.__version__, "backend": str(devices.backend), "names": names}
"""
_MP4 = """
from pymp4.parser import Box
read = Box.parse(b"\\0\\0\\0\\x10ftypM4A \\0\\0\\0\\0")
answer = {"type": read.type.decode()}
"""
_AROUND = """
import json
try:
    {code}
except ImportError as error:
    answer = {{"missing": str(error)}}
except Exception as error:
    answer = {{"failed": f"{{type(error).__name__}}: {{error}}"}}
print("\\n" + json.dumps(answer))
"""


def decoders() -> Finding:
    """PyAV, and which of the codecs that matter its FFmpeg can decode."""
    answer = ask(_DECODERS)
    if isinstance(answer, str):
        return Finding("decoders", State.PROBLEM, f"PyAV: {answer}", "pip install --force-reinstall av")
    if "missing" in answer:
        finding = f"PyAV cannot be imported: {answer['missing']}"
        return Finding("decoders", State.NOTE, finding, f"to play and to decode: {_PLAY}")
    there = [codec for codec in CODECS if codec in answer["codecs"]]
    lacking = [codec for codec in CODECS if codec not in answer["codecs"]]
    finding = f"PyAV {answer['version']} decodes {', '.join(there) or 'nothing'}"
    if lacking:
        finding += f"; not {', '.join(lacking)}"
        return Finding("decoders", State.NOTE, finding, "install PyAV from a wheel: pip install --only-binary av av")
    return Finding("decoders", State.OK, finding)


def sound() -> Finding:
    """The devices that sound can be played on."""
    answer = _asked_of_sound()
    silent = "use kithara play --output FILE.wav or --null"
    if isinstance(answer, str):
        return Finding("sound", State.NOTE, f"miniaudio: {answer}", silent)
    if "missing" in answer:
        finding = f"miniaudio cannot be imported: {answer['missing']}"
        return Finding("sound", State.NOTE, finding, f"to hear sound: {_PLAY}; else {silent}")
    if "failed" in answer:
        return Finding("sound", State.NOTE, f"no sound system answers: {answer['failed']}", silent)
    # ALSA and miniaudio each have a device of their own that drops what it gets; it is there on every machine.
    names = [name for name in answer["names"] if not name.startswith(("Discard all samples", "NULL "))]
    if not names:
        return Finding("sound", State.NOTE, f"no device for sound (asked {answer['backend']})", silent)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Finding("sound", State.OK, f"{answer['backend']}: {', '.join(names[:3])}{more}")


def mp4_index() -> Finding:
    """pymp4, which stands on an old version of construct that new Pythons may refuse."""
    answer = ask(_MP4)
    error = answer if isinstance(answer, str) else answer.get("missing") or answer.get("failed")
    if error is None:
        return Finding("mp4", State.OK, "pymp4 reads MP4 boxes")
    return Finding(
        "mp4",
        State.NOTE,
        f"pymp4 does not work: {error}; there will be no index of fragmented MP4",
        "pip install --force-reinstall pymp4",
    )


def _asked_of_sound() -> Any:
    """libpulse leaves folders where the user has none of it: these go into one that is taken away."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "pulse"  # noqa: PTH111
    with tempfile.TemporaryDirectory(prefix="kithara-sound-") as scratch:
        more = {}
        if not config.exists():
            more["PULSE_COOKIE"] = f"{scratch}/cookie"
            if not os.environ.get("XDG_RUNTIME_DIR"):
                more["PULSE_RUNTIME_PATH"] = scratch
        return ask(_SOUND, environment={**more, **os.environ})


def ask(code: str, limit: float = _LIMIT, environment: Mapping[str, str] | None = None) -> Any:
    """The `answer` that `code` makes, or a text about how its process ended. Blocks at most `limit` seconds."""
    whole = _AROUND.format(code=code.strip().replace("\n", "\n    "))
    try:
        # -P: the folder that this runs in may be somebody else's, and hold modules.
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", whole],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {limit:g} s"
    if done.returncode < 0:
        return f"crashed: {signal.Signals(-done.returncode).name}"
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return f"ended with status {done.returncode}"
