"""Where assets live: gives a content its descriptor, and makes it durable under its name once complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.memory.buffer import memory_file
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.content import ContentTable
from kithara_actors.assets.shelf import Active, Kept, Shelf, is_at
from kithara_actors.errors import Failure
from kithara_actors.messages.commands import (
    AcquireAsset,
    Announce,
    AssetCommitted,
    AssetReady,
    AssetRefused,
    CommitAsset,
    ReleaseAsset,
)
from kithara_actors.values import ContentId

__all__ = ["AssetStore"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class AssetStore(Behaviour):
    """Keeps committed assets by key, in `cache_path` or in memory, there within `memory_limit`, oldest out first.

    The record of what is committed lives as long as the system: a later system fetches anew. File names are a
    digest and a checked extension; nothing of a URL or header is in a path.
    """

    def __init__(
        self,
        cache_path: Path | None,
        memory_limit: int,
        contents: ContentTable,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        shelf: Shelf,
        sources: Callable[[], Iterable[Address]],
    ) -> None:
        """`sources` are those that may want something of the store."""
        self._root = None if cache_path is None else cache_path / "v1"
        self._memory_limit = memory_limit
        self._contents = contents
        self._find = find
        self._publisher = publisher
        self._sources = sources
        self._shelf = shelf
        self._active = shelf.active
        self._kept = shelf.kept

    def on_start(self) -> None:
        if self._root is not None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for content in [content for content in self._active if content not in self._contents]:
            # Its source has let go of it, and that was not heard.
            self._shelf.drop(content)
        self._shelf.committed = {content for content in self._shelf.committed if content in self._contents}
        for source in self._sources():
            source.tell(Announce("asset_store"))

    def on_restart(self, reason: BaseException | None) -> None:
        """The shelf stays as it is."""

    def on_stop(self) -> None:
        self._shelf.close()

    def handle(self, command: Command) -> None:
        match command:
            case AcquireAsset():
                self._acquire(command)
            case CommitAsset():
                self._commit(command)
            case ReleaseAsset(content, source):
                self._shelf.drop(content)
                # A source that fails waits for this before it says so.
                self._tell(source, AssetRefused(content, Failure("Cancelled", "the content was released")))
            case _:
                raise TypeError(f"AssetStore does not handle {type(command).__name__}")

    def _acquire(self, order: AcquireAsset) -> None:
        if order.content in self._shelf.committed:
            self._tell(order.source, AssetCommitted(order.content))
            return
        if order.content in self._active:
            self._provide(order, self._active[order.content])
            return
        kept = self._kept.get(order.key)
        try:
            if kept is not None and order.target is None and self._serve(order, kept):
                return
            if self._provided(order.content):
                # Another file would not be the one that its readers have.
                lost = Failure("InternalError", "what was stored of the file has been dropped")
                self._tell(order.source, AssetRefused(order.content, lost))
                return
            active = self._open(order)
        except OSError as error:
            self._tell(order.source, AssetRefused(order.content, _failure(error)))
            return
        self._active[order.content] = active
        self._provide(order, active)

    def _provided(self, content: ContentId) -> bool:
        with self._contents.hold(content) as held:
            return held is not None and held.fd >= 0

    def _provide(self, order: AcquireAsset, active: Active) -> None:
        with self._contents.hold(order.content) as content:
            if content is not None and content.fd < 0:
                content.attach(os.dup(active.fd))
        self._tell(order.source, AssetReady(order.content, None, None))

    def _serve(self, order: AcquireAsset, kept: Kept) -> bool:
        """Hand out a committed asset; False, and forgotten, if its file is gone or of another length."""
        try:
            fd = os.dup(kept.fd) if kept.path is None else os.open(kept.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            del self._kept[order.key]
            return False
        if os.fstat(fd).st_size != kept.length:
            os.close(fd)
            del self._kept[order.key]
            return False
        self._kept.move_to_end(order.key)
        with self._contents.hold(order.content) as content:
            if content is None:
                os.close(fd)
            else:
                content.attach(fd, kept.path)
        self._tell(order.source, AssetReady(order.content, kept.length, kept.content_type))
        return True

    def _open(self, order: AcquireAsset) -> Active:
        if order.target is not None:
            final = Path(order.target)
            part = final.with_name(final.name + ".part")
            return Active(order.source, order.key, _claim(part, 0o666), part, final, own_target=True)
        if self._root is None or not order.key:
            return Active(order.source, order.key, memory_file("kithara-asset"), None, None, own_target=False)
        folder = self._root / order.key[:2]
        folder.mkdir(mode=0o700, exist_ok=True)
        final = folder / f"{order.key}.{order.extension}"
        part = folder / f"{order.key}.part"
        try:
            fd = _claim(part, 0o600)
        except BlockingIOError:
            # Somebody else is fetching the same asset: another process, or a source of ours that is leaving.
            part = folder / f"{order.key}.{secrets.token_hex(4)}.part"
            fd = _claim(part, 0o600)
        return Active(order.source, order.key, fd, part, final, own_target=False)

    def _commit(self, order: CommitAsset) -> None:
        active = self._active.get(order.content)
        if active is None:
            return  # committed already, which `_acquire` tells who asks again
        try:
            if os.fstat(active.fd).st_size != order.length:
                os.ftruncate(active.fd, order.length)
            if active.part is not None and active.final is not None:
                if active.own_target:
                    _keep_mode(active.fd, active.final)
                if not is_at(active.final, active.fd):  # else it was renamed before, and that was not told
                    active.part.rename(active.final)
                fcntl.flock(active.fd, fcntl.LOCK_UN)
                _sync_folder(active.final.parent)
        except OSError as error:
            self._tell(active.source, AssetRefused(order.content, _failure(error)))
            return
        del self._active[order.content]
        self._shelf.committed.add(order.content)
        with self._contents.hold(order.content) as content:
            if content is not None:
                content.path = active.final
        if active.own_target:
            os.close(active.fd)
        else:
            self._keep(active, order)
        self._tell(active.source, AssetCommitted(order.content))

    def _keep(self, active: Active, order: CommitAsset) -> None:
        fd = active.fd
        if not active.key:
            os.close(fd)  # of its streams alone, who hold descriptors of their own
            return
        if active.final is not None:
            os.close(fd)
            fd = -1
        before = self._kept.pop(active.key, None)
        if before is not None and before.fd >= 0:
            os.close(before.fd)
        self._kept[active.key] = Kept(order.length, order.content_type, fd, active.final)
        while self._root is None and sum(kept.length for kept in self._kept.values()) > self._memory_limit:
            # A reader of an evicted asset holds a descriptor of its own and reads on.
            _, oldest = self._kept.popitem(last=False)
            os.close(oldest.fd)

    def _tell(self, source: str, command: Command) -> None:
        address = self._find(source)
        if address is not None:
            address.tell(command)


def _keep_mode(fd: int, final: Path) -> None:
    """Who may read a file is not changed by replacing it."""
    with contextlib.suppress(FileNotFoundError):
        os.fchmod(fd, stat.S_IMODE(final.stat().st_mode))


def _claim(part: Path, mode: int) -> int:
    """An empty file at `part`, locked for as long as anybody holds the descriptor; what a dead owner left is emptied.

    BlockingIOError if somebody else writes there.
    """
    while True:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(part, fd):
                os.ftruncate(fd, 0)
                return fd
        except BlockingIOError as error:
            os.close(fd)
            raise BlockingIOError(error.errno, "another download is writing it", str(part)) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its owner renamed or removed it between our open and our lock


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failure(error: OSError) -> Failure:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in _NO_ROOM:
        return Failure("StorageFull", f"no room for the file: {error.strerror}{where}")
    return Failure("StreamError", f"the file cannot be stored: {error.strerror}{where}")
