"""What an application gives to be asked: run apart, within limits, and whatever it does, told in safe words."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kithara_actors.actor.callables import REQUEST_LIMIT, Question
from kithara_actors.errors import PolicyError
from kithara_actors.messages.records import SourceCalls

URL = "https://one.test/a?token=secret"
SHOWN = r"https://one\.test/a\?token=…"


def question(
    headers: Callable[[str], Any] | None = None,
    resolve: Callable[[str], Any] | None = None,
    policy: Callable[[str], object] | None = None,
    given: Mapping[str, str] | None = None,
) -> Question:
    return Question(URL, tuple((given or {}).items()), SourceCalls(1, headers, resolve), policy)


def failing(error: BaseException) -> Callable[[str], Any]:
    def hook(url: str) -> Any:
        raise error

    return hook


# --- What is asked, and what follows


def test_the_order_is_resolve_policy_headers() -> None:
    heard: list[tuple[str, str]] = []

    def resolve(url: str) -> str:
        heard.append(("resolve", url))
        return "https://two.test/b?signature=1"

    def headers(url: str) -> dict[str, str]:
        heard.append(("headers", url))
        return {"Authorization": "Bearer 1"}

    def policy(url: str) -> None:
        heard.append(("policy", url))

    way = question(headers, resolve, policy).answer()
    two = "https://two.test/b?signature=1"
    assert way == (two, (("Authorization", "Bearer 1"),))
    assert heard == [("resolve", URL), ("policy", two), ("headers", two)]


def test_no_credentials_are_made_for_what_is_refused() -> None:
    asked: list[str] = []
    with pytest.raises(PolicyError, match=r"url_policy .* refuses"):
        question(lambda url: asked.append(url) or {}, policy=lambda _: False).answer()
    assert asked == []


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://one.test/b", {"X-Token": "1", "Authorization": "2", "Accept": "audio/*"}),
        ("https://one.test:443/b", {"X-Token": "1", "Authorization": "2", "Accept": "audio/*"}),
        ("https://two.test/b", {"Accept": "audio/*"}),
        ("https://one.test:444/b", {"Accept": "audio/*"}),
        ("http://one.test/b", {"Accept": "audio/*"}),
    ],
)
def test_a_resolved_address_elsewhere_gets_no_credentials(target: str, kept: dict[str, str]) -> None:
    given = {"X-Token": "1", "Authorization": "2", "Accept": "audio/*"}
    assert question(resolve=lambda _: target, given=given).answer()[1] == tuple(kept.items())


def test_userinfo_of_a_resolved_address_becomes_a_header() -> None:
    url, headers = question(resolve=lambda _: "https://u:p@two.test/b").answer()
    assert (url, headers) == ("https://two.test/b", (("Authorization", "Basic dTpw"),))


def test_what_the_callable_says_goes_before_what_was_given() -> None:
    asked = question(lambda _: {"AUTHORIZATION": " new "}, given={"authorization": "old", "Accept": "x"})
    assert asked.answer() == (URL, (("Accept", "x"), ("AUTHORIZATION", "new")))


@pytest.mark.parametrize("said", [True, 1, None, "yes", {"any": 1}])
def test_a_policy_lets_pass(said: object) -> None:
    assert question(policy=lambda _: said).answer() == (URL, ())


@pytest.mark.parametrize("said", [False, 0, "", []])
def test_a_policy_refuses(said: object) -> None:
    with pytest.raises(PolicyError, match=rf"url_policy .*<lambda> refuses {SHOWN}$"):
        question(policy=lambda _: said).answer()


# --- What goes wrong is told with the name of the callable, and without a secret


@pytest.mark.parametrize("role", ["headers", "resolve", "policy"])
@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), SystemExit("secret"), KeyboardInterrupt()])
def test_what_is_raised_becomes_a_policy_error(role: str, error: BaseException) -> None:
    with pytest.raises(PolicyError, match=rf"{role} .*hook failed for {SHOWN}: {type(error).__name__}$") as caught:
        question(**{role: failing(error)}).answer()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not caught.value.retryable


def test_a_policy_error_of_theirs_keeps_its_words_but_not_the_query() -> None:
    with pytest.raises(PolicyError, match=rf"hook refuses {SHOWN}: {SHOWN} is not on the list$"):
        question(policy=failing(PolicyError(f"{URL} is not on the list"))).answer()


@pytest.mark.parametrize("said", [None, 5, b"https://two.test", ["https://two.test"]])
def test_a_resolve_that_returns_no_text(said: object) -> None:
    with pytest.raises(PolicyError, match=rf"returned {type(said).__name__} for {SHOWN}, not a URL"):
        question(resolve=lambda _: said).answer()


@pytest.mark.parametrize("said", ["", "file:///etc/passwd", "/etc/passwd", "http://", "http://a b/", "two.test/secret"])
def test_a_resolve_that_returns_no_url(said: str) -> None:
    with pytest.raises(PolicyError, match=rf"returned no usable URL for {SHOWN}") as caught:
        question(resolve=lambda _: said).answer()
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    "said", [None, 5, "Authorization: secret", [("a", "secret")], {"a": None}, {"a b": "secret"}, {"a": "sec\nret"}]
)
def test_headers_that_are_none(said: object) -> None:
    with pytest.raises(PolicyError, match=rf"headers .* returned no usable headers for {SHOWN}") as caught:
        question(lambda _: said).answer()
    assert "ret" not in str(caught.value).replace("returned", "")


def test_a_mapping_that_breaks_when_it_is_read() -> None:
    class Odd(dict[str, str]):
        def items(self) -> Any:
            raise OSError("secret")

    with pytest.raises(PolicyError, match=r"failed for .*: OSError$"):
        question(lambda _: Odd()).answer()


def test_a_truth_that_breaks_when_it_is_asked() -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise OSError("secret")

    with pytest.raises(PolicyError, match=r"failed for .*: OSError$"):
        question(policy=lambda _: Odd()).answer()


@pytest.mark.parametrize("role", ["headers", "resolve", "policy"])
def test_an_asynchronous_function_is_refused_and_leaves_no_warning(role: str) -> None:
    async def hook(url: str) -> Any:
        return True

    with pytest.raises(PolicyError, match=f"{role} .*hook is asynchronous"):
        question(**{role: hook}).answer()
    gc.collect()


def test_more_than_a_message_holds_is_refused() -> None:
    with pytest.raises(PolicyError, match=f"under {REQUEST_LIMIT} bytes"):
        question(lambda _: {"a": "\xff" * (REQUEST_LIMIT // 2)}).answer()
    with pytest.raises(PolicyError, match=f"under {REQUEST_LIMIT} bytes"):
        question(resolve=lambda _: "https://two.test/" + "a" * REQUEST_LIMIT).answer()


def test_an_object_without_a_name_is_named_by_its_class() -> None:
    class Rules:
        def __call__(self, url: str) -> bool:
            return False

    with pytest.raises(PolicyError, match="url_policy Rules refuses"):
        question(policy=Rules()).answer()


def test_a_partial_is_named_by_its_function() -> None:
    def rules(allowed: str, url: str) -> bool:
        return url == allowed

    with pytest.raises(PolicyError, match=r"url_policy .*rules refuses"):
        question(policy=functools.partial(functools.partial(rules), "https://two.test/")).answer()
