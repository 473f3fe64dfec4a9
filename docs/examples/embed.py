"""Embed the system in a program of your own. Runs without a network: it brings its own slow HTTP server.

python docs/examples/embed.py
"""

from __future__ import annotations

import threading

from kithara_actors import ActorSystem, Cancelled, StatusError
from kithara_actors.events import Envelope, RequestCompleted, WorkerStarted
from kithara_actors.testing.origin import Origin, Resource

SONG = Resource(size=10_000_000, rate=10_000_000, content_type="audio/flac")


def log(envelope: Envelope) -> None:
    """Called on a thread of the subscription's own, so it may take its time."""
    match envelope.event:
        case RequestCompleted(request_id, count, duration):
            print(f"RequestCompleted: request {request_id}, {count} bytes in {duration:.2f} s", flush=True)
        case WorkerStarted(worker, pid):
            print(f"WorkerStarted: worker {worker}, process {pid}", flush=True)


def main() -> None:
    with Origin() as origin, ActorSystem.start(workers=2) as system:
        system.subscribe(callback=log)
        url = origin.add("/song.flac", SONG)

        # Returns at once; the first read waits for its bytes, and for no others.
        with system.open(url) as stream:
            assert stream.read(4) == SONG.read(0, 4)
            print(f"{stream.length} bytes, {stream.media_info}")

            # Far ahead of the download: the next read aims it there.
            stream.seek(8_000_000)
            assert stream.read(1000) == SONG.read(8_000_000, 8_001_000)
            print(f"read 1000 bytes from 8000000 while the file is {stream.phase}")

            # From any thread, without a position.
            assert stream.read_at(123, 7) == SONG.read(123, 130)

            # The whole file, committed.
            print(f"complete: {stream.wait_complete(timeout=30)}")

        # What goes wrong is an OSError of a precise kind, raised by the read.
        with system.open(origin.url("/missing.flac")) as missing:
            try:
                missing.read(1)
            except StatusError as error:
                print(f"StatusError: {error} (status {error.status})")

        # A blocked read ends when its stream is cancelled, from any thread.
        slow = origin.add("/slow.flac", Resource(size=10_000_000, rate=10_000))
        with system.open(slow) as stream:
            threading.Timer(0.2, stream.cancel).start()
            try:
                stream.read()
            except Cancelled as error:
                print(f"Cancelled: {error}")


if __name__ == "__main__":
    main()
