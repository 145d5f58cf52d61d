import io

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.output.console import TextConsole
from orchestrator.output.host_diff import OutputGroup, host_diff_lines

OUT = TextConsole(io.StringIO())


def diff(*groups: OutputGroup, whole: bool = False) -> list[str]:
    return list(host_diff_lines(groups, OUT, whole=whole))


def test_each_group_is_compared_with_the_output_of_the_most_hosts() -> None:
    assert diff(
        OutputGroup(("db1",), ("a", "x")),
        OutputGroup(("web1", "web2"), ("a", "b")),
        OutputGroup(("cache1",), ("a", "b"), ("oops",)),
    ) == [
        "web[1-2]: the most common output, of 2 hosts",
        "── db1 ──",
        "  --- stdout of web[1-2]",
        "  +++ stdout of db1",
        "  @@ -1,2 +1,2 @@",
        "   a",
        "  -b",
        "  +x",
        "── cache1 ──",
        "  --- stderr of web[1-2]",
        "  +++ stderr of cache1",
        "  @@ -0,0 +1 @@",
        "  +oops",
    ]


def test_equal_outputs_are_said_to_be_equal() -> None:
    assert diff(OutputGroup(("web1", "web2"), ("a",))) == ["web[1-2]: all outputs are equal"]


def test_of_groups_of_one_size_the_first_is_compared_with() -> None:
    lines = diff(OutputGroup(("b",), ("1",)), OutputGroup(("a",), ("2",)))
    assert lines[0] == "b: the most common output, of 1 host"


LINES = st.lists(st.sampled_from("abcd"), max_size=30)


@given(LINES, LINES)
def test_the_hunks_make_one_output_of_the_other(before: list[str], after: list[str]) -> None:
    groups = OutputGroup(("a", "b"), tuple(before)), OutputGroup(("c",), tuple(after))
    if before == after:
        return
    hunks = [line[2:] for line in diff(*groups, whole=True)[4:]]
    patched = _apply(before, [line if line else " " for line in hunks])
    assert patched == after


def _apply(before: list[str], hunks: list[str]) -> list[str]:
    """Return the text that a unified diff makes of another, as patch(1) would."""
    result: list[str] = []
    at = 0
    for line in hunks:
        if line.startswith("@@"):
            first, _, length = line.split()[1][1:].partition(",")
            start = int(first) - (length != "0")
            result += before[at:start]
            at = start
        elif line.startswith("+"):
            result.append(line[1:])
        else:
            assert before[at] == line[1:]
            at += 1
            if line.startswith(" "):
                result.append(line[1:])
    return result + before[at:]


def test_outputs_too_long_to_compare_are_one_hunk_and_cut() -> None:
    before = tuple(f"old {number}" for number in range(30_000))
    after = tuple(f"new {number}" for number in range(30_000))
    lines = diff(OutputGroup(("a", "b"), ("same", *before)), OutputGroup(("c",), ("same", *after)))
    assert lines[4] == "  @@ -2,30000 +2,30000 @@"
    assert lines[-1] == "  [… 59941 more lines of the diff]"
    assert len(lines) < 70


def test_a_line_of_a_host_is_never_at_the_beginning_of_a_line() -> None:
    forged = "web[1-2]: all outputs are equal"
    lines = diff(OutputGroup(("web1", "web2"), ("a",)), OutputGroup(("evil",), (forged,)))
    assert forged not in lines
