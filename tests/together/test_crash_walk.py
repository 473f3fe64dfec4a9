"""Every actor is crashed at every command that it handles, before and after: nobody outside sees anything of it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from crash_walk_kit import SCENES, handled, kind_of, rigged

from actors.testing.sabotage import Moment
from actors.testing.saboteur import Saboteur, Trap
from kithara_actors.actor import enquiries
from kithara_actors.messages.commands import COMMANDS
from kithara_actors.messages.events import ActorRestarted

WALK: dict[str, dict[str, str]] = {
    "source": {
        "Attach": "reading",
        "AttachPrefetch": "reading",
        "Detach": "reading",
        "ReaderAt": "reading",
        "WantLength": "reading",
        "WantAll": "reading",
        "SetPlaying": "reading",
        "AssetReady": "reading",
        "AssetRefused": "refusing",
        "AssetCommitted": "reading",
        "FetchHeaders": "reading",
        "FetchDone": "reading",
        "FetchFailed": "refusing",
        "FetchCancelled": "reading",
        "FetchOver": "reading",
        "Announce": "reading",
    },
    "registry": {
        "Fetch": "reading",
        "CancelFetch": "reading",
        "SetPriority": "reading",
        "Parked": "reading",
        "Requeue": "reading",
        "Released": "reading",
        "PeerGone": "reading",
        "Reconsider": "preempting",
        "Readmit": "reading",
        "Recounted": "reading",
        "EndRequests": "stopping",
    },
    "downloader": {
        "Admitted": "reading",
        "CancelAdmitted": "reading",
        "Preempt": "preempting",
        "BackoffOver": "reading",
        "AttemptHeaders": "reading",
        "AttemptEnded": "reading",
        "WorkerUp": "losing",
        "WorkerGone": "losing",
        "WorkerRetires": "suspecting",
        "WatchSuspects": "suspecting",
        "WatchLoads": "reading",
        "AskRedirect": "asking",
        "CallAnswered": "asking",
        "CallLate": "asking",
        "AttemptsInFlight": "reading",
        "Readmitted": "reading",
        "Recount": "reading",
        "EndRequests": "stopping",
    },
    "asset_store": {"AcquireAsset": "reading", "CommitAsset": "reading", "ReleaseAsset": "reading"},
    "event_bus": {"Deliver": "reading"},
    "collector": {
        "Collect": "calling",
        "Abandon": "calling",
        "CollectedHead": "calling",
        "FetchDone": "calling",
        "FetchFailed": "refusing",
        "FetchCancelled": "calling",
        "FetchOver": "calling",
        "Announce": "calling",
    },
}
"""Actor and command, and the scene in which they meet."""
FIRST: dict[tuple[str, str], Trap] = {
    ("source", "FetchOver"): Trap("source-*", "FetchDone"),
    ("source", "Announce"): Trap("registry", "Fetch", "after"),
    ("registry", "Readmit"): Trap("downloader", "AttemptHeaders", "after"),
    ("registry", "Recounted"): Trap("registry", "Fetch", "after"),
    ("downloader", "AttemptsInFlight"): Trap("downloader", "AttemptHeaders", "after"),
    ("downloader", "Readmitted"): Trap("downloader", "AttemptHeaders", "after"),
    ("downloader", "Recount"): Trap("registry", "Fetch", "after"),
    ("collector", "FetchOver"): Trap("collector", "FetchDone"),
    ("collector", "Announce"): Trap("registry", "Fetch", "after"),
}
"""What is said only when an actor has begun anew, and the crash for that."""
ELSEWHERE = {"Done", "CancelAttempt", "RedirectJudged", "ReportAttempts", "RunAttempt"}
"""Answers, and what goes to workers."""
ALSO = [("registry", "Parked"), ("registry", "Requeue"), ("registry", "Released"), ("downloader", "AttemptEnded")]
"""What has a place in the middle of a preemption, too."""
POINTS = [(actor, command, scene) for actor, scenes in WALK.items() for command, scene in scenes.items()]
POINTS += [(actor, command, "preempting") for actor, command in ALSO]
QUICK = {"source": "FetchHeaders", "registry": "Fetch", "downloader": "AttemptHeaders", "collector": "Collect"}


def test_every_command_has_its_place_in_the_walk() -> None:
    names = {command.__name__ for command in COMMANDS}
    walked = {command for scenes in WALK.values() for command in scenes}
    assert walked | ELSEWHERE == names
    assert not walked & ELSEWHERE


@pytest.mark.parametrize("actor", WALK)
def test_walk_has_what_the_actor_handles(actor: str) -> None:
    assert set(WALK[actor]) == handled(actor)


@pytest.mark.parametrize("scene", SCENES)
def test_scene_reaches_what_the_walk_takes_it_for(scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enquiries, "CALL_LIMIT", 0.5)
    with rigged(scene) as rig:
        SCENES[scene](rig)
    wanted = {(actor, command, "before") for actor, command, where in POINTS if where == scene}
    wanted -= {(actor, command, "before") for actor, command in FIRST}
    assert wanted <= rig.reached


@pytest.mark.minutes
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("actor", "command", "scene"), POINTS, ids=lambda part: part)
def test_actor_crashed_at_any_command(
    actor: str, command: str, scene: str, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(actor, command, scene, moment, monkeypatch)


@pytest.mark.parametrize(("actor", "command"), QUICK.items())
def test_actor_crashed_at_one_of_its_commands(actor: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walk(actor, command, WALK[actor][command], "after", monkeypatch)


def walk(actor: str, command: str, scene: str, moment: Moment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crash it there, once, and see that the scene goes as it always does, and that the restart is told."""
    monkeypatch.setattr(enquiries, "CALL_LIMIT", 0.5)
    saboteur = Saboteur()
    point = Trap("source-*" if actor == "source" else actor, command, moment)
    first = FIRST.get((actor, command))
    with rigged(scene, saboteur) as rig:
        saboteur.set(point if first is None else replace(first, then=point))
        with nullcontext() if scene == "stopping" else rig.under_load():
            SCENES[scene](rig)
        crashed = [name for name, _ in saboteur.sprung]
        assert not saboteur.left, "the crash point was not reached"
        assert kind_of(crashed[-1]) == actor
        if command == "EndRequests":
            return  # a system that stops has none restarted for long
        for number, name in enumerate(crashed):
            again = 2 + crashed[:number].count(name)
            rig.watch.first(ActorRestarted, lambda event: (event.name, event.incarnation) == (name, again))  # noqa: B023
    restarts = rig.watch.of(ActorRestarted)
    assert sorted(event.name for event in restarts) == sorted(crashed)
    assert all("was crashed on purpose" in event.reason for event in restarts)
