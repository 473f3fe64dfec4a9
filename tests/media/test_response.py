"""HTTP01, HTTP03-HTTP09, HTTP11, HTTP14, RETRY07 and their neighbours: which answers may be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import (
    InvalidContentType,
    PolicyError,
    ProtocolError,
    ResourceChanged,
    StatusError,
)
from kithara_actors.logic import response
from kithara_actors.logic.response import (
    Accepted,
    Asked,
    Reask,
    check,
    range_header,
    redirect,
    request_headers,
    strong_validator,
)
from kithara_actors.values import Validator

FIRST = Asked(0, None)
EIGHT = Asked(8, 16)
MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"
SECOND_LATER = "Wed, 21 Oct 2015 07:28:01 GMT"


def accepted(asked: Asked, status: int, headers: Mapping[str, str]) -> Accepted:
    answer = check(asked, status, headers)
    assert isinstance(answer, Accepted)
    return answer


class TestRangeHeader:
    @pytest.mark.parametrize(
        ("start", "end", "text"),
        [
            (0, 101, "bytes=0-100"),
            (50, None, "bytes=50-"),
            (0, None, "bytes=0-"),
            (10, 11, "bytes=10-10"),
            (2**62, 2**62 + 1, f"bytes={2**62}-{2**62}"),
        ],
    )
    def test_renders(self, start: int, end: int | None, text: str) -> None:
        assert range_header(start, end) == text

    @pytest.mark.parametrize(("start", "end"), [(-1, None), (-5, 5), (10, 9), (10, 10), (0, 0)])
    def test_refuses_what_no_range_can_say(self, start: int, end: int | None) -> None:
        with pytest.raises(ValueError):
            range_header(start, end)


class TestRequestHeaders:
    def test_the_first_request_asks_for_everything_unencoded(self) -> None:
        assert request_headers(FIRST) == {"Accept-Encoding": "identity", "Range": "bytes=0-"}

    def test_a_plain_get_has_no_range(self) -> None:
        asked = Asked(0, None, ranged=False, validator=Validator(etag='"a"'))
        assert request_headers(asked) == {"Accept-Encoding": "identity"}

    def test_a_resume_carries_the_strong_etag(self) -> None:
        headers = request_headers(Asked(5, 10, validator=Validator('"a"', MODIFIED, SECOND_LATER)))
        assert headers["If-Range"] == '"a"'
        assert headers["Range"] == "bytes=5-9"

    @pytest.mark.parametrize("etag", ['W/"a"', "W/a", "bare", '"open', 'w/"a"', '"a", "b"', '"a\r\nX: y"', ""])
    def test_a_weak_or_malformed_etag_is_never_sent_nor_a_date_beside_it(self, etag: str) -> None:
        headers = request_headers(Asked(5, None, validator=Validator(etag, MODIFIED, SECOND_LATER)))
        assert "If-Range" not in headers
        assert headers["Range"] == "bytes=5-"

    def test_a_resume_without_validator_still_asks_for_its_range(self) -> None:
        headers = request_headers(Asked(5, None, total=10, validator=Validator()))
        assert headers == {"Accept-Encoding": "identity", "Range": "bytes=5-"}

    def test_callers_headers_are_kept_but_not_those_that_address_bytes(self) -> None:
        caller = {"X-Token": "t", "range": "bytes=1-2", "accept-ENCODING": "gzip", "if-range": '"z"'}
        assert request_headers(FIRST, caller) == {
            "X-Token": "t",
            "Accept-Encoding": "identity",
            "Range": "bytes=0-",
        }

    def test_a_whole_body_may_be_encoded_when_bytes_are_not_addressed(self) -> None:
        whole = Asked(0, None, ranged=False, identity=False)
        assert request_headers(whole, {"accept-encoding": "gzip"}) == {"accept-encoding": "gzip"}
        assert request_headers(Asked(0, 5, identity=False))["Accept-Encoding"] == "identity"


class TestStrongValidator:
    @pytest.mark.parametrize(
        ("modified", "date", "strong"),
        [
            (MODIFIED, SECOND_LATER, True),
            (MODIFIED, "Thu, 22 Oct 2015 07:28:00 GMT", True),
            (MODIFIED, MODIFIED, False),
            (SECOND_LATER, MODIFIED, False),
            (MODIFIED, None, False),
            (MODIFIED, "yesterday", False),
            ("yesterday", SECOND_LATER, False),
            ("Wed, 21 Oct 2015\r\n 07:28:00 GMT", SECOND_LATER, False),
            (None, SECOND_LATER, False),
        ],
    )
    def test_last_modified_needs_a_later_date(self, modified: str | None, date: str | None, strong: bool) -> None:
        assert strong_validator(Validator(None, modified, date)) == (modified if strong else None)

    def test_the_three_forms_of_a_date_are_one_moment(self) -> None:
        forms = [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ]
        assert len({response.http_date(form) for form in forms}) == 1
        assert response.http_date(forms[0]) is not None

    def test_a_leap_second_is_a_date(self) -> None:
        assert response.http_date("Sat, 31 Dec 2016 23:59:60 GMT") is not None

    @given(st.text())
    def test_any_text_is_a_date_or_none(self, text: str) -> None:
        response.http_date(text)

    @given(st.lists(st.sampled_from(["Mon,", "31", "Feb", "99999999999", "-1", "25:61:61", "+9999", "GMT", ":"])))
    def test_any_near_date_is_a_date_or_none(self, words: list[str]) -> None:
        response.http_date(" ".join(words))


class TestPartial:
    def test_the_interval_asked_for(self) -> None:
        answer = accepted(EIGHT, 206, {"content-range": "bytes 8-15/60", "Content-Length": "8"})
        assert answer == Accepted(True, 8, 16, 60, Validator(), None, True)

    def test_header_names_in_any_case_and_validators_as_sent(self) -> None:
        headers = {
            "CONTENT-RANGE": " BYTES  8-15/60 ",
            "eTAG": 'W/"x"',
            "last-Modified": MODIFIED,
            "DATE": SECOND_LATER,
            "content-TYPE": "audio/flac",
        }
        answer = accepted(EIGHT, 206, headers)
        assert answer.validator == Validator('W/"x"', MODIFIED, SECOND_LATER)
        assert answer.content_type == "audio/flac"

    def test_an_end_shorter_than_asked(self) -> None:
        assert accepted(EIGHT, 206, {"Content-Range": "bytes 8-10/60"}).end == 11

    def test_without_content_length_the_content_range_is_the_length(self) -> None:
        answer = accepted(FIRST, 206, {"Content-Range": "bytes 0-59/60", "Transfer-Encoding": "chunked"})
        assert (answer.end, answer.total, answer.length_certain) == (60, 60, True)

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Range": ""},
            {"Content-Range": "items 8-15/60"},
            {"Content-Range": "bytes */60"},
            {"Content-Range": "bytes 8-15"},
            {"Content-Range": "bytes=8-15/60"},
            {"Content-Range": "bytes 8-15/60, bytes 8-15/60"},
            {"Content-Range": "bytes ٨-15/60"},
            {"Content-Range": "bytes 8 - 15/60"},
            {"Content-Range": "bytes 8-15/*"},
            {"Content-Range": "bytes 0-7/60"},
            {"Content-Range": "bytes 9-15/60"},
            {"Content-Range": "bytes 8-16/60"},
            {"Content-Range": "bytes 8-7/60"},
            {"Content-Range": "bytes 8-15/15"},
            {"Content-Range": "bytes 8-15/8"},
            {"Content-Range": "bytes 8-15/0"},
            {"Content-Range": f"bytes 8-15/{2**63}"},
            {"Content-Range": "bytes 8-15/" + "9" * 5000},
            {"Content-Range": "bytes 8-15/60", "Content-Length": "7"},
            {"Content-Range": "bytes 8-15/60", "Content-Length": "9"},
            {"Content-Range": "bytes 8-15/60", "Content-Length": "60"},
            {"Content-Range": "bytes 8-15/60", "Content-Length": "x"},
            {"Content-Range": "bytes 8-15/60", "Content-Encoding": "gzip"},
            {"Content-Range": "bytes 8-15/60", "Content-Type": "multipart/byteranges; boundary=x"},
            {"Content-Type": "Multipart/ByteRanges; boundary=x"},
        ],
    )
    def test_refused(self, headers: dict[str, str]) -> None:
        with pytest.raises(ProtocolError) as caught:
            check(EIGHT, 206, headers)
        assert not caught.value.retryable

    def test_two_different_content_ranges_in_two_cases_of_the_name(self) -> None:
        with pytest.raises(ProtocolError):
            check(EIGHT, 206, {"Content-Range": "bytes 8-15/60", "content-range": "bytes 8-14/60"})
        accepted(EIGHT, 206, {"Content-Range": "bytes 8-15/60", "content-range": "bytes 8-15/60"})

    def test_unsolicited(self) -> None:
        with pytest.raises(ProtocolError):
            check(Asked(0, None, ranged=False), 206, {"Content-Range": "bytes 0-59/60"})

    def test_the_last_byte_there_can_be(self) -> None:
        total = 2**63 - 1
        answer = accepted(Asked(total - 1, None), 206, {"Content-Range": f"bytes {total - 1}-{total - 1}/{total}"})
        assert answer.end == total


class TestFull:
    @pytest.mark.parametrize("asked", [FIRST, EIGHT, Asked(0, 6), Asked(0, None, ranged=False)])
    def test_a_200_is_the_whole_body(self, asked: Asked) -> None:
        answer = accepted(asked, 200, {"Content-Length": "13", "Content-Type": "audio/mpeg"})
        assert answer == Accepted(False, 0, 13, 13, Validator(), "audio/mpeg", True)

    def test_without_a_length_the_transfer_ends_it(self) -> None:
        answer = accepted(FIRST, 200, {})
        assert (answer.end, answer.total, answer.length_certain) == (None, None, False)

    def test_an_empty_body(self) -> None:
        answer = accepted(FIRST, 200, {"Content-Length": "0"})
        assert (answer.end, answer.total, answer.length_certain) == (0, 0, True)

    def test_chunked_overrides_content_length(self) -> None:
        answer = accepted(FIRST, 200, {"Content-Length": "13", "Transfer-Encoding": "Chunked"})
        assert (answer.end, answer.length_certain) == (None, False)

    @pytest.mark.parametrize("value", ["5", "5, 5", "5,5,5", " 5 ", "05", "5, 05"])
    def test_content_length(self, value: str) -> None:
        assert accepted(FIRST, 200, {"Content-Length": value}).total == 5

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "-1",
            "+5",
            "5.0",
            "0x5",
            "5 6",
            "5, 6",
            "5,",
            "five",
            "٥",
            str(2**63),
            "9" * 5000,
            "1_0",
            "5, x",
        ],
    )
    def test_bad_content_length(self, value: str) -> None:
        with pytest.raises(ProtocolError):
            check(FIRST, 200, {"Content-Length": value})

    def test_the_largest_content_length(self) -> None:
        assert accepted(FIRST, 200, {"Content-Length": str(2**63 - 1)}).total == 2**63 - 1

    def test_content_length_under_two_spellings(self) -> None:
        with pytest.raises(ProtocolError):
            check(FIRST, 200, {"Content-Length": "5", "content-length": "6"})
        assert accepted(FIRST, 200, {"Content-Length": "5", "content-length": "5"}).total == 5


class TestCoding:
    @pytest.mark.parametrize("value", ["gzip", "br", "identity, gzip", "x-unknown", "GZIP"])
    def test_an_encoded_body_is_refused(self, value: str) -> None:
        with pytest.raises(ProtocolError):
            check(FIRST, 200, {"Content-Encoding": value})

    @pytest.mark.parametrize("value", ["", "identity", " Identity ", "identity, IDENTITY", ","])
    def test_identity_is_no_coding(self, value: str) -> None:
        assert accepted(FIRST, 200, {"Content-Encoding": value, "Content-Length": "1"}).total == 1

    def test_a_coded_whole_body_has_no_length_of_ours(self) -> None:
        whole = Asked(0, None, ranged=False, identity=False)
        answer = accepted(whole, 200, {"Content-Encoding": "gzip", "Content-Length": "20"})
        assert (answer.end, answer.total, answer.length_certain) == (None, None, False)
        assert accepted(whole, 200, {"Content-Length": "20"}).total == 20

    def test_a_range_is_never_encoded(self) -> None:
        with pytest.raises(ProtocolError):
            check(Asked(0, 5, identity=False), 200, {"Content-Encoding": "gzip"})

    @pytest.mark.parametrize("value", ["gzip, chunked", "gzip", "chunked, deflate"])
    def test_a_transfer_coding_that_nobody_undoes(self, value: str) -> None:
        with pytest.raises(ProtocolError):
            check(FIRST, 200, {"Transfer-Encoding": value})


class TestHtml:
    @pytest.mark.parametrize("status", [200, 206])
    @pytest.mark.parametrize(
        "value",
        [
            "text/html",
            "Text/HTML; charset=utf-8",
            " application/xhtml+xml",
            "text/html ;x",
            "audio/mpeg, text/html",
        ],
    )
    def test_refused_before_anything_else_about_the_body(self, status: int, value: str) -> None:
        headers = {"Content-Type": value, "Content-Encoding": "gzip"}
        with pytest.raises(InvalidContentType) as caught:
            check(Asked(5, None, total=9), status, headers)
        assert not caught.value.retryable

    def test_on_demand_only(self) -> None:
        asked = Asked(0, None, refuse_html=False)
        assert accepted(asked, 200, {"Content-Type": "text/html"}).content_type == "text/html"

    @pytest.mark.parametrize("value", ["text/plain", "audio/mpeg; note=text/html", "", "application/xml"])
    def test_other_types_pass(self, value: str) -> None:
        accepted(FIRST, 200, {"Content-Type": value})

    def test_an_error_page_is_a_status_first(self) -> None:
        with pytest.raises(StatusError):
            check(FIRST, 404, {"Content-Type": "text/html"})


class TestStatus:
    @pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 501, 429, 408])
    def test_transient(self, status: int) -> None:
        with pytest.raises(StatusError) as caught:
            check(EIGHT, status, {})
        assert caught.value.retryable
        assert caught.value.status == status

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 416, 418, 451, 499, 300, 305])
    def test_fatal(self, status: int) -> None:
        with pytest.raises(StatusError) as caught:
            check(EIGHT, status, {})
        assert not caught.value.retryable
        assert caught.value.status == status

    def test_the_text_says_status_and_reason(self) -> None:
        with pytest.raises(StatusError, match="503 Service Unavailable"):
            check(FIRST, 503, {})
        with pytest.raises(StatusError, match=r"599$"):
            check(FIRST, 599, {})

    @pytest.mark.parametrize("status", [201, 202, 203, 204, 205, 207, 299, 304, 100, 101, 0, -1, 600, 999])
    def test_what_is_no_answer_to_a_get(self, status: int) -> None:
        for asked in (FIRST, Asked(0, None, ranged=False)):
            with pytest.raises(ProtocolError):
                check(asked, status, {"Content-Length": "5"})

    @pytest.mark.parametrize("status", [400, 405, 406, 416, 501])
    def test_a_first_range_that_is_refused_is_asked_again_without(self, status: int) -> None:
        assert check(FIRST, status, {"Content-Range": "bytes */0"}) == Reask(status)
        assert check(Asked(0, 100), status, {}) == Reask(status)
        # Its retry too, as long as nothing but a validator is known.
        assert check(Asked(0, None, validator=Validator('"one"')), status, {}) == Reask(status)

    @pytest.mark.parametrize("status", [400, 405, 406, 416, 501])
    @pytest.mark.parametrize(
        "asked",
        [
            Asked(0, None, ranged=False),
            Asked(1, None),
            Asked(0, None, total=10),
        ],
    )
    def test_but_only_once_and_only_first(self, status: int, asked: Asked) -> None:
        with pytest.raises(StatusError) as caught:
            check(asked, status, {})
        assert caught.value.retryable is (status == 501)

    @pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
    def test_other_statuses_are_never_asked_again_here(self, status: int) -> None:
        with pytest.raises(StatusError):
            check(FIRST, status, {})


class TestRetryAfter:
    def after(self, value: str, date: str | None = None) -> float | None:
        headers = {"Retry-After": value} | ({} if date is None else {"Date": date})
        with pytest.raises(StatusError) as caught:
            check(FIRST, 503, headers)
        return caught.value.retry_after

    @pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("7", 7.0), (" 120 ", 120.0)])
    def test_seconds(self, value: str, seconds: float) -> None:
        assert self.after(value) == seconds

    def test_a_number_beyond_any_clock(self) -> None:
        assert self.after("9" * 5000) == 2.0**31

    def test_a_date_counts_from_the_answers_own_date(self) -> None:
        assert self.after("Wed, 21 Oct 2015 07:28:30 GMT", MODIFIED) == 30.0
        assert self.after("Wed, 21 Oct 2015 07:27:00 GMT", MODIFIED) == 0.0
        assert self.after("Wed, 21 Oct 9999 07:27:00 GMT", MODIFIED) == 2.0**31

    def test_a_date_without_a_date_is_nothing(self) -> None:
        assert self.after(MODIFIED) is None
        assert self.after(MODIFIED, "noon") is None

    @pytest.mark.parametrize("value", ["", "-5", "1.5", "soon", "٣", "5, 6", "1e3"])
    def test_garbage(self, value: str) -> None:
        assert self.after(value, MODIFIED) is None

    def test_absent(self) -> None:
        with pytest.raises(StatusError) as caught:
            check(FIRST, 503, {})
        assert caught.value.retry_after is None


class TestPins:
    PINNED = Validator('"a"', MODIFIED, SECOND_LATER)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Range": "bytes 8-15/60"},
            {"Content-Range": "bytes 8-15/60", "ETag": '"a"'},
            {"Content-Range": "bytes 8-15/60", "Last-Modified": MODIFIED, "Date": "other"},
        ],
    )
    def test_the_same_representation(self, headers: dict[str, str]) -> None:
        assert accepted(Asked(8, 16, total=60, validator=self.PINNED), 206, headers).partial

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Range": "bytes 8-15/61"},
            {"Content-Range": "bytes 8-9/10"},
            {"Content-Range": "bytes 8-15/60", "ETag": '"b"'},
            {"Content-Range": "bytes 8-15/60", "ETag": 'W/"a"'},
            {"Content-Range": "bytes 8-15/60", "ETag": ""},
            {"Content-Range": "bytes 8-15/60", "Last-Modified": SECOND_LATER},
            {"Content-Range": "bytes 8-15/60", "ETag": '"a"', "Last-Modified": SECOND_LATER},
        ],
    )
    def test_another_representation_in_a_206(self, headers: dict[str, str]) -> None:
        with pytest.raises(ResourceChanged):
            check(Asked(8, 16, total=60, validator=self.PINNED), 206, headers)

    def test_a_200_to_a_resume(self) -> None:
        asked = Asked(8, None, total=60, validator=self.PINNED)
        same = accepted(asked, 200, {"Content-Length": "60", "ETag": '"a"'})
        assert (same.partial, same.start, same.end) == (False, 0, 60)
        assert accepted(asked, 200, {"ETag": '"a"'}).total is None
        for headers in ({"Content-Length": "61"}, {"ETag": '"b"'}, {"Last-Modified": SECOND_LATER}):
            with pytest.raises(ResourceChanged):
                check(asked, 200, headers)

    def test_weak_etags_are_compared(self) -> None:
        asked = Asked(8, 16, validator=Validator('W/"a"'))
        accepted(asked, 206, {"Content-Range": "bytes 8-15/60", "ETag": 'W/"a"'})
        with pytest.raises(ResourceChanged):
            check(asked, 206, {"Content-Range": "bytes 8-15/60", "ETag": 'W/"b"'})

    def test_what_was_never_pinned_does_not_differ(self) -> None:
        asked = Asked(8, 16, validator=Validator())
        answer = accepted(asked, 206, {"Content-Range": "bytes 8-15/60", "ETag": '"new"'})
        assert answer.validator.etag == '"new"'

    def test_a_wrong_start_is_a_protocol_error_even_then(self) -> None:
        with pytest.raises(ProtocolError):
            check(Asked(3, None, total=6), 206, {"Content-Range": "bytes 0-2/6"})

    def test_a_file_that_shrank_says_so_by_416(self) -> None:
        asked = Asked(50, None, total=60)
        with pytest.raises(ResourceChanged):
            check(asked, 416, {"Content-Range": "bytes */40"})
        for value in ("bytes */60", "bytes */*", ""):
            with pytest.raises(StatusError):
                check(asked, 416, {"Content-Range": value})

    def test_an_error_page_has_validators_of_its_own(self) -> None:
        with pytest.raises(StatusError):
            check(
                Asked(8, None, total=60, validator=self.PINNED),
                503,
                {"ETag": '"page"', "Content-Length": "9"},
            )


class TestRedirect:
    HEADERS: ClassVar[dict[str, str]] = {
        "Authorization": "secret",
        "Cookie": "c",
        "X-Api-Key": "k",
        "ACCEPT": "audio/*",
        "accept-language": "en",
        "User-Agent": "me",
        "Referer": "r",
        "Origin": "o",
    }
    HARMLESS = ("ACCEPT", "accept-language", "User-Agent", "Referer", "Origin")

    def go(
        self,
        location: str | None,
        *,
        url: str = "https://h.example/a/b?c=d",
        status: int = 302,
        downgrade: bool = False,
    ) -> tuple[str, dict[str, str]]:
        step = redirect(url, status, location, allow_downgrade=downgrade, headers=self.HEADERS)
        assert step is not None
        return step

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects(self, status: int) -> None:
        assert self.go("/x", status=status)[0] == "https://h.example/x"

    @pytest.mark.parametrize("status", [200, 206, 300, 304, 305, 306, 404, 503])
    def test_no_redirects(self, status: int) -> None:
        assert redirect("https://h/", status, "/x", allow_downgrade=False, headers={}) is None

    @pytest.mark.parametrize(
        ("location", "url"),
        [
            ("https://h.example/x?y=%41&z", "https://h.example/x?y=%41&z"),
            ("HTTPS://H.Example:443/x", "https://h.example/x"),
            ("x", "https://h.example/a/x"),
            ("../x", "https://h.example/x"),
            ("?q", "https://h.example/a/b?q"),
            ("//other.example/x", "https://other.example/x"),
            ("/x#part", "https://h.example/x"),
            ("  /x ", "https://h.example/x"),
            ("https://u:p@h.example/x", "https://h.example/x"),
            ("/My Song.mp3", "https://h.example/My%20Song.mp3"),
            ("/caf\u00c3\u00a9.mp3", "https://h.example/caf%C3%A9.mp3"),
            ("/\u266a.mp3", "https://h.example/%E2%99%AA.mp3"),
            ("https://h.example/x?", "https://h.example/x?"),
            ("https://h.example", "https://h.example/"),
        ],
    )
    def test_resolved(self, location: str, url: str) -> None:
        assert self.go(location)[0] == url

    @pytest.mark.parametrize("location", ["/x", "https://H.EXAMPLE:443/x", "//h.example/x"])
    def test_the_same_origin_keeps_every_header(self, location: str) -> None:
        assert self.go(location)[1] == self.HEADERS

    @pytest.mark.parametrize(
        "location",
        [
            "https://other.example/x",
            "https://h.example:8443/x",
            "https://h.example.evil/x",
            "https://h.example@evil/",
        ],
    )
    def test_another_origin_keeps_the_harmless_ones(self, location: str) -> None:
        assert self.go(location)[1] == {name: self.HEADERS[name] for name in self.HARMLESS}

    def test_downgrade_is_refused_unless_allowed(self) -> None:
        with pytest.raises(PolicyError):
            self.go("http://h.example/x")
        with pytest.raises(PolicyError):
            self.go("http://h.example/x", url="HTTPS://h.example/")
        url, headers = self.go("http://h.example/x", downgrade=True)
        assert url == "http://h.example/x"
        assert "Authorization" not in headers

    def test_upgrade_is_another_origin(self) -> None:
        url, headers = self.go("https://h.example/x", url="http://h.example/x")
        assert url == "https://h.example/x"
        assert "Authorization" not in headers

    @pytest.mark.parametrize(
        "location",
        [
            None,
            "",
            "  ",
            "ftp://h/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https:///x",
            "https://h:99999/",
            "https://[::1/",
            "http://[",
            "/x\r\nSet-Cookie: a=b",
            "/x\x00",
            "https://good\\@evil/",
        ],
    )
    def test_unusable(self, location: str | None) -> None:
        with pytest.raises(ProtocolError):
            self.go(location)

    @given(st.text(max_size=40), st.sampled_from(["https://h/a", "http://h:1/", "https://[::1]/x?y"]))
    def test_any_location_gives_a_sound_url_or_our_errors(self, location: str, url: str) -> None:
        try:
            step = redirect(url, 302, location, allow_downgrade=False, headers={"Cookie": "c"})
        except (ProtocolError, PolicyError):
            return
        assert step is not None
        assert re.fullmatch(r"https?://[!-~]+", step[0])


NAMES = st.sampled_from(
    [
        "Content-Range",
        "content-length",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "ETag",
        "Last-Modified",
        "Date",
        "Retry-After",
        "X-Other",
    ]
)
VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.from_regex(r"\A[Bb]ytes [0-9]{1,25}-[0-9]{1,25}/([0-9]{1,25}|\*)\Z"),
    st.sampled_from(["text/html", "gzip", "identity", "chunked", MODIFIED, '"a"', 'W/"a"', "5, 5"]),
)
OFFSETS = st.integers(0, 30)


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    start = draw(OFFSETS)
    return Asked(
        start,
        draw(st.none() | st.integers(start + 1, start + 40)),
        ranged=draw(st.booleans()),
        total=draw(st.none() | OFFSETS),
        validator=draw(st.none() | st.builds(Validator, etag=st.none() | VALUES, last_modified=st.none() | VALUES)),
        refuse_html=draw(st.booleans()),
        identity=draw(st.booleans()),
    )


@given(
    questions(),
    st.one_of(st.sampled_from([200, 206, 416]), st.integers(-1, 700)),
    st.dictionaries(NAMES | st.text(), VALUES),
)
def test_any_answer_is_accepted_soundly_or_refused_with_our_errors(
    asked: Asked, status: int, headers: dict[str, str]
) -> None:
    request_headers(asked)
    try:
        answer = check(asked, status, headers)
    except StatusError as error:
        waits = error.retry_after
        assert waits is None or waits >= 0
        return
    except (ProtocolError, InvalidContentType, ResourceChanged):
        return
    if isinstance(answer, Reask):
        assert asked.ranged
        assert asked.start == 0
        return
    assert answer.start >= 0
    assert answer.length_certain is (answer.total is not None)
    if answer.partial:
        assert answer.start == asked.start
        assert answer.end is not None
        assert answer.start < answer.end
        assert asked.end is None or answer.end <= asked.end
        assert answer.total is not None
        assert answer.end <= answer.total <= 2**63 - 1
    else:
        assert answer.start == 0
        assert answer.end == answer.total


@given(OFFSETS, st.integers(1, 30), OFFSETS, st.integers(0, 60), st.integers(0, 60))
def test_a_206_is_accepted_exactly_when_it_fits(start: int, span: int, first: int, last: int, total: int) -> None:
    asked = Asked(start, start + span)
    fits = first == start and first <= last < start + span and last < total
    headers = {"Content-Range": f"bytes {first}-{last}/{total}"}
    if fits:
        assert accepted(asked, 206, headers).end == last + 1
    else:
        with pytest.raises(ProtocolError):
            check(asked, 206, headers)


@pytest.mark.parametrize(
    ("pinned", "now"),
    [
        (Validator(etag='"one"'), {"last-modified": "Mon, 05 Jan 2026 10:00:00 GMT"}),
        (Validator(etag='"one"'), {}),
        (
            Validator(None, "Mon, 05 Jan 2026 10:00:00 GMT", "Mon, 05 Jan 2026 10:01:00 GMT"),
            {"etag": '"another"'},
        ),
    ],
)
def test_a_whole_answer_to_a_conditional_resume_without_the_validator_is_another_entity(
    pinned: Validator, now: dict[str, str]
) -> None:
    """The condition has failed: joining this body to the bytes that are held would mix two entities."""
    asked = Asked(100, None, total=500, validator=pinned)
    assert "If-Range" in request_headers(asked)
    with pytest.raises(ResourceChanged, match="without the validator"):
        check(asked, 200, {"content-length": "500", **now})
    same = {"etag": pinned.etag} if pinned.etag else {"last-modified": pinned.last_modified or ""}
    assert isinstance(check(asked, 200, {"content-length": "500", **same}), Accepted)


def test_a_whole_answer_to_an_unconditional_resume_is_judged_by_its_total() -> None:
    asked = Asked(100, None, total=500, validator=Validator(etag='W/"weak"'))
    assert "If-Range" not in request_headers(asked)
    assert isinstance(check(asked, 200, {"content-length": "500"}), Accepted)
