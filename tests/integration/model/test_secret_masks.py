"""Masking of secrets in text, and in bytes that arrive in pieces."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.sanitize import quote_output as quoted
from orchestrator.model.sanitize import (
    quote_output_end,
    sanitize_output,
    show_controls,
    to_one_line,
)
from orchestrator.model.secret_masking import MIN_SECRET_CHARS, SecretMasker
from orchestrator.model.text_encoding import encode_lossy
from orchestrator.templating import compile_shell
from tests.support.template_scope import HERE, PlainScope

SECRET = "it's $3cr3t/+\"x\\y%"
KEY = "-----BEGIN KEY-----\n" + "\n".join(f"line{n}of+the/key==" for n in range(9)) + "\n--END--\n"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
secrets = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="‹›•"), min_size=MIN_SECRET_CHARS
)
secrets = secrets.filter(lambda text: len(text.strip()) >= MIN_SECRET_CHARS)


def make_masks(*found: tuple[str, str]) -> SecretMasker:
    created = SecretMasker()
    for name, text in found:
        created.add_secret(name, text)
    return created


def test_a_secret_is_shown_as_its_name() -> None:
    assert make_masks(("pw", "hunter22")).mask_text("a hunter22 b") == "a ‹pw› b"


def test_without_secrets_what_is_given_comes_back() -> None:
    text, data = "… a", b"b"
    none = SecretMasker()
    assert none.mask_text(text) is text
    assert none.mask_bytes(data) is data
    assert none.new_stream().feed(data) is data


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        shlex.quote(SECRET),
        json.dumps(SECRET),
        json.dumps({"k": [SECRET]}, ensure_ascii=False),
        repr(SECRET),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_of_a_secret_is_hidden(form: str) -> None:
    shown = make_masks(("pw", SECRET)).mask_text(f"<{form}>")
    assert "‹pw›" in shown
    assert "3cr3t" not in shown.lower()
    assert form.strip("'\"") not in shown


@pytest.mark.parametrize(
    "secret", ["s3cr3t it's", "'s3cr3t'", "日本s3cr3t日1", "s3cr3té$x`日\\", "s3cr3t''🎯"]
)
@pytest.mark.parametrize(
    "text",
    [
        "a {{ x }}",
        "a b{{ x }}",
        "a '{{ x }}'",
        'a "{{ x }}"',
        "a '-{{ x }}1'",
        "cat <<E\n{{ x }}\\n\nE",
    ],
)
def test_a_secret_is_hidden_as_a_command_holds_it(text: str, secret: str) -> None:
    shown = make_masks(("pw", secret)).mask_text(
        compile_shell(text, HERE).render(PlainScope(x=secret))
    )
    assert "‹pw›" in shown
    assert "s3cr3t" not in shown


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_base64_of_a_longer_text_hides_all_of_the_secret_but_its_rims(
    before: int, after: int
) -> None:
    text = "u" * before + SECRET + "v" * after
    shown = make_masks(("pw", SECRET)).mask_text(base64.b64encode(text.encode()).decode())
    assert "‹pw›" in shown
    rim = shown.split("‹pw›")
    assert len(rim[0]) <= before * 8 / 6 + 1
    assert len(rim[1]) <= after * 8 / 6 + 4


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_what_a_shell_traces_is_hidden(shell: str) -> None:
    message = subprocess.run(
        [shell, "-xc", 'echo "$1"', "-", SECRET], capture_output=True, text=True, check=True
    )
    shown = make_masks(("pw", SECRET)).mask_text(message.stderr + message.stdout)
    assert "3cr3t" in message.stderr
    assert "3cr3t" not in shown


def test_each_line_of_a_secret_is_hidden_by_itself() -> None:
    known = make_masks(("key", KEY))
    assert known.mask_text(KEY) == "‹key›"
    assert known.mask_text("> line3of+the/key== <") == "> ‹key› <"
    wrapped = subprocess.run(
        ["base64"], input=KEY, capture_output=True, text=True, check=True
    ).stdout
    assert all(line == "‹key›" for line in known.mask_text(wrapped).splitlines())


def test_overlapping_secrets_leave_nothing_between_them() -> None:
    assert make_masks(("a", "hunter2xy"), ("b", "2xyzzy")).mask_text("hunter2xyzzy!") == "‹a›!"


def test_a_name_that_holds_a_secret_is_not_the_label() -> None:
    assert make_masks(("db_password", "password")).mask_text("the password") == "the ‹secret›"


def test_what_is_too_short_is_left() -> None:
    known = make_masks(("pw", "abc"), ("blank", "  \n  \n"))
    assert not known
    assert known.mask_text("abc") == "abc"


def test_a_part_beside_a_cut_is_hidden() -> None:
    known = make_masks(("pw", "correct-horse-battery"))
    assert known.mask_text("the text 'correct-ho…' is") == "the text '‹secret›…' is"
    assert known.mask_text("x corr\n[… 9 bytes not kept …]\nbattery y").count("‹secret›") == 2


def test_many_secrets_are_found_as_few_are() -> None:
    known = make_masks(*((f"s{n}", f"secret-number-{n}!") for n in range(100)))
    assert known.mask_text("a secret-number-77! b secret-number-7! c") == "a ‹s77› b ‹s7› c"


def test_what_stands_at_a_gap_goes_with_it() -> None:
    known = make_masks(("pw", "correct-horse"))
    assert known.mask_head_and_tail(b"a correct-horse b cor", b"rse c correct-horse") == (
        "a ‹pw› b ".encode(),
        " c ‹pw›".encode(),
    )


@given(
    st.lists(secrets, min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=4), st.data()
)
def test_no_chunking_lets_a_secret_through(
    found: list[str], surrounding: list[str], data: st.DataObject
) -> None:
    known = make_masks(*((f"n{n}", text) for n, text in enumerate(found)))
    parts = [part for text in surrounding for part in (text, data.draw(st.sampled_from(found)))]
    raw = encode_lossy("".join(parts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    stream, given_out = known.new_stream(), b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        given_out += stream.feed(raw[start:end])
    given_out += stream.finish()
    assert given_out == known.mask_bytes(raw)
    for text in found:
        assert encode_lossy(text) not in given_out


@given(secrets, texts, texts)
def test_text_and_bytes_are_masked_alike(secret: str, before: str, after: str) -> None:
    known = make_masks(("pw", secret))
    text = before.replace("…", "") + secret + after.replace("…", "")
    assert secret not in known.mask_text(text)
    assert encode_lossy(known.mask_text(text)) == known.mask_bytes(encode_lossy(text))


@given(st.lists(st.sampled_from([b"a", b"aa", b"ab", b"b"]), max_size=40))
def test_no_more_than_a_secret_is_held_back(chunks: list[bytes]) -> None:
    known = make_masks(("pw", "aaaaa"))
    longest = known.table.longest_form
    stream, given_in, given_out = known.new_stream(), 0, 0
    for chunk in chunks:
        given_in += len(chunk)
        given_out += len(stream.feed(chunk).replace("‹pw›".encode(), b"aaaaa"))
        assert given_in - given_out < longest + given_in // 2 + 1
    assert stream.feed(b"zz").endswith(b"zz")


UNSEEN = [
    "\x1b[01;31m\x1b[K",  # grep --color
    "\x1b[m\x1b[K",
    "\x1b]8;;http://host/\x1b\\",
    "\x1b]0;title\x07",
    "\x1bPq#0\x1b\\",
    "\x1b(B",
    "\x9b1m",
    "\0",
    "\x07\x7f",
    "\u200b",
    "\u2060\ufeff\xad",
    "\u202e",
    "x\b",
]
FOLDED = ["\n", "\r\n", "\n    ", " ", "\u2028", "\x1b[K\n\t", "\r"]


@pytest.mark.parametrize("within", [*UNSEEN, *FOLDED])
def test_a_secret_is_found_whatever_a_reader_does_not_see_in_it(within: str) -> None:
    known = make_masks(("pw", "hunter2xyz"))
    for at in (1, 4, 9):
        text = f"a {'hunter2xyz'[:at]}{within}{'hunter2xyz'[at:]} b"
        assert known.mask_text(text) == "a ‹pw› b"
        assert known.mask_bytes(text.encode()) == "a ‹pw› b".encode()


def test_a_character_typed_over_itself_is_one() -> None:
    bold = "".join(f"{char}\b{char}" for char in "hunter2xyz")
    known = make_masks(("pw", "hunter2xyz"))
    assert sanitize_output(bold) == "hunter2xyz"
    assert sanitize_output(known.mask_text(f"a {bold} b")) == "a ‹pw› b"


@pytest.mark.parametrize("within", UNSEEN)
def test_a_short_secret_is_found_with_what_is_not_seen_but_not_across_blanks(within: str) -> None:
    known = make_masks(("pin", "12 34"))
    assert known.mask_text(f"<12{within} 34>") == "<‹pin›>"
    assert known.mask_text("rows 12\n  34 and 1234") == "rows 12\n  34 and 1234"


def test_what_is_shown_of_a_secret_with_controls_is_hidden() -> None:
    secret = "be\x07ll and\ttab\nline \x1b[1mtwo"
    known = make_masks(("pw", secret))
    for shown in (
        sanitize_output,
        show_controls,
        to_one_line,
        quoted,
        lambda text: quote_output_end(text.encode()),
    ):
        assert known.mask_text(shown(f"x {secret} y")).strip("'") in ("x ‹pw› y", "x ‹pw› / ‹pw› y")


def test_a_part_beside_a_cut_is_hidden_with_what_is_not_seen_in_it() -> None:
    known = make_masks(("pw", "correct-horse-battery"))
    assert known.mask_text("x corr\x1b[1mect…") == "x ‹secret›…"
    assert known.mask_text("…bat\n  tery y") == "…‹secret› y"
    assert known.mask_head_and_tail(b"a corr\x1b[0mect\n-ho", b"bat\0tery b") == (b"a ", b" b")


def test_a_long_text_of_cuts_is_masked_in_its_time() -> None:
    known = make_masks(("pw", "correct-horse-battery"))
    for text in ("…" * 20_000, "[… " * 20_000, "\x9d" * 20_000, "\x1b]" * 20_000, "c\b" * 20_000):
        assert known.mask_text(text) == text


@given(
    st.lists(
        st.sampled_from(["hunter2xyz", "correct-horse", "a b\tc d e f g h"]), min_size=1, max_size=3
    ),
    st.data(),
)
def test_no_chunking_lets_through_what_a_reader_sees(found: list[str], data: st.DataObject) -> None:
    known = make_masks(*(("pw", text) for text in found))
    within = st.sampled_from([*UNSEEN[:-1], *FOLDED, "", "", "", ""])
    raw = "".join(
        f"{data.draw(texts)}|" + "".join(char + data.draw(within) for char in text[:-1]) + text[-1]
        for text in found
    ).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    stream, given_out = known.new_stream(), b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        given_out += stream.feed(raw[start:end])
    given_out += stream.finish()
    for text in found:
        for shown in (given_out, known.mask_bytes(raw)):
            left = "".join(sanitize_output(shown.decode("utf-8", "surrogateescape")).split())
            assert "".join(text.split()) not in left


def test_what_is_held_back_is_bounded() -> None:
    stream = make_masks(("pw", "hunter2xyz")).new_stream()
    assert stream.feed(b"hunter") == b""
    given_out = b"".join(stream.feed(b"\0" * 1000) for _ in range(20))
    assert len(given_out) > 10_000


def test_a_line_that_ends_like_a_secret_begins_is_not_held_back() -> None:
    stream = make_masks(("pw", "hunter2xyz")).new_stream()
    assert stream.feed(b"such a hun\n") == b"such a hun\n"
    assert stream.feed(b"ter2xyz!") == "‹pw›!".encode()
