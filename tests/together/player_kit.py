"""What the tests of the player share: sound files made here, what they hold, and an output that follows a script."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import av
import av.error
import av.filter

from actors.clock import monotonic
from kithara_actors import ActorSystem
from kithara_actors.command.player.engine import Player
from kithara_actors.command.player.outputs import Output
from kithara_actors.command.player.sound import Format
from kithara_actors.command.player.tracks import Playing, Track

__all__ = [
    "CODECS",
    "HANG",
    "Heard",
    "Scripted",
    "moved",
    "player_of",
    "reference",
    "sound_file",
    "tracks",
    "until",
]

HANG = 30.0
"""Seconds after which a test calls it a hang."""

CODECS = {
    "flac": ("flac", "flac", "s16"),
    "m4a": ("ipod", "aac", "fltp"),
    "mp4": ("mp4", "aac", "fltp"),
    "mp3": ("mp3", "libmp3lame", "s16p"),
    "ogg": ("ogg", "libopus", "s16"),
    "wav": ("wav", "pcm_s16le", "s16"),
}
"""By suffix: FFmpeg's names of container, codec and sample format. Those of `mp4` are fragments without an index."""


@functools.lru_cache(maxsize=64)
def sound_file(
    suffix: str,
    seconds: float = 6,
    rate: int = 44_100,
    layout: str = "stereo",
    *,
    tags: bool = False,
    bit_rate: int = 128_000,
    xing: bool = True,
) -> bytes:
    """Sweeps, another one in each channel: no two moments sound alike."""
    container_name, codec, sample_format = CODECS[suffix]
    rate = 48_000 if codec == "libopus" else rate  # it knows no other
    count = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    tones = "|".join(f"0.4*sin(2*PI*({110 * (channel + 1)}*t+{30 + channel}*t*t))" for channel in range(count))
    graph = av.filter.Graph()
    chain = [
        graph.add("aevalsrc", f"exprs='{tones}':s={rate}:d={seconds}:c={layout}"),
        graph.add("aformat", f"sample_fmts={sample_format}:channel_layouts={layout}"),
        graph.add("abuffersink"),
    ]
    chain[0].link_to(chain[1])
    chain[1].link_to(chain[2])
    graph.configure()
    out = io.BytesIO()
    options = {} if xing else {"write_xing": "0", "id3v2_version": "0"}
    if suffix == "mp4":
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
    with av.open(out, "w", format=container_name, options=options) as container:
        if tags:
            container.metadata.update({"title": "Sweep", "artist": "Tester", "album": "Recordings"})
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if suffix in ("mp3", "m4a", "mp4"):
            stream.bit_rate = bit_rate
        at = 0
        while True:
            try:
                frame = graph.pull()
            except av.error.EOFError:
                break
            assert isinstance(frame, av.AudioFrame)
            frame.pts, at = at, at + frame.samples
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@functools.lru_cache(maxsize=64)
def reference(data: bytes, rate: int = 44_100, layout: str = "stereo") -> bytes:
    """The sound of a file as PyAV decodes it, in one go, from memory."""
    resampler = av.AudioResampler(format="s16", layout=layout, rate=rate)
    size = 4 if layout == "stereo" else 2
    parts = []
    with av.open(io.BytesIO(data)) as container:
        for decoded in [*container.decode(audio=0), None]:
            if decoded is not None:
                decoded.pts = None
            parts += [bytes(frame.planes[0])[: frame.samples * size] for frame in resampler.resample(decoded)]
    return b"".join(parts)


def tracks(*sources: str) -> list[Track]:
    return [Track(source, source.rpartition("/")[2]) for source in sources]


@dataclass
class Heard:
    """What the player told."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    started: list[Playing] = field(default_factory=list)
    ended: list[Playing] = field(default_factory=list)

    @property
    def order(self) -> list[int]:
        return [playing.index for playing in self.started]


class Scripted:
    """Keeps the sound, and calls `then` after each piece, on the player's thread."""

    pulls = False

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.then = then
        self.form = Format(1, 1)
        self.sound = bytearray()
        self.pauses: list[bool] = []
        self.finished = self.closed = False

    @property
    def seconds(self) -> float:
        return len(self.sound) / self.form.frame / self.form.rate

    def open(self, form: Format, take: Callable[[int], bytes]) -> None:
        self.form = form

    def write(self, sound: bytes) -> None:
        self.sound += sound
        self.then()

    def pause(self, *, paused: bool) -> None:
        self.pauses.append(paused)

    def check(self) -> None:
        """Always well."""

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True


def player_of(
    system: ActorSystem, wanted: Sequence[Track], output: Output, headers: dict[str, str] | None = None
) -> tuple[Player, Heard]:
    heard = Heard()
    player = Player(
        system,
        wanted,
        output,
        headers or {},
        lambda track, text: heard.failures.append((track.shown, text)),
        heard.started.append,
        heard.ended.append,
    )
    return player, heard


def until(player: Player, enough: Callable[[], object]) -> None:
    """Wait until `enough` holds, looked at whenever the player's state changes, and every so often: not all is told."""
    end = monotonic() + HANG
    with player._sounds.changed:
        while not enough():
            assert monotonic() < end, player._sounds.current
            player._sounds.changed.wait(0.05)


def moved(player: Player, wish: Callable[[], object]) -> None:
    """Do what `wish` does, and wait until the player has begun to obey."""
    with player._sounds.changed:
        before = player._sounds.generation
        wish()
        assert player._sounds.changed.wait_for(lambda: player._sounds.generation != before, HANG)
