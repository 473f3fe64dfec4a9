"""What is hidden of URLs and texts, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.logic.naming import redact, redact_briefly, redact_source, redact_text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a.mp3", "https://h/a.mp3"),
        ("https://h:8080/a?x=1&y=2#f", "https://h:8080/a?x=…&y=…"),
        ("https://h/a?x=1;y=2&&z=", "https://h/a?x=…;y=…&&z=…"),
        ("https://h/a?token", "https://h/a?…"),
        ("https://h/a?c2VjcmV0IHRva2Vu=&c2VjcmV0IHRva2Vu==&X-Amz-Signature=1", "https://h/a?…&…&X-Amz-Signature=…"),
        ("https://h/a?token?b=1&se+cret=&" + "s" * 41 + "=1", "https://h/a?…&…&…"),
        ("https://h/a?a%5B0%5D=1&b[]=2&$c.d:e~f-g_h=3", "https://h/a?a%5B0%5D=…&b[]=…&$c.d:e~f-g_h=…"),
        ("https://h/a?", "https://h/a?"),
        ("https://h/a?x=b=c?d", "https://h/a?x=…"),
        ("https://u:p@h/a", "https://…@h/a"),
        ("https://u:p@q@h/a", "https://…@h/a"),
        ("https://u:p?q#r@h/a", "https://…@h/a"),
        ("https://h/a@b", "https://h/a@b"),
        ("//u:p@h/a", "//…@h/a"),
        ("u:p@h/a?x=1", "…@h/a?x=…"),
        # What is no URL
        ("https://u:p/q@h/a?x=1", "https://…@h/a?x=…"),
        ("https://u:p/q?r@h/a", "https://…"),
        ("https://u:p/q#r@h/a", "https://…"),
        ("https:/u:p@h/a?x=1", "https:/…@h/a?x=…"),
        ("https:u:p@h/a", "…@h/a"),
        ("https:///u:p@h/a", "https://…@h/a"),
        ("https://u:p@/q@h/a", "https://…@h/a"),
        ("https://[u:p/q@h/a", "https://…@h/a"),
        ("https://h:x/q@h/a", "https://…@h/a"),
        # What is one
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        ("https://h:80/@b/c?x@y", "https://h:80/@b/c?…"),
        ("https://h?x=a@b/c", "https://…@b/c"),
        ("https://h?x=1/c@b", "https://h?x=…"),
        ("file:///a/b@c", "file:///a/b@c"),
        ("a/b@c", "a/b@c"),
        ("u:p/q@h/a", "…@h/a"),
        # A URL within a path, or userinfo
        ("https://h/u:p@i/a@b", "https://h/…@i/a@b"),
        ("https://h/u%3Ap%40i/a@b", "https://h/…%40i/a@b"),
        ("https://h/10:00/a@b", "https://h/10:00/a@b"),
        ("https://h/x/https://u:p@i/a", "https://h/x/https://…@i/a"),
        ("https://h/x/https:/u:p@i/a@b", "https://h/x/https:/…@i/a@b"),
        ("https://h/https%3A%2F%2Fu%3Ap%40i%2Fa", "https://h/…%40i%2Fa"),
        ("/music/What's up? #1.flac", "/music/What's up? #1.flac"),
        ("", ""),
    ],
)
def test_shows(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.text(alphabet="abcXYZ019%:@!$*+", min_size=1).map(lambda text: f"S{text}S"))
def test_hides_userinfo_values_and_fragment(secret: str) -> None:
    shown = redact(f"https://{secret}@h/a?k={secret}&{secret.replace('=', '')}#{secret}")
    assert shown == "https://…@h/a?k=…&…"


@given(st.text())
def test_never_raises(text: str) -> None:
    for text_or_url in (text, "https://" + text, "https:/" + text):
        for hide in (redact, redact_source, redact_text):
            assert isinstance(hide(text_or_url), str)


@given(st.text(alphabet="ab:/?#%&;=[]. "))
def test_a_password_of_any_characters_is_hidden(password: str) -> None:
    """Up to an at sign; what looks like a port, and a slash behind it, make the user a host."""
    assert "SECRET" not in redact(f"https://user:x{password}SECRET@host/a")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("h.test/a.mp3?token=x", "h.test/a.mp3?token=…"),
        ("h.test/a.mp3?token", "h.test/a.mp3?…"),
        ("u:p@h/a", "…@h/a"),
        ("https:/u:p@h/a", "https:/…@h/a"),
        ("https://u:p@h/a", "https://…@h/a"),
        ("a?token=x", "a?token=…"),
        ("a.mp3", "a.mp3"),
        ("b/What's up? #1.flac", "b/What's up? #1.flac"),
        ("./me@home.flac", "./me@home.flac"),
        ("/b/me@home?.flac", "/b/me@home?.flac"),
    ],
)
def test_a_source_is_shown(source: str, shown: str) -> None:
    assert redact_source(source) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no https://u:p@h/a?k=v, but HTTP://h/b#f", "no https://…@h/a?k=… but HTTP://h/b"),
        ("KeyError: 'https://h/a?it's=v&w'", "KeyError: 'https://h/a?…&…"),
        ('"GET /a?k=v HTTP/1.1" 200', '"GET /a?k=… HTTP/1.1" 200'),
        ("Authorization: Bearer abc.def==, basic xyz", "Authorization: Bearer …, basic …"),
        ("what? nothing", "what? nothing"),
        ("https://…@h/a?k=…&…", "https://…@h/a?k=…&…"),
    ],
)
def test_a_text_is_shown(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_a_long_url_is_cut_short_for_an_error() -> None:
    assert redact_briefly("https://u:p@h/a?k=v") == "https://…@h/a?k=…"
    assert redact_briefly("https://h/" + "a" * 490) == "https://h/" + "a" * 490
    assert redact_briefly("https://h/" + "a" * 491) == "https://h/" + "a" * 490 + "…"
