"""The report of a run as a web page: whole, small, and safe whatever hosts print."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.model.event import HostFinished, RunEvent, TaskStarted
from orchestrator.model.step_result import CapturedOutput, StateChange, Status, StepResult
from orchestrator.output.report_html import RunInfo, html_report
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    run_finished,
    run_started,
    step_finished,
)

FAILED = replace(
    make_outcome(b"", b"tar: gone\n", Status.FAILED, "exit status 2"), position="tasks/t.yml:4:5"
)


class PageParser(HTMLParser):
    """Collects the elements of a page, and the text of its scripts, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data  # it comes in parts


def page(*events: RunEvent, info: RunInfo | None = None) -> str:
    return html_report([run_started("a", "b"), *events], info or RunInfo("failed"))


def parse(text: str) -> PageParser:
    parser = PageParser()
    parser.feed(text)
    parser.close()
    return parser


def data_of(text: str) -> dict[str, Any]:
    data, _ = parse(text).scripts
    found = json.loads(data)
    assert isinstance(found, dict)
    return found


def texts_of(text: str) -> list[str]:
    found = data_of(text)["texts"]
    assert isinstance(found, list)
    return found


HOSTILE = [
    b"</script><script>alert(1)</script>",
    b"<!-- <script>",
    b"</SCRIPT >\n<img src=x onerror=alert(1)>",
    b"\x00\xff\xed\xa0\x80\x1b]0;title\x07",
    "\u2028\u202e\ufeff\U0001f600".encode(),
    b"{{script}} {{data}} \\u003c \\g<1>",
]


@pytest.mark.parametrize("output", HOSTILE)
def test_nothing_that_hosts_print_is_markup_or_unprintable(output: bytes) -> None:
    plain = page(step_finished("a", make_outcome(b"x", b"y")))
    step = replace(step_finished("a", make_outcome(output, output)), name=output.decode("latin-1"))
    found = page(step, info=RunInfo("ok", plan=output.decode("utf-8", "surrogateescape")))
    assert [tag for tag, _ in parse(found).tags] == [tag for tag, _ in parse(plain).tags]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\u2028\u202e]", found)
    found.encode()


def test_an_output_is_in_the_page_as_it_was_printed() -> None:
    found = page(step_finished("a", make_outcome(b"1 < 2 && \xc3\xa4\n</script>\n")))
    assert "1 < 2 && \u00e4\n</script>" in texts_of(found)


def test_colours_are_left_out_also_as_the_log_of_a_host_has_them() -> None:
    found = page(step_finished("a", make_outcome(b"\x1b[31mred\x1b[0m", rb"\x1b[1;32mgreen\x1b[m")))
    assert {"red", "green"} <= set(texts_of(found))


def test_the_page_loads_nothing_and_allows_only_its_own_script() -> None:
    found = page(step_finished("a", FAILED))
    parser = parse(found)
    for _, attributes in parser.tags:
        for name in ("src", "href", "action", "style", "onclick", "onload"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    policy = next(a["content"] for _, a in parser.tags if a.get("http-equiv"))
    script = parser.scripts[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_300_hosts_with_12_steps_of_long_output_are_less_than_3_megabytes() -> None:
    rnd = random.Random(5)
    hosts = [f"web{number}" for number in range(300)]
    events: list[RunEvent] = [run_started(*hosts)]
    for number in range(1, 13):
        events.append(TaskStarted(NOW, None, "uname", tuple(hosts), 12))
        for host in hosts:
            line = f'"{rnd.getrandbits(400):x}" <\xe4>\\'
            stderr = f"{host}: {line}".encode() * 4
            result = make_outcome("\n".join([line] * 30).encode(), stderr, Status.CHANGED)
            change = StateChange("contents", "", host)
            diff = f"+{line}\n" * 10
            events.append(
                step_finished(host, replace(result, changes=(change,), diff=diff), number)
            )
    events.append(run_finished(*(make_row(host, Status.CHANGED) for host in hosts)))
    found = html_report(events, RunInfo("ok"))
    assert len(found.encode()) < 3_000_000
    assert len(data_of(found)["results"]) == 3600
    assert "left out here" in found


def test_a_long_output_is_cut_in_its_middle_with_a_note_and_equal_ones_are_there_once() -> None:
    long = b"".join(b"line %d\n" % number for number in range(100_000))
    found = page(*(step_finished(host, make_outcome(long)) for host in ("a", "b")))
    assert len(found) < 300_000
    (text,) = [each for each in texts_of(found) if each.startswith("line 0\n")]
    assert text.endswith("line 99999")
    assert "left out here; the log of the host has all" in text


def test_failures_are_listed_once_for_equal_hosts_with_the_place_of_the_step() -> None:
    rows = [
        make_row(h, Status.FAILED, f"exit status 2 on {h}", "tar: gone\n") for h in ("w1", "w2")
    ]
    steps = [step_finished(row.host, FAILED) for row in rows]
    found = data_of(page(*steps, run_finished(*rows)))
    ((names, status, reason, position, stderr, hint),) = found["failures"]
    assert (names, reason, hint) == ("w[1-2]", "exit status 2 on w[1-2]", "")
    assert found["statuses"][status] == ["failed", "failed"]
    assert position == "tasks/t.yml:4:5"
    assert found["texts"][stderr] == "tar: gone"


def test_hosts_are_in_the_order_of_the_inventory_and_ignored_failures_told_apart() -> None:
    steps = [step_finished("b", FAILED), step_finished("a", replace(FAILED, ignored=True))]
    found = data_of(page(*steps))
    assert [host[0] for host in found["hosts"]] == ["a", "b"]
    words = [found["statuses"][row[2]] for row in found["results"]]
    assert words == [["failed", "failed"], ["failed, ignored", "ignored"]]


def test_a_host_that_ended_without_a_failed_step_has_a_result() -> None:
    away = StepResult(Status.UNREACHABLE, reason="connection refused")
    found = data_of(
        page(
            step_finished("a", FAILED),
            HostFinished(NOW, None, "uname", "a", FAILED),
            HostFinished(NOW, None, "uname", "b", away),
        )
    )
    names = [found["texts"][name] for _, _, name in found["steps"]]
    assert names == ["uname -a", "reach and keep the host"]
    assert len(found["results"]) == 2


def test_a_page_tells_who_ran_what_and_the_plan() -> None:
    info = RunInfo("killed", "ann", "1.2", "0123456789abcdef", True, ("run", "a b"), "the plan\n")
    found = data_of(page(info=info))
    about = {name: value for name, value, _ in found["about"]}
    assert about["by"] == "ann"
    assert about["commit"] == "0123456789ab, with changed files"
    assert about["command"] == "orch run 'a b'"
    assert (found["title"], found["state"], found["plan"]) == ("dev: uname", "killed", "the plan")


def test_output_that_was_dropped_is_noted() -> None:
    captured = CapturedOutput(b"head\n", b"tail\n", 7)
    found = page(step_finished("a", StepResult(Status.OK, 0, stdout=captured)))
    assert any("7 bytes not kept" in text for text in texts_of(found))
