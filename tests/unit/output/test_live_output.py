from orchestrator.model.event import StepFinished, StepOutput
from orchestrator.model.step_result import Status, StepResult
from orchestrator.output.live_output import LiveOutput

NOW = 1795436531.25


def printed(host: str, data: bytes, at: float = NOW, step: int = 1) -> StepOutput:
    return StepOutput(at, None, task="t", step=step, host=host, stream="stdout", data=data)


def finished(host: str, step: int = 1) -> StepFinished:
    result = StepResult(Status.OK)
    return StepFinished(NOW, None, task="t", step=step, name="n", host=host, outcome=result)


def add(output: LiveOutput, *events: StepOutput, at_once: bool = False) -> list[str]:
    return [line for event in events for line in output.add(event, "t › n", at_once=at_once)]


def test_the_only_step_of_the_only_host_is_shown_at_once() -> None:
    output = LiveOutput()
    found = [*output.add(printed("a", b"one\ntw"), "", at_once=True)]
    assert found == ["a | one"]
    assert [*output.end_step(finished("a"))] == ["a | tw"]
    assert output.take_shown(finished("a"))
    assert not output.take_shown(finished("a"))


def test_output_of_a_few_hosts_is_shown_when_the_step_takes_longer_than_a_second() -> None:
    output = LiveOutput()
    assert add(output, printed("a", b"one\n"), printed("b", b"two\n", NOW + 0.5)) == []
    assert [*output.due_lines(NOW + 0.9)] == []
    assert [*output.due_lines(NOW + 1.0)] == ["t › n", "a | one"]
    assert add(output, printed("a", b"more\n")) == ["a | more"]
    assert [*output.due_lines(NOW + 1.6)] == ["t › n", "b | two"]


def test_output_of_a_step_that_ends_soon_is_left_to_the_end() -> None:
    output = LiveOutput()
    add(output, printed("a", b"one\n"))
    assert [*output.end_step(finished("a"))] == []
    assert not output.take_shown(finished("a"))
    assert [*output.due_lines(NOW + 9)] == []


def test_output_of_more_than_three_hosts_is_left_to_the_end_also_when_only_one_is_left() -> None:
    output = LiveOutput()
    for host in "abcd":
        add(output, printed(host, b"x\n"))
    for host in "abc":
        assert [*output.end_step(finished(host))] == []
    assert [*output.due_lines(NOW + 9)] == []
    assert add(output, printed("d", b"y\n", NOW + 9)) == []


def test_the_count_of_hosts_starts_anew_with_each_step_and_task() -> None:
    output = LiveOutput()
    for host in "abcd":
        add(output, printed(host, b"x\n"))
        list(output.end_step(finished(host)))
    add(output, printed("a", b"of step 2\n", step=2))
    assert [*output.due_lines(NOW + 2)] == ["t › n", "a | of step 2"]
    list(output.end_step(finished("a", 2)))
    output.end_task(None)
    add(output, printed("b", b"of the next task\n"))
    assert [*output.due_lines(NOW + 2)] == ["t › n", "b | of the next task"]


def test_a_flood_within_the_first_second_is_not_kept() -> None:
    output = LiveOutput()
    for _ in range(50):
        add(output, printed("a", b"x" * 100_000))
    assert [*output.due_lines(NOW + 2)] == []


def test_the_last_words_of_a_step_that_never_ended_are_printed() -> None:
    output = LiveOutput()
    add(output, printed("a", b"no newline"), at_once=True)
    assert [*output.end_all()] == ["a | no newline"]
