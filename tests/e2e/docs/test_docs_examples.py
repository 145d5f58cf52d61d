"""Every example in the README and the documentation is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sshd import SshdServer
from tests.support.doc_examples import ROOT, ExampleRunner, read_blocks, render_screen, same_output

GENERATED = ROOT / "docs/reference"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if "_build" not in path.parts and GENERATED not in path.parents
    ),
]
WITH_BLOCKS = [page for page in PAGES if any(True for _ in read_blocks(page))]


@pytest.fixture(scope="module")
def findings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sshd: SshdServer
) -> Iterator[Mapping[Path, Future[list[str]]]]:
    """Run the selected pages, several at a time: they mostly wait."""
    pages = [
        item.callspec.params["page"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "page" in getattr(item, "fixturenames", ())
        if item.path == request.path
    ]
    with ThreadPoolExecutor(4) as pool:
        yield {
            page: pool.submit(
                ExampleRunner(tmp_path_factory.mktemp("page"), page, {"sshd": sshd}).run_page
            )
            for page in pages
        }


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page(page: Path, findings: Mapping[Path, Future[list[str]]]) -> None:
    """`python -m tests.support.doc_examples PAGE` writes the outputs of a run into the page."""
    wrong = findings[page].result()
    assert not wrong, "\n\n".join(wrong)


def test_a_block_that_is_not_recognised_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- project: empty -->\n```yaml\na: 1\n```\n\n```{figure} x\n```\n")
    page = ROOT / "docs/index.md"
    runner = ExampleRunner(tmp_path, page)
    found = [runner.run_block(replace(block, page=page)) for block in read_blocks(path)]
    assert "not recognise" in found[0][0]
    assert "unknown directive" in found[1][0]


def test_code_that_is_only_indented_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("Run\n\n    orch stages\n")
    with pytest.raises(AssertionError, match="fenced block"):
        list(read_blocks(path))


def test_an_output_that_differs_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- project: empty -->\n```console\n$ echo one\ntwo\n$ exit 3\n```\n")
    page = ROOT / "docs/index.md"
    runner = ExampleRunner(tmp_path, page)
    [found] = [runner.run_block(replace(block, page=page)) for block in read_blocks(path)]
    assert "shows\none\nthe page has\ntwo" in found[0]
    assert "exits with 3" in found[1]


def test_times_and_ids_may_differ_and_words_may_not() -> None:
    page = ("web1  web   ok   0.03", "log: /home/ann/demo/.orch/runs/20260131120000-ab12")
    run = ["web1  web    ok    12.50", "log: /home/ann/demo/.orch/runs/20270131120000-cd34"]
    assert same_output(page, run, any_order=False)
    assert not same_output(("web1 web changed 0.03", page[1]), run, any_order=False)
    assert same_output(("…", page[1]), run, any_order=False)
    assert not same_output(("…", "log: elsewhere"), run, any_order=False)


def test_what_a_terminal_shows_in_the_end() -> None:
    raw = "bar 1\r\nhost\r\x1b[2K\x1b[1A\x1b[2K\x1b[1mdone\x1b[0m\r\nend\r\n"
    assert render_screen(raw) == "done\nend\n"
