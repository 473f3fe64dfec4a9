"""The downloader sends later attempts to where redirects have led, as whom that place may be asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_downloader_asking import ONE, TWO, URL, House

from kithara_actors.errors import Failure
from kithara_actors.messages.commands import FetchFailed, FetchHeaders
from kithara_actors.messages.events import RequestRetrying
from kithara_actors.messages.records import Place
from kithara_actors.messages.worker import FINAL_URL_LIMIT, AttemptEnded, AttemptHeaders
from kithara_actors.values import RequestId, Validator

THERE = "http://two/signed?until=1"
HEADERS = (("Accept", "audio/*"), ("Authorization", "secret"), ("Cookie", "secret"))
NO_PLACE = Failure("StatusError", "410", status=410)


@pytest.fixture
def made() -> Iterator[list[House]]:
    houses: list[House] = []
    yield houses
    for house in houses:
        house.contents.discard(house.content)


@pytest.fixture
def house(made: list[House]) -> House:
    made.append(House())
    return made[-1]


def answered(house: House, attempt: int, url: str, *, bare: bool = False, ranged: bool = True) -> FetchHeaders:
    validator = Validator('"v"')
    house.tell(
        AttemptHeaders(ONE, attempt, 206, True, 3000, 3000, validator, "audio/mpeg", url, 0.1, bare=bare, ranged=ranged)
    )
    (headers,) = house.source.take()
    assert isinstance(headers, FetchHeaders)
    return headers


def ended(house: House, attempt: int, failure: Failure, at: int = 1000, request: RequestId = ONE) -> None:
    house.tell(AttemptEnded(request, attempt, at, False, None, False, False, failure))


def test_without_redirects_there_is_no_place(house: House) -> None:
    house.admit(headers=HEADERS)
    assert answered(house, 1, URL, ranged=False).place is None


@pytest.mark.parametrize("bare", [False, True])
def test_the_place_is_told_and_gone_to_with_what_was_sent_there(house: House, bare: bool) -> None:
    house.admit(headers=HEADERS)
    headers = answered(house, 1, THERE, bare=bare)
    assert (headers.place, headers.ranged) == (Place(THERE, bare), True)
    house.admit(2, headers=HEADERS, place=headers.place)
    sent = dict(HEADERS[:1] if bare else HEADERS)
    assert house.ran() == [(1, URL, dict(HEADERS)), (2, THERE, sent)]
    # Answered there, it stays the place, and what was left behind on the way to it stays behind.
    house.tell(AttemptHeaders(TWO, 2, 206, True, 3000, 3000, Validator('"v"'), None, THERE, 0.1, False, True))
    house.tell(AttemptEnded(TWO, 2, 3000, True, 3000, False, False, None))
    told = house.source.take()[0]
    assert isinstance(told, FetchHeaders)
    assert told.place == Place(THERE, bare)


def test_what_was_left_behind_does_not_come_back_with_another_redirect(house: House) -> None:
    house.admit(headers=HEADERS, place=Place(THERE, bare=True))
    assert answered(house, 1, "http://two/moved").place == Place("http://two/moved", bare=True)


def test_a_place_too_long_to_be_told_is_none(house: House) -> None:
    house.admit()
    assert answered(house, 1, ("http://two/" + "x" * FINAL_URL_LIMIT)[:FINAL_URL_LIMIT]).place is None


def test_a_place_that_is_gone_is_left_for_the_original(house: House) -> None:
    house.admit(headers=HEADERS, place=Place(THERE, bare=True))
    ended(house, 1, NO_PLACE)
    assert house.ran() == [(1, THERE, dict(HEADERS[:1])), (2, URL, dict(HEADERS))]
    (retrying,) = [event for event in house.events.take() if isinstance(event, RequestRetrying)]
    assert retrying == RequestRetrying(ONE, 1, 2, 0.0, "RETURNED")
    assert house.around["registry"].take() == []  # it keeps its slot
    ended(house, 2, NO_PLACE)
    (failed,) = house.source.take()
    assert isinstance(failed, FetchFailed)
    assert failed.failure.status == 410


def test_the_policy_is_asked_about_the_place(made: list[House]) -> None:
    asked: list[str] = []

    def policy(url: str) -> bool:
        asked.append(url)
        return "two" not in url

    made.append(house := House(policy))
    house.admit(place=Place(THERE, bare=True))
    with pytest.raises(Exception, match=r"refuses http://two/signed\?until=…"):
        house.answer()
    assert asked == [THERE]
    assert house.ran() == []


def test_callables_say_the_way_and_the_policy_judges_the_place(made: list[House]) -> None:
    asked: list[str] = []
    made.append(house := House(lambda url: not asked.append(url)))
    house.keep(resolve=True)
    house.admit(1)
    house.answer()
    house.admit(2, place=Place(THERE, bare=False))
    house.answer()
    assert asked == ["http://two/1", THERE]
    assert house.told == [URL]
    assert [url for _, url, _ in house.ran()] == ["http://two/1", THERE]
