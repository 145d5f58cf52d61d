"""Reports of a run: JUnit XML and Markdown."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import junitparser
import pytest
from msgspec.structs import replace

from orchestrator.model.event import HostFinished, RunEvent, RunFinished, StepFinished
from orchestrator.model.step_result import CapturedOutput, StateChange, Status, StepResult
from orchestrator.output.report_junit import junit_report
from orchestrator.output.report_markdown import markdown_report
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    run_finished,
    run_started,
    step_finished,
)

FAILED = make_outcome(b"out\n", b"tar: <gone> & away\x1b[0m\x00\n", Status.FAILED, "exit status 2")


def junit(*events: RunEvent) -> ElementTree.Element:
    return ElementTree.fromstring(junit_report([run_started("a", "b"), *events]))


def test_junit_has_a_case_for_each_host_and_step_in_a_suite_for_each_task() -> None:
    other = replace(step_finished("a", make_outcome(), app="blog"), task="second")
    root = junit(step_finished("a", make_outcome(b"hi\n")), step_finished("b", FAILED), other)
    suites = root.findall("testsuite")
    assert [(s.get("name"), s.get("tests"), s.get("failures")) for s in suites] == [
        ("uname", "2", "1"),
        ("blog second", "1", "0"),
    ]
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "1", "0")
    good, bad = suites[0].findall("testcase")
    assert (good.get("name"), good.get("classname")) == ("a: uname -a", "uname.a")
    assert good.findtext("system-out") == "hi"
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("message") == "failed: exit status 2"
    assert failure.text == "tar: <gone> & away\\x00"


def test_junit_tells_a_loop_as_one_case_and_ignored_failures_as_skipped() -> None:
    ignored = replace(FAILED, ignored=True)
    root = junit(
        *(step_finished("a", make_outcome(b"%d" % n), 200_000 + n) for n in range(3)),
        step_finished("a", ignored, 3),
        step_finished("a", StepResult(Status.SKIPPED, reason="when: x"), 4),
    )
    cases = root.findall("testsuite/testcase")
    assert len(cases) == 3
    assert cases[0].findtext("system-out") == "0\n1\n2"
    assert [case.find("skipped") is not None for case in cases] == [False, True, True]
    assert root.get("skipped") == "2"


def test_junit_tells_a_loop_over_known_items_as_one_case_with_the_worst_result() -> None:
    items = [("one", make_outcome(b"1")), ("two", FAILED), ("three", make_outcome(b"3"))]
    steps = [
        replace(step_finished("a", end, number, name=f"each ({item})"), loop=4)
        for number, (item, end) in enumerate(items, 4)
    ]
    (suite,) = parse_junit(*steps, step_finished("a", make_outcome(), 7))
    loop, after = suite
    assert (loop.name, after.name) == ("a: each", "a: uname -a")
    assert [type(each).__name__ for each in loop.result] == ["Failure"]
    assert loop.system_out == "1\nout\n3"


def test_junit_has_a_case_for_a_host_that_ended_without_a_failed_step() -> None:
    away = StepResult(Status.UNREACHABLE, reason="connection refused")
    root = junit(
        step_finished("a", FAILED),
        HostFinished(NOW, None, "uname", "a", FAILED),
        HostFinished(NOW, None, "uname", "b", away),
    )
    assert [case.get("name") for case in root.iter("testcase")] == [
        "a: uname -a",
        "b: reach and keep the host",
    ]


def parse_junit(*events: RunEvent) -> junitparser.JUnitXml:
    """Read a report as programs read it, that have no knowledge of orch."""
    text = junit_report([run_started("a", "b"), *events])
    found = junitparser.JUnitXml.fromstring(text.encode())
    assert isinstance(found, junitparser.JUnitXml)
    return found


def test_junitparser_reads_a_case_for_each_host_and_step_with_its_result_and_place() -> None:
    failed = replace(FAILED, position="tasks/t.yml:7:5")
    other = replace(step_finished("a", make_outcome(b"out\n")), task="second")
    report = parse_junit(
        *(step_finished("a", make_outcome(b"%d" % n), 200_000 + n) for n in range(3)),
        step_finished("a", replace(failed, ignored=True), 3),
        step_finished("b", failed, 3),
        step_finished("b", StepResult(Status.SKIPPED, reason="when: x"), 4),
        other,
    )
    assert (report.tests, report.failures, report.skipped, report.errors) == (5, 1, 2, 0)
    first, second = report
    kinds = [[type(each).__name__ for each in case.result] for case in first]
    assert kinds == [[], ["Skipped"], ["Failure"], ["Skipped"]]
    (failure,) = list(first)[2].result
    assert failure.message == "failed: exit status 2"
    assert failure.text == "at tasks/t.yml:7:5\ntar: <gone> & away\\x00"
    assert [(case.name, case.classname) for case in second] == [("a: uname -a", "second.a")]
    assert next(iter(second)).system_out == "out"


@pytest.mark.parametrize(
    "text",
    [bytes(range(256)), b"\xed\xa0\x80\xef\xbf\xbf", b"]]>\x1b[31m\r\n", "\U0010ffff".encode()],
)
def test_junitparser_reads_whatever_hosts_print(text: bytes) -> None:
    name = text.decode("utf-8", "surrogateescape")
    result = replace(FAILED, stdout=CapturedOutput(text), stderr=CapturedOutput(text), reason=name)
    (suite,) = parse_junit(step_finished("a", result, name=name))
    (case,) = suite
    assert case.system_out
    assert case.result[0].message.startswith("failed: ")


def test_the_place_of_a_failed_step_is_an_attribute_of_its_case() -> None:
    root = junit(step_finished("a", replace(FAILED, position="tasks/t.yml:7:5")))
    case = root.find("testsuite/testcase")
    assert case is not None
    assert (case.get("file"), case.get("line")) == ("tasks/t.yml", "7")


@pytest.mark.parametrize("text", [b"\xff\x00\x0b", "\ufffe\ud7ff\U0001f600".encode(), b"]]>&"])
def test_junit_is_xml_whatever_hosts_print(text: bytes) -> None:
    root = junit(step_finished("a", replace(FAILED, stdout=CapturedOutput(text))))
    assert root.find("testsuite/testcase/system-out") is not None


def changed(host: str, step: int = 1) -> StepFinished:
    result = replace(make_outcome(status=Status.CHANGED), changes=(StateChange("a", "b", "c|d"),))
    return step_finished(host, result, step)


def test_markdown_lists_failures_changes_and_hosts_worst_first() -> None:
    rows = (
        make_row("a", Status.CHANGED),
        make_row("b", Status.FAILED, "exit 1", "one\n<two>\n"),
    )
    failed = step_finished("b", replace(FAILED, position="tasks/t.yml:7:5"), 2)
    events = [run_started("a", "b"), changed("b"), changed("a"), failed, run_finished(*rows)]
    lines = markdown_report(events).splitlines()
    assert lines[0] == "## dev: uname"
    assert "- `b` failed: exit 1 (at `tasks/t.yml:7:5`)" in lines
    assert "  <pre>one<br>&lt;two&gt;</pre>" in lines
    assert "- uname › uname -a on `a,b`: a: b → c\\|d" in lines
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| `b`", "| `a`"]


@pytest.mark.parametrize("text", ["*x*", "<img src=x>", "[a](b)", "`x`", "a|b", "@all", "#1"])
def test_markdown_of_a_host_or_step_is_text_and_not_markup(text: str) -> None:
    row = make_row("a", Status.FAILED, text)
    step = step_finished("a", make_outcome(status=Status.CHANGED), name=text)
    found = markdown_report([run_started("a"), step, run_finished(row)])
    shown = "".join(line for line in found.splitlines() if not line.startswith(("#", "|")))
    assert not re.search(r"[<@]|(?<!&)#", shown)
    assert not re.search(r"(?<![\\`])[*\[|]|(?<!\\)`x", shown)


def test_reports_of_a_run_without_steps_are_whole() -> None:
    events: list[RunEvent] = [run_started(), RunFinished(NOW, 0.1, 0, ())]
    assert ElementTree.fromstring(junit_report(events)).get("tests") == "0"
    assert markdown_report(events).startswith("## dev: uname\n")
