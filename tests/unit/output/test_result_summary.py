import re

import pytest
from msgspec.structs import replace

from orchestrator.model.event import StepFinished, TaskStarted
from orchestrator.model.step_result import HostSummary, StateChange, Status
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.summary import SummarySink, results_table, summary_line
from orchestrator.output.text_width import display_width
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    make_screen,
    run_finished,
    run_started,
    step_finished,
)


def show_summary(
    *events, width: int | None = 80, colour: bool = False, whole: bool = False
) -> list[str]:
    out, stream = make_screen(width, colour=colour)
    sink = SummarySink(out, DisplayOptions(verbose=int(whole)))
    for event in events:
        sink(event)
    return stream.getvalue().split("\n")


def test_equal_output_is_folded_and_the_table_and_the_sum_come_last() -> None:
    hosts = ("devserver1", "devserver2", "db")
    same = [step_finished(host, make_outcome(b"Linux 6.1\n")) for host in hosts[:2]]
    rows = [make_row(host) for host in hosts]
    shown = show_summary(
        run_started(*hosts),
        *same,
        step_finished("db", make_outcome()),
        run_finished(*rows, log="/l/run"),
    )
    assert shown == [
        "devserver[1-2]: Linux 6.1",
        "",
        "host        status  ok  changed  failed  skipped  seconds",
        "devserver1  ok       1        0       0        0     0.03",
        "devserver2  ok       1        0       0        0     0.03",
        "db          ok       1        0       0        0     0.03",
        "3 hosts: 3 ok in 2.3 s",
        "log: /l/run",
        "",
    ]


def test_groups_stand_in_the_inventorys_order_whoever_was_first() -> None:
    ends = [step_finished(host, make_outcome(host.encode())) for host in ("c", "b", "a")]
    assert show_summary(run_started("a", "b", "c"), *ends, run_finished())[:3] == [
        "a: a",
        "b: b",
        "c: c",
    ]


def test_several_lines_and_stderr_stand_under_a_heading() -> None:
    end = make_outcome(b"one\n  two\n", b"careful\n")
    assert show_summary(run_started("a"), step_finished("a", end), run_finished())[:4] == [
        "── a ──",
        "  one",
        "    two",
        "! careful",
    ]


def test_one_line_on_stderr_is_told_from_stdout() -> None:
    end = make_outcome(b"", b"careful\n")
    assert (
        show_summary(run_started("a"), step_finished("a", end), run_finished())[0] == "a ! careful"
    )


def test_each_step_has_a_title_where_there_are_several() -> None:
    ends = [
        step_finished("a", make_outcome(b"x"), 1, "blog"),
        step_finished("a", make_outcome(b"y"), 2, "blog", "date"),
    ]
    assert show_summary(run_started("a"), *ends, run_finished())[:4] == [
        "━━ blog uname, step 1: uname -a ━━",
        "a: x",
        "━━ blog uname, step 2: date ━━",
        "a: y",
    ]


def test_under_check_what_would_happen_is_folded_over_hosts_with_its_text() -> None:
    ends = [
        *(
            step_finished(h, make_outcome(status=Status.WOULD_RUN, reason="make all"))
            for h in ("a1", "a2")
        ),
        step_finished(
            "b", make_outcome(b"- old\n+ new\n", status=Status.WOULD_CHANGE, reason="x\ny")
        ),
    ]
    assert show_summary(run_started("a1", "a2", "b"), *ends, run_finished())[:8] == [
        "━━ uname, step 1: uname -a ━━",
        "a[1-2]: would run: make all",
        "── b ──",
        "  would change:",
        "  x",
        "  y",
        "  - old",
        "  + new",
    ]


def test_long_output_shows_head_and_tail_unless_it_is_wanted_whole() -> None:
    text = b"".join(b"line %d\n" % i for i in range(500))
    shown = show_summary(run_started("a"), step_finished("a", make_outcome(text)), run_finished())
    assert shown[1:31] == [f"  line {i}" for i in range(30)]
    assert shown[31] == "  [… 440 lines omitted; the log has all …]"
    assert shown[32:62] == [f"  line {i}" for i in range(470, 500)]
    assert "  line 250" in show_summary(
        run_started("a"), step_finished("a", make_outcome(text)), run_finished(), whole=True
    )


def test_output_that_differs_only_in_what_is_not_shown_is_not_called_equal() -> None:
    one = b"x\n" * 500
    other = b"x\n" * 250 + b"y\n" + b"x\n" * 249
    ends = [step_finished("a1", make_outcome(one)), step_finished("a2", make_outcome(other))]
    headings = [
        line
        for line in show_summary(run_started("a1", "a2"), *ends, run_finished())
        if "──" in line
    ]
    assert headings == ["── a1 ──", "── a2 ──"]


def test_a_line_of_a_megabyte_is_cut_in_its_middle() -> None:
    shown = show_summary(
        run_started("a"), step_finished("a", make_outcome(b"x" * 1_000_000)), run_finished()
    )
    assert len(shown[0]) < 5000
    assert "[… 996000 characters …]" in shown[0]


def test_output_is_data_and_not_markup_or_control_codes() -> None:
    text = b"[red]x[/] :smile: \x1b[31mred\x1b[0m caf\xe9 1%\r2%\n"
    assert (
        show_summary(run_started("a"), step_finished("a", make_outcome(text)), run_finished())[0]
        == "a: 2%"
    )
    text = b"[red]x[/] :smile: \x1b[31mred\x1b[0m caf\xe9\x07\n"
    shown = show_summary(run_started("a"), step_finished("a", make_outcome(text)), run_finished())[
        0
    ]
    assert shown == "a: [red]x[/] :smile: red caf\\xe9\\x07"


def test_rows_stand_worst_last_with_their_last_words_beneath() -> None:
    rows = [
        make_row("bad", Status.FAILED, "step 2 'build': exit 2", "1\n2\n3\n4\n5\n6\n"),
        make_row("late", Status.TIMED_OUT, "after 30 s"),
        make_row("fine"),
        make_row("away", Status.UNREACHABLE, "connect: refused"),
        make_row("new", Status.CHANGED),
    ]
    out, _ = make_screen(90)
    assert list(results_table(rows, out)) == [
        "host  status       ok  changed  failed  skipped  seconds  reason",
        "fine  ok            1        0       0        0     0.03",
        "new   changed       1        0       0        0     0.03",
        "away  unreachable   1        0       0        0     0.03  connect: refused",
        "late  timed out     1        0       0        0     0.03  after 30 s",
        "bad   failed        1        0       0        0     0.03  step 2 'build': exit 2",
        "    ! 2",
        "    ! 3",
        "    ! 4",
        "    ! 5",
        "    ! 6",
    ]


def test_equal_rows_of_many_hosts_are_one_row_with_the_longest_time() -> None:
    rows = [make_row(f"web{i:03}") for i in range(1, 41)]
    rows[4] = replace(rows[4], seconds=2.5)
    rows[7] = replace(rows[7], changed=3, status=Status.CHANGED)
    rows += [make_row(f"db{i}", Status.FAILED, f"db{i}: exit 1", "no space\n") for i in (1, 2)]
    out, _ = make_screen(90)
    assert list(results_table(rows, out)) == [
        "host                       status   ok  changed  failed  skipped  seconds  reason",
        "web[001-007,009-040] (39)  ok        1        0       0        0     2.50",
        "web008                     changed   1        3       0        0     0.03",
        "db[1-2] (2)                failed    1        0       0        0     0.03  db[1-2]: exit 1",
        "    db[1-2]:",
        "    ! no space",
    ]
    assert len(list(results_table(rows, out, unfold=True))) == 1 + 42 + 2


def test_hosts_of_a_row_with_long_names_are_the_first_ones_and_their_number() -> None:
    rows = [make_row(f"{name * 9}.example.net") for name in "abcdefghijklmnopqrstuvwxyzabcdefgh"]
    rows = [replace(row, host=f"{row.host}{n}x{n}") for n, row in enumerate(rows)]
    out, _ = make_screen(None)
    (_, line) = results_table(rows, out)
    assert line.startswith("aaaaaaaaa.example.net0x0,… (34)  ok ")


def test_apps_roles_counts_and_reasons_tell_rows_apart() -> None:
    rows = [make_row(f"web{i}") for i in range(30)]
    rows[1] = replace(rows[1], app="blog")
    rows[2] = replace(rows[2], roles=("web",))
    rows[3] = replace(rows[3], skipped=1)
    rows[4] = replace(rows[4], reason="because")
    out, _ = make_screen(None)
    assert len(list(results_table(rows, out))) == 1 + 5
    assert len(list(results_table(rows[:29], out))) == 1 + 29


def test_hosts_that_failed_alike_share_their_last_words() -> None:
    rows = [make_row(f"web{i}", Status.FAILED, "exit 1", "no space\n") for i in (1, 2, 3)]
    out, _ = make_screen(90)
    shown = list(results_table(rows, out))
    assert shown[4:] == ["    web[1-3]: exit 1", "    ! no space"]
    assert "exit 1" not in "".join(shown[:4])
    two = list(results_table(rows[:2], out))
    assert two[3:] == ["    web[1-2]:", "    ! no space"]
    assert two[1].endswith("exit 1")


def test_an_address_in_a_message_does_not_make_it_different() -> None:
    rows = [
        HostSummary(
            f"web{i}", None, Status.UNREACHABLE, f"auth: u@10.0.0.{i}:22: refused", hint="add a key"
        )
        for i in (1, 2, 3)
    ]
    out, _ = make_screen(100)
    assert list(results_table(rows, out))[4:] == [
        "    web[1-3]: auth: u@10.0.0.[1-3]:22: refused",
        "    help: add a key",
    ]
    other = HostSummary(
        "web4", None, Status.UNREACHABLE, "auth: u@10.0.0.4:22: timed out", hint="add a key"
    )
    shown = list(results_table([*rows, other], out))
    assert sum("help:" in line for line in shown) == 2


def test_handlers_that_hosts_alike_did_not_run_are_one_command() -> None:
    command = "not run yet: orch -s dev run t --handler h -l web{}"
    rows = [
        HostSummary(f"web{i}", None, Status.FAILED, "exit 1", hint=command.format(i))
        for i in (1, 2, 3)
    ]
    out, _ = make_screen(100)
    shown = list(results_table(rows, out))
    hints = [line for line in shown if "not run yet" in line]
    assert hints == ["    help: not run yet: orch -s dev run t --handler h -l 'web[1-3]'"]


def test_a_hint_stands_beneath_what_it_is_for() -> None:
    away = HostSummary(
        "a", None, Status.UNREACHABLE, "auth: refused", hint="is the key in the agent?"
    )
    out, _ = make_screen(90)
    assert list(results_table([away], out))[-1] == "    help: is the key in the agent?"


def test_stderr_that_stands_beneath_the_table_is_not_shown_twice() -> None:
    end = make_outcome(b"", b"no space\n", Status.FAILED)
    failed = make_row("a", Status.FAILED, "exit 1", "no space")
    shown = show_summary(run_started("a"), step_finished("a", end), run_finished(failed))
    assert [line for line in shown if "no space" in line] == ["    ! no space"]


def test_stderr_of_a_failure_that_was_rescued_is_shown() -> None:
    end = make_outcome(b"", b"no space\n", Status.FAILED)
    assert (
        show_summary(run_started("a"), step_finished("a", end), run_finished(make_row("a")))[0]
        == "a ! no space"
    )


@pytest.mark.parametrize("width", [40, 80, None])
def test_five_hundred_rows_are_all_there_at_any_width(width: int | None) -> None:
    names = [f"web{i:03}.example.net" for i in range(500)]
    reason = "step 3 'unpack the release': exit status 2"
    rows = [make_row(name, Status.FAILED, reason) for name in names]
    out, _ = make_screen(width)
    shown = list(results_table(rows, out, unfold=True))
    assert [line.split()[0] for line in shown if line.startswith("web")] == names
    assert " ".join(" ".join(shown).split()).count("exit status 2") == 1
    assert width is None or all(display_width(line) <= width for line in shown)


def test_apps_and_roles_have_columns_where_there_are_any() -> None:
    rows = [HostSummary("a", app, Status.OK, roles=("web", "db")) for app in ("blog", "shop")]
    out, _ = make_screen(100)
    assert list(results_table(rows, out))[:2] == [
        "host  app   roles   status  ok  changed  failed  skipped  seconds",
        "a     blog  web,db  ok       0        0       0        0     0.00",
    ]
    assert summary_line(rows, 1.0) == "1 host, 2 apps: 2 ok in 1.0 s"


def test_the_sum_names_each_state_worst_last() -> None:
    states = [Status.FAILED] * 2 + [Status.OK] * 296 + [Status.UNREACHABLE] + [Status.NOT_STARTED]
    rows = [make_row(f"h{i}", status) for i, status in enumerate(states)]
    output = "300 hosts: 296 ok, 1 not started, 1 unreachable, 2 failed in 2.3 s"
    assert summary_line(rows, 2.3) == output


def test_colour_adds_nothing_but_colour() -> None:
    rows = [
        make_row("a", Status.FAILED, "exit 1", "why"),
        make_row("b", Status.CHANGED),
        make_row("c"),
    ]
    events = [
        run_started("a"),
        step_finished("b", make_outcome(b"x\ny")),
        run_finished(*rows, log="/l"),
    ]
    coloured = show_summary(*events, colour=True)
    assert "\x1b[31m" in "".join(coloured)
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in coloured] == show_summary(*events)


def test_unknown_steps_have_a_column_where_there_are_any() -> None:
    known = HostSummary("devserver1", None, Status.OK, "", 12, roles=("appservers",))
    unknown = HostSummary(
        "devserver2",
        None,
        status=Status.UNKNOWN,
        reason="",
        ok=1,
        changed=2,
        failed=0,
        skipped=3,
        seconds=0.5,
        roles=("appservers",),
    )
    heading, *_ = results_table([known], make_screen(80)[0])
    assert "unknown" not in heading.split()
    shown = list(results_table([known, replace(unknown, unknown=4)], make_screen(80)[0]))
    assert shown == [
        "host        roles       status   ok  changed  unknown  failed  skipped  seconds",
        "devserver1  appservers  ok       12        0        0       0        0     0.00",
        "devserver2  appservers  unknown   1        2        4       0        3     0.50",
    ]


@pytest.mark.parametrize("width", range(20, 81))
def test_the_counts_are_shown_together_or_not_at_all(width: int) -> None:
    row = HostSummary(
        "web1.example.net",
        None,
        status=Status.FAILED,
        reason="exit 1",
        ok=1,
        changed=2,
        failed=3,
        skipped=4,
        seconds=0.5,
        unknown=5,
    )
    lines = list(results_table([row], make_screen(width)[0]))
    counts = {"ok", "changed", "unknown", "failed", "skipped"}
    assert len(counts & set(lines[0].split())) in (0, 5)
    assert all(display_width(line) <= width for line in lines)


def test_the_line_with_the_cause_stays_when_advice_follows_it() -> None:
    output = (
        "fatal: detected dubious ownership in repository at '/srv/blog'\n"
        "To add an exception for this directory, call:\n\n"
        "\tgit config --global --add safe.directory /srv/blog\n"
        "\nmore advice\nand more\n"
    )
    out, _ = make_screen(100)
    shown = list(results_table([make_row("a", Status.FAILED, "exit 128", output)], out))[2:]
    assert shown == [
        "    ! fatal: detected dubious ownership in repository at '/srv/blog'",
        "    ! …",
        "    !",
        "    ! more advice",
        "    ! and more",
    ]


def test_the_last_lines_are_shown_as_they_are_if_they_hold_a_cause_or_none_does() -> None:
    out, _ = make_screen(100)
    for output in ("error: old\n1\n2\n3\n4\nE: new\n", "begin\n1\n2\n3\n4\nend\n"):
        shown = list(results_table([make_row("a", Status.FAILED, "exit 1", output)], out))[2:]
        assert [line[6:] for line in shown] == output.split("\n")[-6:-1]


def task_started(task: str, *hosts: str, app: str | None = None) -> TaskStarted:
    return TaskStarted(NOW, app, task, hosts, 2)


def changed(host: str, step: int, *changes: StateChange, task: str = "uname") -> StepFinished:
    result = replace(make_outcome(status=Status.CHANGED), changes=changes)
    return replace(step_finished(host, result, step, name=f"step {step}"), task=task)


def test_what_was_changed_is_listed_by_steps_with_the_hosts_of_each_change() -> None:
    mode, owner = StateChange("mode", "0600", "0644"), StateChange("owner", "root", "www")
    shown = show_summary(
        run_started("a1", "a2", "b"),
        task_started("first", "a1"),
        task_started("uname", "a1", "a2", "b"),
        changed("b", 2, owner),
        changed("a1", 1, mode),
        changed("a2", 1, mode),
        changed("a1", 1, task="first"),
        run_finished(),
    )
    assert shown[:5] == [
        "changed:",
        "  first › step 1  a1",
        "  uname › step 1  a[1-2]  mode: 0600 → 0644",
        "  uname › step 2  b  owner: root → www",
        "",
    ]


def test_a_single_step_without_states_is_left_to_the_table() -> None:
    assert "changed:" not in show_summary(run_started("a"), changed("a", 1), run_finished())
    both = show_summary(run_started("a"), changed("a", 1), changed("a", 2), run_finished())
    assert "changed:" in both


def test_a_list_of_many_changed_steps_is_cut() -> None:
    events = [changed("a", number) for number in range(1, 80)]
    shown = show_summary(run_started("a"), *events, run_finished())
    assert shown[51] == "  … and 29 more steps; the log has all"


def test_changes_are_not_listed_again_where_lines_above_show_them() -> None:
    out, stream = make_screen(80)
    sink = SummarySink(out, DisplayOptions(), needs_changes=lambda: False)
    for event in (run_started("a"), changed("a", 1), changed("a", 2), run_finished()):
        sink(event)
    assert "changed:" not in stream.getvalue()


def test_outputs_and_diffs_are_in_the_order_of_the_steps_whoever_was_first() -> None:
    late = replace(step_finished("b", make_outcome(b"y\n"), 2), task="second")
    shown = show_summary(
        run_started("a", "b"),
        task_started("uname", "a", "b"),
        task_started("second", "a", "b"),
        late,
        step_finished("b", make_outcome(b"x\n"), 2),
        step_finished("a", make_outcome(b"x\n"), 1),
        run_finished(),
    )
    assert [line for line in shown if line.startswith("━━")] == [
        "━━ uname, step 1: uname -a ━━",
        "━━ uname, step 2: uname -a ━━",
        "━━ second, step 2: uname -a ━━",
    ]


def test_outputs_of_hosts_are_compared_with_the_most_common_one_also_where_they_are_long() -> None:
    out, stream = make_screen(80)
    sink = SummarySink(out, DisplayOptions(diff_hosts=True))
    lines = [b"line %d\n" % number for number in range(200)]
    other = [*lines[:100], b"another\n", *lines[101:]]
    sink(run_started("a", "b", "c"))
    for host, text in (("a", other), ("b", lines), ("c", lines)):
        sink(step_finished(host, make_outcome(b"".join(text))))
    sink(run_finished())
    shown = stream.getvalue().split("\n")
    assert shown[0] == "── b,c ──"
    assert len(shown) < 90
    assert [line for line in shown if line.startswith(("  -line", "  +"))] == [
        "  +++ stdout of a",
        "  -line 100",
        "  +another",
    ]


def test_output_that_was_shown_as_it_came_is_not_shown_again() -> None:
    out, stream = make_screen(80)
    sink = SummarySink(out, DisplayOptions(), was_output_shown=lambda event: event.host == "a")
    sink(run_started("a", "b"))
    for host in ("a", "b"):
        sink(step_finished(host, make_outcome(host.encode() * 9)))
    sink(run_finished())
    assert "a" * 9 not in stream.getvalue()
    assert "b" * 9 in stream.getvalue()


@pytest.mark.parametrize(
    ("statuses", "is_shown"),
    [
        ((Status.OK, Status.FAILED), True),
        ((Status.OK, Status.UNREACHABLE), True),
        ((Status.OK, Status.CHANGED), False),
        ((Status.FAILED, Status.FAILED), False),
    ],
)
def test_the_command_that_repeats_a_run_is_shown_if_some_hosts_failed(
    statuses: tuple[Status, ...], is_shown: bool
) -> None:
    out, stream = make_screen(40)
    command = "orch -s dev run a-task-with-a-long-name -l @failed"
    sink = SummarySink(out, DisplayOptions(rerun=command))
    rows = [make_row(f"h{n}", status) for n, status in enumerate(statuses)]
    for event in (run_started("h0", "h1"), run_finished(*rows)):
        sink(event)
    assert (f"again, where it failed: {command}\n" in stream.getvalue()) is is_shown


def test_hosts_that_failed_alike_share_their_last_words_also_if_their_hints_differ() -> None:
    rows = [
        replace(make_row(host, Status.FAILED, "exit status 1", "disk full\n"), hint=hint)
        for host, hint in (("a1", "not run yet: x"), ("a2", ""), ("a3", "not run yet: x"))
    ]
    shown = list(results_table(rows, make_screen(80)[0]))
    assert [line for line in shown if "disk full" in line] == ["    ! disk full"]
    assert shown[-1] == "    help: a[1,3]: not run yet: x"


def test_values_that_later_steps_use_are_shown_if_asked_for() -> None:
    end = replace(step_finished("a", make_outcome(b"exists=true\n")), has_values=True)
    for register, whole, shown in (("st", False, False), ("st", True, True), ("", False, True)):
        event = replace(end, register=register)
        lines = show_summary(run_started("a"), event, run_finished(make_row("a")), whole=whole)
        assert ("a: exists=true" in lines) == shown
