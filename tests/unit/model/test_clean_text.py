import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.sanitize import (
    decode_sanitized,
    sanitize_output,
    show_controls,
    to_one_line,
)

ESCAPES = st.text(st.sampled_from("\x1b[]0;1m?\\PX^_\x07\x9b\x9c\x9d\r\n\b\t a\ud800\u202e\x85"))


def is_harmless(text: str) -> bool:
    return not any(
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\n\t"
        for char in text
    ) and not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


@given(st.text(st.characters()) | ESCAPES)
def test_clean_text_holds_no_character_that_moves_or_reorders(text: str) -> None:
    assert is_harmless(sanitize_output(text))
    assert is_harmless(show_controls(text))
    sanitize_output(text).encode("utf-8")


@given(st.binary() | st.binary().map(lambda b: b.replace(b"a", b"\x1b[")))
def test_any_bytes_decode_to_harmless_text(data: bytes) -> None:
    assert is_harmless(decode_sanitized(data))


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")) | st.sampled_from("\n\t")))
def test_text_without_controls_stays_as_it_is(text: str) -> None:
    assert sanitize_output(text) == text
    assert show_controls(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bplain\x1b7", "plain"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1b]0;never ended", "0;never ended"),
        ("a\x1b", "a\\x1b"),
        ("\x1b\x1b[31m[32mx", "\\x1b[32mx"),
        ("10%\r20%\rdone 30%", "done 30%"),
        ("10%\r20%\r", "20%"),
        ("95%\r      \nnext", "95%\nnext"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("N\bNA\bA", "NA"),
        ("line\n\b\bx", "line\nx"),
        ("bell\x07 nul\x00", "bell\\x07 nul\\x00"),
        ("rtl \u202egnp.exe", "rtl \\u202egnp.exe"),
        ("two\u2028lines", "two\\u2028lines"),
        ("tab\there", "tab\there"),
        ("byte \udcff", "byte \\xff"),
        ("[red]not markup[/]", "[red]not markup[/]"),
    ],
)
def test_what_a_terminal_would_be_left_with(text: str, shown: str) -> None:
    assert sanitize_output(text) == shown


def test_latin_1_is_shown_byte_by_byte_and_keeps_its_neighbours() -> None:
    assert decode_sanitized("café\n".encode("latin-1")) == "caf\\xe9\n"


def test_visible_leaves_nothing_out() -> None:
    assert show_controls("\x1b[31mred\rx") == "\\x1b[31mred\\x0dx"


def test_one_line_has_no_line_break_or_tab() -> None:
    assert to_one_line(" a\n\tb\x1b[0m  c ") == "a b c"
