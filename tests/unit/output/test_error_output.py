import re
from pathlib import Path
from textwrap import dedent

from orchestrator.errors import Diagnostic, SourcePosition
from orchestrator.output.error_text import problems_text
from tests.support.output_events import make_screen


def test_a_problem_says_what_where_with_the_line_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "uname.yml"
    file.write_text(
        dedent("""\
        desc: x
        steps:
          - rnu: uname
        """)
    )
    problem = Diagnostic(
        "unknown key 'rnu'", SourcePosition(str(file), 3, 5), "did you mean 'run'?"
    )
    assert problems_text([problem], make_screen()[0]).split("\n") == [
        "error: unknown key 'rnu'",
        f"  --> {file}:3:5",
        "    3 |   - rnu: uname",
        "      |     ^",
        "help: did you mean 'run'?",
    ]


def test_a_problem_without_a_place_is_one_line() -> None:
    assert problems_text([Diagnostic("no stages")], make_screen()[0]) == "error: no stages"


def test_equal_problems_are_one_with_all_their_places_and_several_are_counted() -> None:
    same = [Diagnostic("bad", SourcePosition(f"f{i}", 1, 1), "h") for i in range(7)]
    text = problems_text([*same, same[0], Diagnostic("worse")], make_screen()[0])
    assert text.split("\n") == [
        "error: bad",
        *(f"  --> f{i}:1:1" for i in range(5)),
        "  … and 2 more places",
        "help: h",
        "",
        "error: worse",
        "",
        "2 errors",
    ]


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("a: \x1b[2J\x07\n")
    text = problems_text(
        [Diagnostic("odd \x1b", SourcePosition(str(file), 1, 1))], make_screen()[0]
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_colour_adds_nothing_but_colour() -> None:
    problems = [Diagnostic("bad", SourcePosition("f", 1, 1), "h")]
    coloured = problems_text(problems, make_screen(colour=True)[0])
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == problems_text(problems, make_screen()[0])
