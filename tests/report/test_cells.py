from hypothesis import given
from hypothesis import strategies as st

from orchestrator.output.text_width import cells, cut, pad, wrap

TEXT = st.text("ab 繁é-", max_size=60)


@given(TEXT, st.integers(2, 30))
def test_wrapped_text_fits_and_loses_only_spaces(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cells(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(TEXT, st.integers(1, 30))
def test_cut_text_fits_and_says_that_it_was_cut(text: str, width: int) -> None:
    shown = cut(text, width)
    assert cells(shown) <= width
    assert shown == text or shown.endswith("…")


def test_wide_characters_take_two_columns() -> None:
    assert cells("繁體") == 4
    assert pad("繁", 4) + "|" == "繁  |"
    assert pad("7", 3, right=True) == "  7"


def test_a_megabyte_without_a_space_is_wrapped_whole() -> None:
    lines = wrap("x" * 1_000_000, 80)
    assert sum(map(len, lines)) == 1_000_000
