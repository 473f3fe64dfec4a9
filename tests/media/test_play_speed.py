"""The speed that the player shows: of what arrives, wherever the decoder reads."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kithara_actors.command.player.decoder import SourceFile
from kithara_actors.command.player.opened import Opened
from kithara_actors.command.player.tracks import Track
from kithara_actors.logic.ranges import Ranges
from kithara_actors.system import ActorSystem
from kithara_actors.values import Phase

RATE = 8_000
TICK = 0.25


class Arriving:
    """Stands for a system and its one stream: bytes arrive at `lane`, the decoder is at `at`."""

    closed = False
    phase = Phase.DOWNLOADING
    length = 1_000_000
    media_info = None
    name = "a"

    def __init__(self) -> None:
        self.at = self.lane = 0
        self.present = Ranges()
        self.now = 100.0
        self.opened = Opened(cast("ActorSystem", self), 0, Track("http://host/a", "a"), {})

    def open(self, *_: Any, **__: Any) -> Any:
        return self

    def tell(self) -> int:
        return self.at

    @property
    def buffered(self) -> int:
        return self.present.covered_end(self.at) - self.at

    def tick(self, *, rate: int = RATE, times: int = 1) -> list[float | None]:
        speeds = []
        for _ in range(times):
            self.now += TICK
            if rate:
                self.lane = self.present.covered_end(self.lane)
                self.present = self.present.add(self.lane, self.lane + int(rate * TICK))
                self.lane += int(rate * TICK)
            self.opened.measure(self.now)
            speeds.append(self.opened.playing(1, 0.0, paused=False, waiting=False).speed)
        return speeds

    def waits(self) -> None:
        self.opened.file = SourceFile(cast("Any", self), lambda: True)
        self.opened.file.reading = True


def close_to_the_rate(speeds: list[float | None]) -> bool:
    return all(speed is None or speed == pytest.approx(RATE) for speed in speeds) and speeds[-1] is not None


def test_jumps_are_no_speed() -> None:
    bytes_ = Arriving()
    assert close_to_the_rate(bytes_.tick(times=8))
    for target in (80_000, 500_000, 40_000):
        bytes_.at = bytes_.lane = target
        assert close_to_the_rate(bytes_.tick(times=8))
    bytes_.at = 1_000  # where all is there, with a gap behind it
    bytes_.lane = 16_000
    assert close_to_the_rate(bytes_.tick(times=20))


def test_what_came_elsewhere_in_the_meantime_is_not_counted() -> None:
    bytes_ = Arriving()
    bytes_.tick(times=8)
    bytes_.at = 500_000
    bytes_.tick(times=20)  # still to the front
    bytes_.at = 1_000
    assert close_to_the_rate(bytes_.tick(times=8))


def test_without_a_sign_of_the_transfer_there_is_no_speed() -> None:
    bytes_ = Arriving()
    bytes_.tick(times=8)
    bytes_.at, bytes_.lane = 1_000, 500_000
    assert bytes_.tick(times=8)[-1] is None


def test_a_reader_that_waits_in_vain_sees_it_stop() -> None:
    bytes_ = Arriving()
    bytes_.tick(times=8)
    bytes_.at = bytes_.lane
    bytes_.waits()
    assert bytes_.tick(rate=0, times=40)[-1] == 0
