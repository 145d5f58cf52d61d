"""A run as JUnit XML, as CI servers read it.

The format is that of Jenkins' JUnit plugin and of GitLab (https://docs.gitlab.com/ci/testing/unit_test_reports/):
a ``testsuite`` for each task, with a ``testcase`` for each host and step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from os.path import commonprefix
from xml.etree import ElementTree

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.event import HostFinished, RunEvent, RunStarted, StepFinished
from orchestrator.model.sanitize import sanitize_output, to_one_line
from orchestrator.model.step_number import number_parts
from orchestrator.model.step_result import CapturedOutput, Status, StepResult
from orchestrator.output.console import status_text
from orchestrator.output.event_lines import host_label

_MAX_OUTPUT_CHARS = 100_000
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 (section 2.2) does not allow."""


class _Case(Struct):
    """A step on a host. A loop is one case with the names and results of all its items."""

    host: str
    names: list[str] = field(default_factory=list)
    results: list[StepResult] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the name of the step, of a loop without its item: ``install (git)``."""
        same = commonprefix(self.names)  # noqa: RUF071  # names are no paths
        name, mark, _ = same.rpartition(" (")
        return name if mark and len(self.names) > 1 else self.names[0]

    @property
    def worst(self) -> StepResult:
        return min(self.results, key=lambda result: (result.ignored, result.status.severity_rank))


def junit_report(events: Iterable[RunEvent]) -> str:
    """Return the run as JUnit XML, with a final newline.

    A host that ended without a failed step (unreachable, lost) is a case of its own.
    """
    began: RunStarted | None = None
    suites: dict[tuple[str | None, str], dict[tuple[str, int], _Case]] = {}
    failed: set[tuple[str | None, str, str]] = set()
    for event in events:
        match event:
            case RunStarted():
                began = event
            case StepFinished():
                cases = suites.setdefault((event.app, event.task), {})
                key = (event.host, event.loop or number_parts(event.step)[0])
                case = cases.setdefault(key, _Case(event.host))
                case.names.append(event.name)
                case.results.append(event.outcome)
                if event.outcome.status.is_failure:
                    failed.add((event.app, event.task, event.host))
            case HostFinished(outcome=outcome) if outcome.status.is_failure:
                if (event.app, event.task, event.host) not in failed:
                    cases = suites.setdefault((event.app, event.task), {})
                    cases[event.host, 0] = _Case(event.host, ["reach and keep the host"], [outcome])
    root = ElementTree.Element("testsuites", name=_xml_text(_run_name(began)))
    for (app, task), cases in suites.items():
        _add_suite(
            root, host_label(task, None) if app is None else f"{app} {task}", cases.values(), began
        )
    _add_counts(root, list(root.iter("testcase")))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _run_name(began: RunStarted | None) -> str:
    return "orch" if began is None else f"orch {began.stage}: {' '.join(began.tasks)}"


def _add_suite(
    root: ElementTree.Element, name: str, cases: Iterable[_Case], began: RunStarted | None
) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=_xml_text(name))
    if began is not None:
        suite.set(
            "timestamp", datetime.fromtimestamp(began.time, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        )
    for case in cases:
        _add_case(suite, name, case)
    _add_counts(suite, list(suite.iter("testcase")))


def _add_case(suite: ElementTree.Element, task: str, case: _Case) -> None:
    seconds = sum(result.seconds for result in case.results)
    attributes = {
        "name": f"{case.host}: {case.name}",
        "classname": f"{task}.{case.host}",
        "time": f"{seconds:.3f}",
    }
    element = ElementTree.SubElement(
        suite, "testcase", {name: _xml_text(to_one_line(text)) for name, text in attributes.items()}
    )
    worst = case.worst
    reason = worst.reason or f"exit status {worst.exit_status}"
    message = _xml_text(to_one_line(f"{status_text(worst.status)}: {reason}"))
    if worst.status is Status.SKIPPED or (worst.status.is_failure and worst.ignored):
        ElementTree.SubElement(element, "skipped", message=message)
    elif worst.status.is_failure:
        failure = ElementTree.SubElement(
            element, "failure", message=message, type=_xml_text(worst.status.value)
        )
        position = _xml_text(to_one_line(worst.position))
        if position:
            place = SourcePosition.parse(position)
            element.set("file", place.path)
            element.set("line", str(place.line))
        said = _output_text([worst.stderr])
        failure.text = "\n".join(filter(None, (f"at {position}" if position else "", said)))
    for tag, outputs in (
        ("system-out", [result.stdout for result in case.results]),
        ("system-err", [result.stderr for result in case.results]),
    ):
        if text := _output_text(outputs):
            ElementTree.SubElement(element, tag).text = text


def _add_counts(element: ElementTree.Element, cases: list[ElementTree.Element]) -> None:
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    element.set("errors", "0")
    element.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")


def _output_text(outputs: Iterable[CapturedOutput]) -> str:
    texts = (sanitize_output(output.display_text).rstrip() for output in outputs)
    text = _xml_text("\n".join(filter(None, texts)))
    if len(text) <= _MAX_OUTPUT_CHARS:
        return text
    half = _MAX_OUTPUT_CHARS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("?", text)
