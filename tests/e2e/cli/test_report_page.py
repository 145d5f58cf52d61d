"""The report of a run as a web page, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.event import RunEvent, TaskStarted
from orchestrator.model.step_result import Status
from orchestrator.output.report_html import RunInfo, html_report
from tests.projects import OrchProject
from tests.support.chromium import BrowserPage, browser_page
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    run_finished,
    run_started,
    step_finished,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    with browser_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def report(project: OrchProject, browser: BrowserPage) -> Iterator[BrowserPage]:
    """Open the report of a run that failed on web2, and check the console at the end."""
    project.add_sandbox_stage("web1", "web2", "db1")
    project.write(
        {
            "tasks/t.yml": r"""
                steps:
                - {name: greet, run: 'printf "</script><script>document.title = 1</script>\n\000\377\033[31mneedle %s\n" {{ host.name }}'}
                - {name: write, line: {path: conf, line: "a < b", create: true}}
                - {name: check it, run: 'echo why >&2; test {{ host.name }} != web2', readonly: true}
                """
        }
    )
    run = project.orch("-s", "dev", "run", "t", "--keep-going", "--diff", "--report", "html=r.html")
    assert run.code == 1, run.err
    browser.problems.clear()
    browser.loaded.clear()
    browser.emulate(1280, 900)
    browser.open(project.root / "r.html")
    yield browser
    assert browser.problems == []
    assert browser.loaded == [(project.root / "r.html").as_uri()]


def shown(page: BrowserPage) -> str:
    text = page.evaluate("document.body.innerText")
    assert isinstance(text, str)
    return text


def search(page: BrowserPage, text: str) -> str:
    """Type a text into the search field, and return what is found once it is."""
    page.press("/")
    for char in text:
        page.press(char)
    found = page.evaluate(
        """new Promise((done) => {
            const found = document.getElementById("found");
            const look = () => found.textContent && done(found.textContent);
            new MutationObserver(look).observe(found, {childList: true});
            look();
        })"""
    )
    assert isinstance(found, str)
    return found


def test_the_page_tells_what_failed_and_what_hosts_printed_as_text(report: BrowserPage) -> None:
    text = shown(report)
    assert "3 hosts: 2 changed, 1 failed" in text
    assert "web2 ✘ failed: exit status 1" in text
    assert "tasks/t.yml:5:3" in text
    assert report.evaluate("document.title") == "dev: t"
    report.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    report.evaluate("new Promise((done) => setTimeout(done))")  # the toggle events come later
    report.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    report.evaluate("new Promise((done) => setTimeout(done))")
    text = shown(report)
    assert "</script><script>document.title = 1</script>" in text
    assert "needle web1" in text
    assert "+a < b" in text


def test_the_keyboard_finds_outputs_and_changes_the_view(report: BrowserPage) -> None:
    assert search(report, "needle web1").startswith("1 of 9 results on 1 of 3 hosts")
    assert report.evaluate("document.querySelectorAll('#view > .row').length") == 1
    report.evaluate("document.getElementById('tab-hosts').focus()")
    report.press("ArrowRight", 39)
    assert report.evaluate("document.activeElement.textContent") == "Tasks"
    assert report.evaluate("document.querySelector('#view mark').textContent") == "needle web1"


def test_equal_results_of_hosts_but_for_their_names_are_one_group(report: BrowserPage) -> None:
    report.evaluate("document.getElementById('tab-tasks').click()")
    report.evaluate("document.querySelector('#view summary').click()")
    report.evaluate("new Promise((done) => setTimeout(done))")
    assert report.evaluate("document.querySelector('#view .hosts').textContent") == "db1, web[1-2]"
    assert "needle <host>" in report.evaluate("document.querySelector('#view pre').textContent")
    failed = "document.querySelectorAll('#view .row')[2].querySelectorAll('.hosts')"
    names = report.evaluate(f"[...{failed}].map((each) => each.textContent)")
    assert names == ["web2", "db1, web1"]


def test_a_row_is_opened_with_the_keyboard(report: BrowserPage) -> None:
    report.evaluate("document.querySelector('#view summary').focus()")
    report.press("Enter", 13)
    assert report.evaluate("document.querySelector('#view .row').open") is True


def test_a_status_selects_results(report: BrowserPage) -> None:
    report.evaluate("document.querySelector('#statuses button').click()")
    assert report.evaluate("document.getElementById('found').textContent").startswith("1 of 9")
    assert report.evaluate("document.querySelector('#view .name').textContent") == "web2"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_has_the_colours_of_the_user(
    report: BrowserPage, width: int, scheme: str
) -> None:
    report.emulate(width, 900, scheme)
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert report.evaluate(fits) is True
    colour = report.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") is (scheme == "light")
    report.emulate(width, 900, scheme, "print")
    colour = report.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"


def test_a_large_page_makes_rows_as_they_are_needed_and_all_for_the_printer(
    browser: BrowserPage, tmp_path: Path
) -> None:
    hosts = [f"web{number}" for number in range(300)]
    events: list[RunEvent] = [run_started(*hosts), TaskStarted(NOW, None, "t", tuple(hosts), 1)]
    events += [step_finished(host, make_outcome(host.encode())) for host in hosts]
    events.append(run_finished(*(make_row(host, Status.OK) for host in hosts)))
    (tmp_path / "r.html").write_text(html_report(events, RunInfo("ok")), "utf-8")
    browser.problems.clear()
    browser.emulate(1280, 900)
    browser.open(tmp_path / "r.html")
    count = "document.querySelectorAll('#view .row').length"
    assert browser.evaluate(count) < 200
    assert browser.print_pdf().startswith(b"%PDF")
    assert browser.evaluate(count) == 300
    assert browser.problems == []
