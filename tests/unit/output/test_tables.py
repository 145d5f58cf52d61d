from hypothesis import given
from hypothesis import strategies as st

from orchestrator.output.tables import TableColumn, table_lines
from orchestrator.output.text_width import display_width

COLUMNS = (
    TableColumn("host"),
    TableColumn("roles", drop=2),
    TableColumn("status"),
    TableColumn("seconds", right=True, drop=1),
    TableColumn("reason"),
)
CELL = st.text("ab繁.-", max_size=12)
ROWS = st.lists(st.tuples(CELL, CELL, CELL, CELL, st.text("ab 繁é", max_size=90)), max_size=6)


@given(ROWS, st.integers(20, 120))
def test_every_line_fits_and_what_may_not_be_dropped_is_whole(
    rows: list[tuple[str, ...]], width: int
) -> None:
    lines = table_lines(COLUMNS, rows, width)
    assert all(display_width(line) <= width for line in lines)
    assert all(line == line.rstrip() for line in lines)
    letters = "".join(lines).replace(" ", "")
    for row in rows:
        for i in (0, 2):
            assert row[i] in letters
        assert all(word in letters for word in row[4].split() if len(word) <= 8)


@given(ROWS)
def test_without_a_width_each_row_is_one_line_with_all_its_cells(
    rows: list[tuple[str, ...]],
) -> None:
    lines = table_lines(COLUMNS, rows)
    assert len(lines) == len(rows) + 1
    for row, line in zip(rows, lines[1:], strict=True):
        assert all(" ".join(cell.split()) in line for cell in row)


def test_columns_line_up_and_empty_ones_are_left_out() -> None:
    rows = [("web1", "", "ok", "0.5", ""), ("database", "", "failed", "12.5", "exit 1")]
    assert table_lines(COLUMNS, rows) == [
        "host      status  seconds  reason",
        "web1      ok          0.5",
        "database  failed     12.5  exit 1",
    ]


def test_where_it_is_narrow_columns_go_and_the_reason_wraps() -> None:
    rows = [("web1", "appservers", "failed", "12.5", "the disk is full and nobody was told")]
    assert table_lines(COLUMNS, rows, 36) == [
        "host  status  reason",
        "web1  failed  the disk is full and",
        "              nobody was told",
    ]


def test_a_host_wider_than_the_terminal_is_wrapped_not_cut() -> None:
    rows = [("a-very-long-host-name.example.net", "", "ok", "1", "")]
    assert table_lines(COLUMNS, rows, 20) == [
        "host",
        "    status",
        "a-very-long-host-nam",
        "e.example.net",
        "    ok",
    ]


def test_control_characters_in_a_cell_do_not_reach_the_terminal() -> None:
    assert table_lines((TableColumn("host"),), [("a\x07\nb",)]) == ["host", "a\\x07 b"]
