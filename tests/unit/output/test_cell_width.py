from hypothesis import given
from hypothesis import strategies as st

from orchestrator.output.text_width import display_width, pad_text, truncate_text, wrap_text

TEXT = st.text("ab 繁é-", max_size=60)


@given(TEXT, st.integers(2, 30))
def test_wrapped_text_fits_and_loses_only_spaces(text: str, width: int) -> None:
    lines = wrap_text(text, width)
    assert all(display_width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(TEXT, st.integers(1, 30))
def test_cut_text_fits_and_says_that_it_was_cut(text: str, width: int) -> None:
    shown = truncate_text(text, width)
    assert display_width(shown) <= width
    assert shown == text or shown.endswith("…")


def test_wide_characters_take_two_columns() -> None:
    assert display_width("繁體") == 4
    assert pad_text("繁", 4) + "|" == "繁  |"
    assert pad_text("7", 3, right=True) == "  7"


def test_a_megabyte_without_a_space_is_wrapped_whole() -> None:
    lines = wrap_text("x" * 1_000_000, 80)
    assert sum(map(len, lines)) == 1_000_000
