"""Every example in the README and the documentation is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sshd import SshdServer
from tests.support.doc_examples import ROOT, ExampleRunner, read_blocks, render_screen

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


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page(page: Path, tmp_path: Path, sshd: SshdServer) -> None:
    """`python -m tests.support.doc_examples PAGE` writes the outputs of a run into the page."""
    wrong = ExampleRunner(tmp_path, page, {"sshd": sshd}).run_page()
    assert not wrong, "\n\n".join(wrong)


def test_a_block_that_is_not_recognised_is_an_error(tmp_path: Path) -> None:
    page = ROOT / "docs/unknown.md"
    text = "<!-- project: empty -->\n```yaml\na: 1\n```\n\n```{figure} x\n```\n"
    blocks = tmp_path / "page.md"
    blocks.write_text(text)
    runner = ExampleRunner(tmp_path, page)
    found = [runner.run_block(type(block)(page, *_rest(block))) for block in read_blocks(blocks)]
    assert ["not recognise" in found[0][0], "unknown directive" in found[1][0]] == [True, True]


def _rest(block: object) -> tuple[object, ...]:
    names = ("line", "indent", "info", "text", "comments")
    return tuple(getattr(block, name) for name in names)


def test_what_a_terminal_shows_in_the_end() -> None:
    raw = "bar 1\r\nhost\r\x1b[2K\x1b[1A\x1b[2K\x1b[1mdone\x1b[0m\r\nend\r\n"
    assert render_screen(raw) == "done\nend\n"
