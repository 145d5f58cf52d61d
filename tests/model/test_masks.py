"""Secrets out of text and out of bytes that come bit by bit."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.masks import LEAST, Masks, as_bytes

SECRET = "it's $3cr3t/+\"x\\y%"
KEY = "-----BEGIN KEY-----\n" + "\n".join(f"line{n}of+the/key==" for n in range(9)) + "\n--END--\n"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
secrets = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="‹›•"), min_size=LEAST
)
secrets = secrets.filter(lambda text: len(text.strip()) >= LEAST)


def masks(*found: tuple[str, str]) -> Masks:
    made = Masks()
    for name, text in found:
        made.add(name, text)
    return made


def test_a_secret_is_shown_as_its_name() -> None:
    assert masks(("pw", "hunter22")).text("a hunter22 b") == "a ‹pw› b"


def test_without_secrets_what_is_given_comes_back() -> None:
    text, data = "… a", b"b"
    none = Masks()
    assert none.text(text) is text
    assert none.data(data) is data
    assert none.stream().feed(data) is data


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
    shown = masks(("pw", SECRET)).text(f"<{form}>")
    assert "‹pw›" in shown
    assert "3cr3t" not in shown.lower()
    assert form.strip("'\"") not in shown


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_base64_of_a_longer_text_hides_all_of_the_secret_but_its_rims(
    before: int, after: int
) -> None:
    text = "u" * before + SECRET + "v" * after
    shown = masks(("pw", SECRET)).text(base64.b64encode(text.encode()).decode())
    assert "‹pw›" in shown
    rim = shown.split("‹pw›")
    assert len(rim[0]) <= before * 8 / 6 + 1
    assert len(rim[1]) <= after * 8 / 6 + 4


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_what_a_shell_traces_is_hidden(shell: str) -> None:
    told = subprocess.run(
        [shell, "-xc", 'echo "$1"', "-", SECRET], capture_output=True, text=True, check=True
    )
    shown = masks(("pw", SECRET)).text(told.stderr + told.stdout)
    assert "3cr3t" in told.stderr
    assert "3cr3t" not in shown


def test_each_line_of_a_secret_is_hidden_by_itself() -> None:
    known = masks(("key", KEY))
    assert known.text(KEY) == "‹key›"
    assert known.text("> line3of+the/key== <") == "> ‹key› <"
    wrapped = subprocess.run(
        ["base64"], input=KEY, capture_output=True, text=True, check=True
    ).stdout
    assert all(line == "‹key›" for line in known.text(wrapped).splitlines())


def test_overlapping_secrets_leave_nothing_between_them() -> None:
    assert masks(("a", "hunter2xy"), ("b", "2xyzzy")).text("hunter2xyzzy!") == "‹a›!"


def test_a_name_that_holds_a_secret_is_not_the_label() -> None:
    assert masks(("db_password", "password")).text("the password") == "the ‹secret›"


def test_what_is_too_short_is_left() -> None:
    known = masks(("pw", "abc"), ("blank", "  \n  \n"))
    assert not known
    assert known.text("abc") == "abc"


def test_a_part_beside_a_cut_is_hidden() -> None:
    known = masks(("pw", "correct-horse-battery"))
    assert known.text("the text 'correct-ho…' is") == "the text '‹secret›…' is"
    assert known.text("x corr\n[… 9 bytes not kept …]\nbattery y").count("‹secret›") == 2


def test_many_secrets_are_found_as_few_are() -> None:
    known = masks(*((f"s{n}", f"secret-number-{n}!") for n in range(100)))
    assert known.text("a secret-number-77! b secret-number-7! c") == "a ‹s77› b ‹s7› c"


def test_what_stands_at_a_gap_goes_with_it() -> None:
    known = masks(("pw", "correct-horse"))
    assert known.ends(b"a correct-horse b cor", b"rse c correct-horse") == (
        "a ‹pw› b ".encode(),
        " c ‹pw›".encode(),
    )


@given(
    st.lists(secrets, min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=4), st.data()
)
def test_no_chunking_lets_a_secret_through(
    found: list[str], around: list[str], data: st.DataObject
) -> None:
    known = masks(*((f"n{n}", text) for n, text in enumerate(found)))
    parts = [part for text in around for part in (text, data.draw(st.sampled_from(found)))]
    raw = as_bytes("".join(parts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    stream, given_out = known.stream(), b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        given_out += stream.feed(raw[start:end])
    given_out += stream.end()
    assert given_out == known.data(raw)
    for text in found:
        assert as_bytes(text) not in given_out


@given(secrets, texts, texts)
def test_text_and_bytes_are_masked_alike(secret: str, before: str, after: str) -> None:
    known = masks(("pw", secret))
    text = before.replace("…", "") + secret + after.replace("…", "")
    assert secret not in known.text(text)
    assert as_bytes(known.text(text)) == known.data(as_bytes(text))


@given(st.lists(st.sampled_from([b"a", b"aa", b"ab", b"b"]), max_size=40))
def test_no_more_than_a_secret_is_held_back(chunks: list[bytes]) -> None:
    known = masks(("pw", "aaaaa"))
    longest = max(map(len, known.table.labels))
    stream, given_in, given_out = known.stream(), 0, 0
    for chunk in chunks:
        given_in += len(chunk)
        given_out += len(stream.feed(chunk).replace("‹pw›".encode(), b"aaaaa"))
        assert given_in - given_out < longest + given_in // 2 + 1
    assert stream.feed(b"zz").endswith(b"zz")
