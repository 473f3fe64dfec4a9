"""A stream that asks for nothing ahead, and is first read far from the front."""

from __future__ import annotations

from stream_kit import HANG, asked, watching

from kithara_actors.messages.events import RequestCancelled, RequestCompleted
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource, body


def test_what_learned_the_length_is_not_cut_by_the_first_seek() -> None:
    with Origin() as origin, ActorSystem.start(workers=1) as system, watching(system) as watch:
        url = origin.add("/a", Resource(1_000_000, seed=1))
        with system.open(url, look_ahead=0) as stream:
            stream.seek(700_000)
            assert stream.read(1000) == body(1, 700_000, 701_000)
            watch.until(lambda events: sum(isinstance(event, RequestCompleted) for event in events) == 2, HANG)
            stream.seek(100_000)
            assert stream.read(1000) == body(1, 100_000, 101_000)
            watch.until(lambda events: sum(isinstance(event, RequestCompleted) for event in events) == 3, HANG)
        assert not watch.of(RequestCancelled)
        seen = asked(origin, "/a")
        assert [each.range for each in seen] == [(0, 0), (700_000, 700_999), (100_000, 100_999)]
        assert seen[2].connection in {each.connection for each in seen[:2]}
