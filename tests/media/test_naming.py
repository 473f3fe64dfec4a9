"""ASSET02-ASSET06, HTTP12: URL forms, extensions, checked headers and the key."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import InvalidKey
from kithara_actors.logic.naming import (
    HARMLESS_HEADERS,
    asset_key,
    canonical_url,
    check_headers,
    digested_url,
    extension,
    origin_of,
    split_userinfo,
)

SECRET = b"s" * 32
URL = "https://h.example/a.mp3"


class TestCanonicalUrl:
    @pytest.mark.parametrize(
        ("url", "canonical"),
        [
            ("HTTPS://H.Example/A.mp3", "https://h.example/A.mp3"),
            ("http://h:80/x", "http://h/x"),
            ("https://h:443/x", "https://h/x"),
            ("https://h:0443/x", "https://h/x"),
            ("http://h:443/x", "http://h:443/x"),
            ("https://h:/x", "https://h/x"),
            ("https://h", "https://h/"),
            ("https://h?q", "https://h/?q"),
            ("https://h#f", "https://h/"),
            ("https://h/x?", "https://h/x?"),
            ("https://h/x?b=2&a=1&a=%7e#f?g", "https://h/x?b=2&a=1&a=%7e"),
            ("https://h/%41/../b//c", "https://h/%41/../b//c"),
            ("https://u:p@h/x", "https://h/x"),
            ("https://u:p@q@H/x", "https://h/x"),
            ("https://[::1]:8080/x", "https://[::1]:8080/x"),
            ("https://[FE80::1%25Eth0]/x", "https://[fe80::1%25eth0]/x"),
            ("https://h/caf\u00e9?\u266a", "https://h/caf\u00e9?\u266a"),
            ("https://h/a\\b", "https://h/a\\b"),
        ],
    )
    def test_form(self, url: str, canonical: str) -> None:
        assert canonical_url(url) == canonical
        assert canonical_url(canonical) == canonical

    @pytest.mark.parametrize(
        ("url", "remedy"),
        [
            ("ftp://h/x", "http:// or https://"),
            ("file:///x", "http:// or https://"),
            ("h/x.mp3", "http:// or https://"),
            ("", "http:// or https://"),
            ("https:h", "http:// or https://"),
            ("https:///x", "host"),
            ("https://:80/x", "host"),
            ("https://u:p@/x", "host"),
            ("https://h:x/", "1 to 65535"),
            ("https://h:0/", "1 to 65535"),
            ("https://h:65536/", "1 to 65535"),
            ("https://h:-1/", "1 to 65535"),
            ("https://h:٨/", "1 to 65535"),
            ("https://h:80:80/", "1 to 65535"),
            ("https://::1/", "host"),
            ("https://[::1/", "brackets"),
            ("https://[::g]/", "brackets"),
            ("https://[]/", "brackets"),
            ("https://[fe80::1%<>]/", "brackets"),
            ("https://[::1]x/", "remove"),
            ("https://h/a b", "percent-encode"),
            ("https://h/a\tb", "percent-encode"),
            ("https://h/a\nb", "percent-encode"),
            ("https://h/#a\r\nb", "percent-encode"),
            ("https://h/\x00", "percent-encode"),
            ("https://h/\u00a0", "percent-encode"),
            ("https://h/\u2003", "percent-encode"),
            ("https://h/\ud800", "percent-encode"),
            ("https://good\\@evil/", "percent-encode"),
            ("https://h<x>/", "host"),
            ("https://h%2f/", "host"),
            ("https://127\u30020\u30020\u30021/", "host"),
            ("https://h\uff0eexample/", "host"),
            ("https://h\uff61example/", "host"),
            (" https://h/", "http:// or https://"),
            (f"https://{'h' * 256}/", "more than 253"),
            (f"https://[fe80::1%{'h' * 256}]/", "more than 253"),
        ],
    )
    def test_refused_with_a_remedy(self, url: str, remedy: str) -> None:
        for call in (canonical_url, split_userinfo, origin_of):
            with pytest.raises(ValueError, match=re.escape(remedy)):
                call(url)

    def test_the_text_shows_no_secret(self) -> None:
        for url in ("https://u:hunter2@h:99999/", "https://h/?sig=hunter2 x", "https://hunter2\\@h/"):
            with pytest.raises(ValueError) as caught:
                canonical_url(url)
            assert "hunter2" not in str(caught.value)

    def test_a_presigned_url(self) -> None:
        url = "https://h/a.flac?sig=" + "x" * 4096
        assert canonical_url(url) == url
        assert len(asset_key(url, {}, SECRET, None, False)) == 32

    @given(st.text(), st.sampled_from(["", "https://", "http://h/", "https://u@h:1/", "https://["]))
    def test_any_text_is_a_stable_url_or_a_value_error(self, text: str, prefix: str) -> None:
        try:
            canonical = canonical_url(prefix + text)
        except ValueError:
            return
        assert canonical_url(canonical) == canonical
        assert split_userinfo(canonical) == (canonical, None)


class TestUserinfo:
    @pytest.mark.parametrize(
        ("userinfo", "pair"),
        [
            ("u:p", b"u:p"),
            ("u", b"u:"),
            (":p", b":p"),
            ("u:p:q", b"u:p:q"),
            ("u%40x:p%3A%2f", b"u@x:p:/"),
            ("u:p@q", b"u:p@q"),
            ("\u00fc:%C3%A9", "\u00fc:\u00e9".encode()),
        ],
    )
    def test_becomes_a_basic_header(self, userinfo: str, pair: bytes) -> None:
        url, authorization = split_userinfo(f"https://{userinfo}@h/x?y=a@b")
        assert url == "https://h/x?y=a@b"
        assert authorization == "Basic " + base64.b64encode(pair).decode()

    @pytest.mark.parametrize("url", ["https://h/x", "https://@h/x", "https://h/x?a=u:p@h"])
    def test_none(self, url: str) -> None:
        assert split_userinfo(url)[1] is None

    def test_a_colon_in_the_user_name(self) -> None:
        with pytest.raises(ValueError, match="Authorization"):
            split_userinfo("https://a%3Ab:p@h/")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://H/x", "https://h:443"),
        ("http://h", "http://h:80"),
        ("http://h:8080/", "http://h:8080"),
        ("https://u:p@[::1]/", "https://[::1]:443"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    assert origin_of(url) == origin


class TestExtension:
    @pytest.mark.parametrize(
        ("url", "suffix"),
        [
            ("https://h/audio.MP3?token=x", "mp3"),
            ("https://h/archive.tar.gz", "gz"),
            ("https://h/audio", "bin"),
            ("https://h/", "bin"),
            ("https://h", "bin"),
            ("https://example.mp3", "bin"),
            ("https://example.mp3/", "bin"),
            ("https://h/.mp3", "bin"),
            ("https://h/x/.mp3", "bin"),
            ("https://h/a.", "bin"),
            ("https://h/a.b/c", "bin"),
            ("https://h/a.mp3/", "bin"),
            ("https://h/a.abcdefghijklmnop", "abcdefghijklmnop"),
            ("https://h/a.abcdefghijklmnopq", "bin"),
            ("https://h/a.m%2F4a", "bin"),
            ("https://h/a.m4a;v=1", "bin"),
            ("https://h/a.mp\u00e9", "bin"),
            ("https://h/a.tmp", "bin"),
            ("https://h/a.TMP", "bin"),
            ("https://h/a.part", "bin"),
            ("https://h/a?b.mp3", "bin"),
            ("https://h/a#b.mp3", "bin"),
            ("https://h/a.mp3#x.y", "mp3"),
            ("https://u:p.x@h/a.ogg", "ogg"),
            ("/music/a.FLAC", "flac"),
        ],
    )
    def test_from_the_url(self, url: str, suffix: str) -> None:
        assert extension(url) == suffix

    def test_a_hint_wins(self) -> None:
        assert extension("https://h/a.mp3", "FLAC") == "flac"
        assert extension("https://h/a.mp3", "7z") == "7z"

    @pytest.mark.parametrize("hint", ["", ".mp3", "m p", "a" * 17, "tmp", "Tmp", "part", "m/a", "\u00e9", "٣", "mp3\n"])
    def test_a_bad_hint(self, hint: str) -> None:
        with pytest.raises(ValueError, match="extension"):
            extension("https://h/a.mp3", hint)

    @given(st.text())
    def test_is_always_safe_in_a_path(self, text: str) -> None:
        assert re.fullmatch(r"[0-9a-z]{1,16}", extension(text))
        assert re.fullmatch(r"[0-9a-z]{1,16}", extension("https://h/" + text))


class TestHeaders:
    def test_a_copy_with_spaces_removed(self) -> None:
        given = {"X-Token": " a b\t", "Accept": "", "Caf": "\u00e9"}
        checked = check_headers(given)
        assert checked == {"X-Token": "a b", "Accept": "", "Caf": "\u00e9"}
        assert checked is not given

    @pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a\r\nb", "a\x00", "\u00e9", "a\n", "(a)", '"a"'])
    def test_a_name_that_is_no_token(self, name: str) -> None:
        with pytest.raises(ValueError):
            check_headers({name: "v"})

    @pytest.mark.parametrize("bad", ["\r", "\n", "\x00", "\r\nX: y", "\u266a", "\ud800"])
    def test_a_value_that_cannot_be_sent_is_named_but_not_shown(self, bad: str) -> None:
        for value in (f"hunter2{bad}", f"{bad}hunter2", f"hunter{bad}2"):
            with pytest.raises(ValueError, match="X-Token") as caught:
                check_headers({"X-Token": value})
            assert "hunter" not in str(caught.value)

    @pytest.mark.parametrize("headers", [{"a": b"b"}, {b"a": "b"}, {"a": None}, {1: "b"}, {"a": 5}, [("a", "b")], "a"])
    def test_what_is_no_text(self, headers: object) -> None:
        with pytest.raises(TypeError):
            check_headers(headers)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["Content-Length", "content-length", "TRANSFER-ENCODING"])
    def test_what_announces_a_body(self, name: str) -> None:
        """It would eat the beginning of the next request on the connection, which may be another stream's."""
        with pytest.raises(ValueError, match=f"{name}.*leave it out"):
            check_headers({"Accept": "*/*", name: "5"})

    def test_one_name_in_two_cases(self) -> None:
        with pytest.raises(ValueError, match="twice"):
            check_headers({"X-Token": "a", "x-token": "b"})


class TestKey:
    def key(
        self,
        url: str = URL,
        headers: dict[str, str] | None = None,
        discriminator: str | None = None,
        shared: bool = False,
        secret: bytes = SECRET,
        **more: str,
    ) -> str:
        return asset_key(url, headers or {}, secret, discriminator, shared, **more)

    def test_is_32_hex_digits_and_always_the_same(self) -> None:
        key = self.key(headers={"Cookie": "c"})
        assert re.fullmatch(r"[0-9a-f]{32}", key)
        assert key == self.key(headers={"Cookie": "c"})

    def test_query_discriminator_and_credentials_tell_assets_apart(self) -> None:
        keys = [
            self.key(),
            self.key(URL + "?a=1"),
            self.key(URL + "?a=2"),
            self.key(discriminator=""),
            self.key(discriminator="x"),
            self.key(headers={"Authorization": "a"}),
            self.key(headers={"Authorization": "b"}),
            self.key(headers={"Cookie": "a"}),
            self.key(headers={"X-Api-Key": "a"}),
            self.key(headers={"X-Anything": "a"}),
            self.key(headers={"Cookie": "a", "X-Api-Key": "a"}),
            self.key(certificate="a"),
            self.key(headers={"Cookie": ""}),
        ]
        assert len(set(keys)) == len(keys)

    @pytest.mark.parametrize("name", [*sorted(HARMLESS_HEADERS), "User-AGENT", "ACCEPT"])
    def test_harmless_headers_do_not(self, name: str) -> None:
        assert self.key(headers={name: "x"}) == self.key()

    def test_case_and_order_of_names_do_not(self) -> None:
        one = self.key(headers={"Cookie": "c", "X-A": "1"})
        assert one == self.key(headers={"x-a": "1", "COOKIE": "c"})

    def test_userinfo_is_an_authorization_header(self) -> None:
        assert self.key(authorization="Basic eA==") == self.key(headers={"authorization": "Basic eA=="})

    def test_shared_leaves_credentials_out_but_not_the_discriminator(self) -> None:
        assert self.key(headers={"Cookie": "c"}, shared=True, authorization="a", certificate="d") == self.key()
        assert self.key(shared=True, discriminator="x") != self.key(shared=True)

    def test_the_secret_keys_credentials(self) -> None:
        other = b"o" * 32
        assert self.key(headers={"Cookie": "c"}) != self.key(headers={"Cookie": "c"}, secret=other)
        assert self.key() == self.key(secret=other)

    def test_parts_cannot_be_moved_into_each_other(self) -> None:
        assert self.key(URL + "x", discriminator="y") != self.key(URL, discriminator="xy")
        assert self.key(headers={"ab": "c"}) != self.key(headers={"a": "bc"})
        assert self.key(headers={"a": "b", "c": "d"}) != self.key(headers={"a": "bcd"})

    @given(st.text(), st.dictionaries(st.text(), st.text()), st.none() | st.text(), st.booleans())
    def test_any_text(self, url: str, headers: dict[str, str], discriminator: str | None, shared: bool) -> None:
        assert re.fullmatch(r"[0-9a-f]{32}", self.key(url, headers, discriminator, shared))


class TestHook:
    def test_without_one_the_url_is_canonical(self) -> None:
        assert digested_url("HTTPS://H/a#f", None) == "https://h/a"

    def test_sees_the_canonical_url_and_names_the_asset(self) -> None:
        seen: list[str] = []

        def hook(url: str) -> str:
            seen.append(url)
            return url.partition("?")[0]

        assert digested_url("https://u:p@H/a?sig=1", hook) == "https://h/a"
        assert seen == ["https://h/a?sig=1"]

    @pytest.mark.parametrize("result", ["", None, 5, b"x"])
    def test_what_cannot_name_an_asset(self, result: object) -> None:
        with pytest.raises(InvalidKey):
            digested_url(URL, lambda url: result)

    def test_its_own_error_passes_through(self) -> None:
        def hook(url: str) -> str:
            raise LookupError(url)

        with pytest.raises(LookupError):
            digested_url(URL, hook)
