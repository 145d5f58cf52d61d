from msgspec.structs import replace

from orchestrator.model.event import (
    CONNECT_INTERRUPTED,
    ConnectFinished,
    HostFinished,
    RunStarted,
    StepFinished,
    TaskStarted,
)
from orchestrator.model.step_result import CapturedOutput, StateChange, Status, StepResult
from orchestrator.output.step_lines import LineLayout, StepLines, StepPosition, fold_hosts

NOW = 1795436531.25
WIDE = LineLayout()
CHANGED = StepResult(Status.CHANGED, 0, seconds=0.12)
FAILED = StepResult(Status.FAILED, 2, seconds=1.0, reason="exit status 2")


def finished(
    host: str,
    step: int = 1,
    result: StepResult = CHANGED,
    *,
    app: str | None = None,
    ago: float = 0.0,
) -> StepFinished:
    name = f"step {step}"
    return StepFinished(NOW - ago, app, task="t", step=step, name=name, host=host, outcome=result)


def host_finished(host: str, result: StepResult) -> HostFinished:
    return HostFinished(NOW, None, "t", host, result)


def lines_of(
    *events: StepFinished | HostFinished | ConnectFinished,
    verbose: int = 0,
    reached: StepPosition = (9,),
    width: int | None = None,
) -> list[str]:
    lines = StepLines(verbose)
    for event in events:
        lines.add(event)
    return [text for text, _ in lines.due_lines(NOW, {None: reached}, LineLayout(width))]


def test_hosts_with_the_same_result_of_a_step_share_its_line() -> None:
    assert lines_of(finished("web1"), finished("web3", result=FAILED), finished("web2")) == [
        "✔ t › step 1  web[1-2]  changed  0.1 s",
        "✘ t › step 1  web3  failed  1.0 s  exit status 2",
    ]


def test_changes_that_differ_in_the_name_of_the_host_share_a_line() -> None:
    results = [
        replace(CHANGED, changes=(StateChange("name", None, f"{host}.example"),))
        for host in ("web1", "web2")
    ]
    assert lines_of(finished("web1", result=results[0]), finished("web2", result=results[1])) == [
        "✔ t › step 1  web[1-2]  changed  0.1 s  name: (nothing) → web[1-2].example"
    ]


def test_of_paths_only_the_last_parts_are_shown() -> None:
    change = StateChange("to", "/srv/app/releases/41", "~/app/releases/42")
    assert lines_of(finished("a", result=replace(CHANGED, changes=(change,))))[0].endswith(
        "  to: …/41 → …/42"
    )


def test_lines_are_in_the_order_of_the_steps_not_of_their_ends() -> None:
    found = lines_of(finished("b", 2), finished("a", 1), finished("b", 1), finished("a", 2))
    assert [line[:12] for line in found] == ["✔ t › step 1", "✔ t › step 2"]


def test_a_step_waits_for_its_last_host_and_the_steps_after_it_wait_too() -> None:
    assert lines_of(finished("a", 1), finished("a", 2), reached=(0,)) == []
    assert len(lines_of(finished("a", 1), finished("a", 2), reached=(1,))) == 1


def test_after_two_seconds_the_hosts_that_have_a_result_get_their_line_and_later_the_rest() -> None:
    lines = StepLines()
    lines.add(finished("a", ago=2))
    first = lines.due_lines(NOW, {None: (0,)}, WIDE)
    lines.add(finished("b"))
    lines.add(finished("c", 2, ago=2))
    second = lines.due_lines(NOW + 60, {None: (0,)}, WIDE)
    third = lines.due_lines(NOW + 60, {None: (1,)}, WIDE)
    assert [text for text, _ in first] == ["✔ t › step 1  a  changed  0.1 s"]
    assert [text for text, _ in second] == ["✔ t › step 2  c  changed  0.1 s"]
    assert [text for text, _ in third] == ["✔ t › step 1  b  changed  0.1 s"]
    assert lines.has_partial


def test_the_steps_of_a_task_that_has_ended_are_due() -> None:
    lines = StepLines()
    lines.add(finished("a", app="blog"))
    lines.add(finished("a", app="shop"))
    found = lines.due_lines(NOW, {"shop": (0,)}, WIDE)
    assert [text for text, _ in found] == ["✔ blog t › step 1  a  changed  0.1 s"]
    assert [text for text, _ in lines.all_lines(WIDE)] == ["✔ shop t › step 1  a  changed  0.1 s"]


def test_steps_in_a_loop_come_between_the_steps_around_it() -> None:
    events = finished("a", 3), finished("a", 200_001), finished("a", 200_000)
    assert [line.split()[4] for line in lines_of(*events)] == ["200000", "200001", "3"]


def test_what_changed_nothing_has_a_line_only_if_it_is_asked_for_or_was_retried() -> None:
    quiet = [finished("a", result=StepResult(status)) for status in (Status.OK, Status.SKIPPED)]
    assert lines_of(*quiet) == []
    assert [line.split()[6] for line in lines_of(*quiet, verbose=1)] == ["ok", "skipped"]
    retried = StepResult(Status.OK, 0, attempts=3)
    assert lines_of(finished("a", result=retried)) == [
        "✔ t › step 1  a  ok after 3 attempts  0.0 s"
    ]


def test_a_failure_shows_the_last_line_of_stderr() -> None:
    result = replace(FAILED, stderr=CapturedOutput(b"unpacking\ntar: end of \x1b[31mfile\n\n"))
    assert lines_of(finished("a", result=result)) == [
        "✘ t › step 1  a  failed  1.0 s  exit status 2: tar: end of file"
    ]


def test_a_host_that_ended_without_a_failed_step_has_a_line_and_one_with_it_has_none_more() -> None:
    lost = StepResult(Status.LOST, reason="connection reset")
    found = lines_of(finished("a", result=FAILED), host_finished("a", FAILED))
    assert len(found) == 1
    assert lines_of(host_finished("a", lost), reached=(2**63,)) == [
        "✘ t  a  lost  0.0 s  connection reset"
    ]


def test_hosts_that_are_unreachable_share_a_line_and_their_tasks_have_none() -> None:
    lines = StepLines()
    for host in ("web1", "web2"):
        lines.add(ConnectFinished(NOW - 2, host, 0.5, f"{host}: connection refused"))
        away = StepResult(Status.UNREACHABLE, reason=f"{host}: connection refused")
        lines.add(host_finished(host, away))
    lines.add(ConnectFinished(NOW - 2, "web3", 0.5, CONNECT_INTERRUPTED))
    lines.add(host_finished("web3", StepResult(Status.CANCELLED)))
    assert [text for text, _ in lines.due_lines(NOW, {}, WIDE)] == [
        "✘ connect  web[1-2]  unreachable  0.5 s  web[1-2]: connection refused"
    ]


def test_many_different_results_of_a_step_are_cut_to_ten_lines() -> None:
    events = [finished(f"h{n}", result=replace(FAILED, reason=f"error {n}")) for n in range(300)]
    found = lines_of(*events)
    assert len(found) == 10
    assert found[-1] == "  t › step 1: 291 more hosts with other results"


def test_a_line_that_is_too_long_is_wrapped_and_its_detail_follows() -> None:
    change = StateChange("contents", None, "as given, with a long text that does not fit at all")
    found = lines_of(finished("web1", result=replace(CHANGED, changes=(change,))), width=40)
    assert found == [
        "✔ t › step 1  web1  changed  0.1 s",
        "    contents: (nothing) → as given, wit…",
    ]
    failed = lines_of(finished("web1", result=replace(FAILED, reason="no " * 12)), width=40)
    assert " ".join(" ".join(failed).split()).endswith("no no no no no no no no no no no no")
    assert all(len(line) <= 40 for line in failed)


def test_signs_are_ascii_where_the_terminal_is_not_unicode() -> None:
    lines = StepLines()
    lines.add(finished("a"))
    lines.add(finished("b", result=FAILED))
    found = lines.all_lines(LineLayout(None, is_unicode=False))
    assert [text[0] for text, _ in found] == ["+", "x"]


def test_long_names_of_hosts_are_cut_and_counted() -> None:
    names = [f"{letter}-some-host.example.net" for letter in "abcd"]
    assert fold_hosts(names) == "a-some-host.example.net,… (4)"
    assert fold_hosts(["a", "b"]) == "a,b"


def test_hosts_and_groups_are_in_the_order_of_the_inventory_and_failures_last() -> None:
    lines = StepLines()
    lines.add(RunStarted(NOW, "r", "dev", ("t",), ("db", "web", "app")))
    names = replace(CHANGED, changes=(StateChange("name", None, "x.app"),))
    lines.add(finished("app", result=names))
    lines.add(finished("db", result=FAILED))
    lines.add(finished("web"))
    lines.add(finished("app", 2, replace(CHANGED, changes=(StateChange("n", None, "app"),))))
    lines.add(finished("db", 2, replace(CHANGED, changes=(StateChange("n", None, "db"),))))
    assert [text for text, _ in lines.all_lines(WIDE)] == [
        "✔ t › step 1  web  changed  0.1 s",
        "✔ t › step 1  app  changed  0.1 s  name: (nothing) → x.app",
        "✘ t › step 1  db  failed  1.0 s  exit status 2",
        "✔ t › step 2  db,app  changed  0.1 s  n: (nothing) → db,app",
    ]


def named(host: str, name: str) -> StepFinished:
    return replace(finished(host), name=name)


def test_names_of_a_step_that_differ_in_the_name_of_the_host_share_a_line() -> None:
    assert lines_of(named("web1", "greet web1"), named("web2", "greet web2")) == [
        "✔ t › greet web[1-2]  web[1-2]  changed  0.1 s"
    ]


def test_steps_with_the_same_number_and_other_names_have_lines_of_their_own() -> None:
    assert lines_of(named("a", "one"), named("b", "two"), named("c", "one")) == [
        "✔ t › one  a,c  changed  0.1 s",
        "✔ t › two  b  changed  0.1 s",
    ]


def test_steps_of_several_tasks_stay_apart_if_all_lines_are_read_at_the_end() -> None:
    lines = StepLines()
    for task in ("setup", "update", "update"):  # the second one in another batch
        lines.add(TaskStarted(NOW, None, task, ("a",), 1))
        lines.add(replace(finished("a"), task=task))
    assert [text[:20] for text, _ in lines.all_lines(WIDE)] == [
        "✔ setup › step 1  a ",
        "✔ update › step 1  a",
        "✔ update › step 1  a",
    ]
