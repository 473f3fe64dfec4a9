"""Whatever happens to those who wait for a slot is decided in the same way again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from recorder_kit import frames, recorder, replayed
from test_slots import Admission

from kithara_actors.messages.frames import Event


class RecordedAdmission(Admission):
    """Any sequence of events."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.recorder = recorder(self.folder / "trace")
        self.slots.map = self.recorder.machine("registry", self.slots.map)

    def teardown(self) -> None:
        try:
            super().teardown()
            replay = replayed(self.folder / "trace")
            assert not replay.passed
            decisions = [frame for frame in frames(self.folder / "trace") if isinstance(frame, Event)]
            assert sum(replay.replayed.values()) == len(decisions)
        finally:
            self.recorder.close()
            shutil.rmtree(self.folder)


TestRecordedAdmission = RecordedAdmission.TestCase
TestRecordedAdmission.settings = settings(
    max_examples=20, stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow]
)
