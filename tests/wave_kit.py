"""WAV files made by hand: the one format that needs no encoder."""

from __future__ import annotations

__all__ = ["wave_bytes"]

RATE = 44_100


def wave_bytes(*, seconds: float = 1.0, junk: int = 0, channels: int = 2, rate: int = RATE) -> bytes:
    """A 16-bit PCM WAV file of a quiet ramp. `junk` bytes stand between its first chunk and its format."""
    frames = round(seconds * rate)
    ramp = b"".join((at % 1000).to_bytes(2, "little") * channels for at in range(1000))
    sound = (ramp * (frames // 1000 + 1))[: frames * 2 * channels]
    shape = b"\x01\x00" + channels.to_bytes(2, "little") + rate.to_bytes(4, "little")
    shape += (rate * 2 * channels).to_bytes(4, "little") + (2 * channels).to_bytes(2, "little") + b"\x10\x00"
    filler = _chunk(b"JUNK", bytes(junk)) if junk else b""
    inside = b"WAVE" + filler + _chunk(b"fmt ", shape) + _chunk(b"data", sound)
    return b"RIFF" + len(inside).to_bytes(4, "little") + inside


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + b"\x00" * (len(content) % 2)
