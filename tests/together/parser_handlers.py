"""Parsing processes that go wrong in one way each; named by tests, run in real processes."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from actors.worker.handler import Send
from kithara_actors.values import MediaDetails, MediaInfo
from kithara_actors.worker import parser
from kithara_actors.worker.parser import ParseHandler, make_handler

__all__ = ["dying", "hungry", "slow"]


def dying(settings: bytes, send: Send) -> ParseHandler:
    """Whoever gives it a file loses it."""

    def describe(file: BinaryIO, info: MediaInfo, *, whole: bool) -> MediaDetails:
        os._exit(9)

    return _with(describe, settings, send)


def slow(settings: bytes, send: Send) -> ParseHandler:
    """Never ends."""

    def describe(file: BinaryIO, info: MediaInfo, *, whole: bool) -> MediaDetails:
        while True:
            file.seek(0)

    return _with(describe, settings, send)


def hungry(settings: bytes, send: Send) -> ParseHandler:
    """Wants more memory than it may have."""

    def describe(file: BinaryIO, info: MediaInfo, *, whole: bool) -> MediaDetails:
        return MediaDetails(remark=str(len(bytearray(1 << 31))))

    return _with(describe, settings, send)


def _with(describe: Any, settings: bytes, send: Send) -> ParseHandler:
    parser.describe = describe
    return make_handler(settings, send)
