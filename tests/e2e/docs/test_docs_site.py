"""The documentation site is built without warnings, and asks no other server for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doc_examples import ROOT

LOADED = re.compile(
    r"<(?:link|script|img|iframe|source|image|use)\b[^>]*?\s(?:src|href|xlink:href)=[\"']?(https?:|//)"
    r"|@import|url\([\"']?(?:https?:|//)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [ROOT / "docs/build", folder], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]
    assert len(pages) > 20
    found = {
        str(page.relative_to(site)): match[0]
        for page in pages
        if (match := LOADED.search(page.read_text("utf-8")))
    }
    assert found == {}


def test_every_page_is_in_the_menu(site: Path) -> None:
    menu = set(re.findall(r'href="([^"#]+\.html)"', (site / "index.html").read_text("utf-8")))
    pages = {
        str(page.relative_to(ROOT / "docs").with_suffix(".html"))
        for page in (ROOT / "docs").rglob("*.md")
        if page.parent.name not in ("_build", "reference")
    }
    assert pages - menu == {"index.html"} - menu


@pytest.mark.parametrize("drawn", [False, True], ids=["committed", "drawn"])
def test_the_picture_of_a_run_loads_nothing(drawn: bool, tmp_path: Path) -> None:
    picture = ROOT / "docs/images/run.svg"
    if drawn:
        picture = tmp_path / "run.svg"
        subprocess.run(
            [sys.executable, ROOT / "docs/make_run_svg.py", picture], check=True, timeout=60
        )
    text = picture.read_text("utf-8")
    assert text.startswith("<svg")
    assert "would" in text and "changed" in text
    assert not LOADED.search(text)
    assert re.findall(r"https?://[^\"'<> ]*", text) == ["http://www.w3.org/2000/svg"]


def test_the_readme_is_short_and_its_links_lead_somewhere(site: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 15
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor:
            page = site / path.removeprefix("docs/").replace(".md", ".html")
            assert f'id="{anchor}"' in page.read_text("utf-8"), link
