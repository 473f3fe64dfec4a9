"""One representation being held: its descriptor, its progress block, its wake-up, and what its owner says of it.

The Source owns the bookkeeping and publishes it as immutable `View`s; readers in any thread combine the view with
the progress words, without a lock and without a message.
"""

from __future__ import annotations

import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.memory.buffer import memory_file
from actors.memory.progress import ProgressBlock, WakeUp
from kithara_actors.assets.record import Lane, Record
from kithara_actors.errors import Failure
from kithara_actors.logic.leads import Reading
from kithara_actors.logic.ranges import Ranges
from kithara_actors.media.info import detect
from kithara_actors.messages.worker import HEAD_CODEC, Head
from kithara_actors.values import Answer, ContentId, MediaDetails, MediaInfo, Phase, StreamId

__all__ = ["SNIFF", "Content", "ContentTable", "Landing", "View"]

SNIFF = 64 * 1024
"""Bytes from the front that tell codec and container, where anything does."""

_CONTRADICTION = 4
"""Bytes from the front without which nothing contradicts a Content-Type."""


@dataclass(frozen=True, slots=True)
class View:
    """What the owner says, all at one moment.

    `failure` ended the asset for good. `setback` is the last error after which a fetch gave up, `setbacks` how many
    there were, `unreached` the bytes that the last one did not bring: who sees the number rise while it waits for
    one of these raises the setback. `incarnation` rises when the owner begins anew: what readers told the one before
    they have to tell again.
    """

    phase: Phase = Phase.INIT
    coverage: Ranges = Ranges()  # noqa: RUF009 - immutable
    lanes: tuple[Lane, ...] = ()
    failure: Failure | None = None
    setback: Failure | None = None
    setbacks: int = 0
    unreached: tuple[int, int | None] = (0, None)
    incarnation: int = 0


class _Held(ABC):
    """Has descriptors, for as long as somebody holds it; whoever made it is the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 1

    def retain(self) -> bool:
        """Hold the descriptors open until `release`. False if they are closed already."""
        with self._lock:
            if self._holders == 0:
                return False
            self._holders += 1
            return True

    def release(self) -> None:
        """Let go; the last one closes everything."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        self._free()

    @abstractmethod
    def _free(self) -> None:
        """Close the descriptors; called once."""


class Content(_Held):
    """Shared by one Source and its readers; freed when the last of them lets go. Safe from any thread."""

    def __init__(self, content: ContentId) -> None:
        self.id = content
        self.block = ProgressBlock()
        try:
            self.wake = WakeUp()
        except BaseException:
            self.block.close()
            raise
        self.view = View()
        self.record = Record()
        """For the owner alone."""
        self.readings: dict[StreamId, Reading] = {}
        """Where each of its streams reads."""
        self.path: Path | None = None
        self.details: MediaDetails | None = None
        """What the parsing process made of the whole file, once somebody asked."""
        self.outline: MediaDetails | None = None
        """What it made of the first bytes alone."""
        self.outline_asked = False
        self._successor: Content | None = None
        self._fd = -1
        super().__init__()

    @property
    def fd(self) -> int:
        """The data, or -1 until the store has provided it."""
        return self._fd

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker needs: the data, the progress block, the wake-up."""
        return self._fd, self.block.fd, self.wake.fd

    def attach(self, fd: int, path: Path | None = None) -> None:
        """Give the content its data, which it owns from here on."""
        with self._lock:
            if self._fd >= 0 or self._holders == 0:
                os.close(fd)
                return
            self._fd = fd
            self.path = path
            self.wake.signal()

    def _free(self) -> None:
        fd, self._fd = self._fd, -1
        self.block.close()
        self.wake.close()
        if fd >= 0:
            os.close(fd)
        if self._successor is not None:
            self._successor.release()

    def publish(self, view: View) -> None:
        """Replace the view and wake every reader. For the owner, and for who speaks after the owner has gone."""
        self.view = view
        self.signal()

    def signal(self) -> None:
        """Wake every reader; nothing happens once all have let go."""
        with self._lock:
            # Outside the lock the descriptor's number might by now be another file's.
            if self._holders:
                self.wake.signal()

    @property
    def successor(self) -> Content | None:
        """What took the place of this content, open for as long as this one is held."""
        return self._successor

    def replace_by(self, successor: Content) -> None:
        """Send readers on to `successor`. Only the owner calls this, once."""
        # Kept open from here: its own Source may have ended before the last reader comes over.
        if not successor.retain():
            raise ValueError("the successor is closed")
        self._successor = successor
        self.signal()

    @property
    def length(self) -> int | None:
        """Bytes in all, or None while that is not certain."""
        return self.block.length

    def first_bytes(self) -> bytes:
        """What is there of the first `SNIFF` bytes."""
        present = min(self.available(0), SNIFF)
        return os.pread(self.fd, present, 0) if present else b""

    def media_info(self) -> MediaInfo | None:
        """Codec and container, from the Content-Type, else from the first bytes; None until they can be told."""
        if not self.block.has_head:
            return None
        first = self.first_bytes()
        info = detect(self.content_type, first)
        # Bytes that are on their way may tell the codec, or contradict the Content-Type.
        unsure = info.codec is None or len(first) < _CONTRADICTION
        if unsure and len(first) < SNIFF and self.view.phase not in (Phase.COMPLETE, Phase.FAILED):
            return None
        return info

    def first_answer(self) -> Answer | None:
        """What the server first said; None before, and where none was asked."""
        answer = self.answer() if self.block.has_head else None
        return answer if answer is not None and answer.status else None

    @property
    def content_type(self) -> str | None:
        """The Content-Type, once there is a head."""
        return self.answer().content_type

    def answer(self) -> Answer:
        """What was first answered; there must be a head."""
        head = HEAD_CODEC.decode(self.block.blob)
        assert isinstance(head, Head)
        return head.answer

    def available(self, offset: int) -> int:
        """The end of the bytes that are present from `offset` on without a gap; `offset` itself if none is."""
        view = self.view
        end = offset
        while True:
            reached = view.coverage.covered_end(end)
            for lane in view.lanes:
                if lane.start > reached:
                    continue
                landed = self.block.landed(lane.slot, lane.generation)
                if landed is not None and landed > reached:
                    reached = landed
            if reached == end:
                return end
            end = reached

    def present(self) -> Ranges:
        """Every byte that is present."""
        view = self.view
        found = view.coverage
        for lane in view.lanes:
            landed = self.block.landed(lane.slot, lane.generation)
            if landed is not None and landed > lane.start:
                found = found.add(lane.start, landed)
        return found


class Landing(_Held):
    """Where one answer lands that nobody reads before it is complete: memory, without progress or wake-up.

    One without a body has none. Freed when the last holder lets go. Safe from any thread.
    """

    def __init__(self, content: ContentId, *, body: bool = True) -> None:
        self.id = content
        self.fd = memory_file("kithara-landing") if body else -1
        super().__init__()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker needs: the data."""
        return () if self.fd < 0 else (self.fd,)

    @property
    def landed(self) -> int:
        """How many bytes of a body have come that takes its time: the position of the descriptor, which is the worker's
        as well. A body that came with its head is not counted."""
        return 0 if self.fd < 0 else os.lseek(self.fd, 0, os.SEEK_CUR)

    def _free(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Of a batch that nobody has closed: whoever held it is gone.
        if getattr(self, "fd", -1) >= 0:
            self._free()


class _Kept(AbstractContextManager[tuple[int, ...] | None]):
    """The descriptors of what was retained, which is released at the end of the block."""

    __slots__ = ("_held",)

    def __init__(self, held: Content | Landing | None) -> None:
        self._held = held

    def __enter__(self) -> tuple[int, ...] | None:
        return None if self._held is None else self._held.descriptors

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.release()


class ContentTable:
    """Contents by id, for those who are told an id in a message. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: dict[ContentId, Content | Landing] = {}
        self._ids = itertools.count(1)

    def create(self) -> Content:
        """A new content, held once for the caller. Raises OSError (EMFILE, ENFILE)."""
        content = Content(ContentId(next(self._ids)))
        with self._lock:
            self._contents[content.id] = content
        return content

    def land(self, *, body: bool = True) -> Landing:
        """A new place for one answer, held once for the caller. Raises OSError (EMFILE, ENFILE, ENOMEM)."""
        content = ContentId(next(self._ids))
        landing = Landing(content, body=body)
        with self._lock:
            self._contents[landing.id] = landing
        return landing

    def discard(self, content: Content | Landing) -> None:
        """Forget `content` and release the hold that `create` or `land` gave."""
        with self._lock:
            known = self._contents.pop(content.id, None)
        if known is not None:
            content.release()

    @contextmanager
    def hold(self, content: ContentId) -> Iterator[Content | None]:
        """The content, kept open while the block runs; None if it is gone, or a landing."""
        found = self._retained(content)
        try:
            yield found if isinstance(found, Content) else None
        finally:
            if found is not None:
                found.release()

    def descriptors(self, content: ContentId) -> AbstractContextManager[tuple[int, ...] | None]:
        """What a worker needs of a content or a landing, kept open while the block runs; None if it is gone."""
        return _Kept(self._retained(content))

    def collected(self, content: ContentId) -> int:
        """How many bytes of the answer have come so far; 0 for what is no landing, or gone."""
        found = self._retained(content)
        try:
            return found.landed if isinstance(found, Landing) else 0
        finally:
            if found is not None:
                found.release()

    def _retained(self, content: ContentId) -> Content | Landing | None:
        with self._lock:
            found = self._contents.get(content)
            return found if found is not None and found.retain() else None

    def landing(self) -> int:
        """Bytes that running requests have stored so far."""
        with self._lock:
            contents = [content for content in self._contents.values() if content.retain()]
        total = 0
        for content in contents:
            if isinstance(content, Landing):
                total += content.landed
            else:
                for lane in content.view.lanes:
                    landed = content.block.landed(lane.slot, lane.generation)
                    total += 0 if landed is None else landed - lane.spec.start
            content.release()
        return total

    def waited_for(self) -> list[Content]:
        """The contents of which some call waits for bytes at this moment; they are not held."""
        with self._lock:
            contents = [content for content in self._contents.values() if isinstance(content, Content)]
        return [each for each in contents if any(reading.waits for reading in list(each.readings.values()))]

    def __contains__(self, content: ContentId) -> bool:
        with self._lock:
            return content in self._contents

    def __len__(self) -> int:
        with self._lock:
            return len(self._contents)
