"""A real recording to show the system with: two tones that cross, in MP3, made by PyAV (extra `play`)."""

from __future__ import annotations

import io

from kithara_actors.command.explain import CommandError

__all__ = ["RATE", "make_recording"]

RATE = 44_100
"""Samples per second."""

# Left rises from 110 Hz, right falls to it: no two seconds are alike.
_TONES = "0.4*sin(2*PI*(110*t+30*t*t))|0.4*sin(2*PI*({high}*t-30*t*t))"


def make_recording(seconds: int) -> bytes:
    """A stereo MP3 at 192 kbit/s, 24,000 bytes a second. Blocks for about a thirtieth of its length.

    Raises CommandError where PyAV is missing or cannot encode MP3.
    """
    try:
        import av
        import av.error
        import av.filter
    except ImportError:
        raise CommandError("the demo decodes sound with PyAV: pip install 'kithara-actors[play]'") from None
    graph = av.filter.Graph()
    tones = _TONES.format(high=110 + 60 * seconds)
    chain = [
        graph.add("aevalsrc", f"exprs='{tones}':s={RATE}:d={seconds}:c=stereo"),
        graph.add("aformat", "sample_fmts=s16p:channel_layouts=stereo"),
        graph.add("abuffersink"),
    ]
    chain[0].link_to(chain[1])
    chain[1].link_to(chain[2])
    graph.configure()
    out = io.BytesIO()
    try:
        with av.open(out, "w", format="mp3") as container:
            stream = container.add_stream(
                "libmp3lame", rate=RATE, layout="stereo", bit_rate=192_000, options={"compression_level": "9"}
            )
            while True:
                try:
                    frame = graph.pull()
                except av.error.EOFError:
                    break
                assert isinstance(frame, av.AudioFrame)
                frame.pts = None  # in the stream's own time base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise CommandError(f"PyAV cannot encode MP3 here: {error}; install its wheel with pip") from None
    return out.getvalue()
