"""What goes wrong, and when: all of it follows from the seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from actors.testing.saboteur import Trap

__all__ = ["COMMANDS_OF", "FAULTS", "Due", "schedule"]

FAULTS = ("crash", "kill", "stop", "starve", "busy", "reset")
"""Of actors, and of worker processes: SIGKILL, SIGSTOP for good and for a while, no processor; of connections."""

WINDOW = 60.0
"""Seconds of the restart limit."""
STATIC_CRASHES = 4
"""The most crashes of static actors together within `WINDOW`: one fewer than the limit."""
STARVED = 0.6
"""The most of the heartbeat limit for which a worker is stopped and must survive."""

COMMANDS_OF: dict[str, tuple[str, ...]] = {
    "source-*": (
        "Attach",
        "ReaderAt",
        "SetPlaying",
        "AssetReady",
        "FetchHeaders",
        "FetchDone",
        "FetchCancelled",
        "AssetCommitted",
        "Detach",
    ),
    "registry": ("Fetch", "CancelFetch", "SetPriority", "Released", "PeerGone"),
    "downloader": ("Admitted", "CancelAdmitted", "AttemptHeaders", "AttemptEnded", "WatchLoads"),
    "asset_store": ("AcquireAsset", "CommitAsset", "ReleaseAsset"),
    "event_bus": ("Deliver",),
    "collector": ("Collect", "CollectedHead", "FetchDone"),
}
"""By actor: what comes often under this load."""


@dataclass(frozen=True, slots=True)
class Due:
    """One fault at `at` seconds. A crash has its `trap`, what lasts its `seconds`; `pick`, 0 to 1, is whom it hits."""

    at: float
    fault: str
    trap: Trap | None = None
    seconds: float = 0.0
    pick: float = 0.0


def schedule(seed: int, seconds: float, heartbeat_limit: float, faults: tuple[str, ...] = FAULTS) -> list[Due]:
    """What is to go wrong within `seconds`, in order. The same arguments give the same list."""
    plan: list[Due] = []
    # Each kind draws from numbers of its own: leaving one out changes nothing about the others.
    for fault in FAULTS:
        chance = random.Random(f"{seed} {fault}")
        if fault in faults:
            plan += _crashes(chance, seconds) if fault == "crash" else _others(chance, fault, seconds, heartbeat_limit)
    return sorted(plan, key=lambda due: due.at)


def _crashes(chance: random.Random, seconds: float) -> list[Due]:
    plan = []
    gap = WINDOW / STATIC_CRASHES
    at = chance.uniform(0.5, 2.0)
    while at < seconds:
        actor = chance.choice([name for name in COMMANDS_OF if name != "source-*"])
        again = int(chance.random() < 0.2)
        plan.append(Due(at, "crash", _trap(chance, actor, again)))
        # The next comes when so many can have left the window that the limit is not met.
        at += gap * (1 + again) + chance.uniform(0.5, 3.0)
    at = chance.uniform(0.2, 1.0)
    while at < seconds:
        plan.append(Due(at, "crash", _trap(chance, "source-*", int(chance.random() < 0.1))))
        at += chance.uniform(0.3, 2.0)
    return plan


def _trap(chance: random.Random, actor: str, again: int) -> Trap:
    return Trap(actor, chance.choice(COMMANDS_OF[actor]), chance.choice(("before", "after")), again)


_GAPS = {"kill": (2.0, 6.0), "stop": (8.0, 20.0), "starve": (4.0, 9.0), "busy": (8.0, 20.0), "reset": (0.3, 1.5)}


def _others(chance: random.Random, fault: str, seconds: float, heartbeat_limit: float) -> list[Due]:
    least, most = _GAPS[fault]
    plan = []
    at = chance.uniform(0.3, least)
    while at < seconds:
        lasts = 0.0
        if fault == "starve":
            lasts = heartbeat_limit * chance.uniform(0.1, STARVED)
        elif fault == "busy":
            lasts = chance.uniform(0.5, 2.0)
        plan.append(Due(at, fault, None, lasts, chance.random()))
        at += chance.uniform(least, most)
    return plan
