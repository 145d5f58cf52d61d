import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.commands.remote_paths import LastWord, last_word
from orchestrator.model.shell_quoting import shell_quote


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("", LastWord(0, "", "")),
        ("cat", LastWord(0, "cat", "")),
        ("cat /var/l", LastWord(4, "/var/l", "cat")),
        ("cat 'it is", LastWord(4, "it is", "cat")),
        ('cat "it\\" is', LastWord(4, 'it" is', "cat")),
        ("cat it\\ is", LastWord(4, "it is", "cat")),
        ("cat a >b/c", LastWord(7, "b/c", "cat")),
        ("ls; cd x", LastWord(7, "x", "cd")),
        ("ls && cd ", LastWord(9, "", "cd")),
        ("cd $HOME/x", None),
        ('cd "`pwd`"/', None),
        ("cd '$HOME/", LastWord(3, "$HOME/", "cd")),
    ],
)
def test_the_last_word_of_an_unfinished_line(line: str, word: LastWord | None) -> None:
    assert last_word(line) == word


@example("\U0001d3a1")
@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_a_quoted_word_is_read_as_what_it_means(value: str) -> None:
    for quoted in (shell_quote(value), shlex.quote(value)):
        word = last_word(f"cat {quoted}")
        assert word is not None
        assert (word.start, word.command) == (4, "cat")
        # shell_quote may write a character as its bytes
        assert word.value.encode("utf-8", "surrogateescape") == value.encode()
