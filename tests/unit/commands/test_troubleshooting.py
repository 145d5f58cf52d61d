"""The troubleshooting page: errors name its sections, and `orch doc` shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.commands import reference, troubleshooting
from orchestrator.commands.listing import doc_lines, list_topics
from orchestrator.commands.shipped_files import shipped_file
from orchestrator.errors import (
    TROUBLESHOOTING_SECTIONS,
    ConnectError,
    UsageError,
    troubleshooting_section,
)
from orchestrator.yamlio.naming_rules import RESERVED_NAMES

SECTIONS = troubleshooting.load_sections()
NAMED = sorted({name for rows in TROUBLESHOOTING_SECTIONS.values() for _, name in rows})


@pytest.fixture
def no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work outside any project."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMED)
def test_every_section_that_an_error_names_is_on_the_page(name: str) -> None:
    assert name in SECTIONS


def test_every_name_on_the_page_is_a_section_with_a_text() -> None:
    page = shipped_file("docs/troubleshooting.md").read_text("utf-8")
    assert re.findall(r"^\((.+)\)=$", page, re.MULTILINE) == list(SECTIONS)
    assert all(len(section.text) > 100 for section in SECTIONS.values())


def test_links_to_sections_exist() -> None:
    page = shipped_file("docs/troubleshooting.md").read_text("utf-8")
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= SECTIONS.keys()


def test_no_section_hides_behind_another_name_of_orch_doc() -> None:
    taken = {*reference.reference_topics(), *RESERVED_NAMES, "commit"}
    assert not taken & {troubleshooting.TOPIC, *SECTIONS}
    assert not [name for name in SECTIONS if reference.key_lines(name, 90)]


@pytest.mark.parametrize(
    ("phase", "reason", "section"),
    [
        ("connect", "connection refused (10.0.0.7 port 22)", "connection-refused"),
        ("connect", "connect to host x port 22: Connection refused", "connection-refused"),
        ("connect", "timed out, no answer within 2 s (refused port 22)", "connection-timeout"),
        ("connect", "'Connection refused' (x port 22, from the jump host)", "jump-host"),
        ("banner", "the server closed the connection before its SSH banner", "max-startups"),
        ("host key", "x is not in ~/.ssh/known_hosts; its key is …", "host-key-unknown"),
        ("host key", "the key of x changed: y:1 has a, the host shows b", "host-key-changed"),
        ("auth", "the server allows no more attempts (MaxAuthTries): tried x", "too-many-keys"),
        ("become", "sudo to root failed: 'you must have a tty to run sudo'", "become-no-tty"),
        ("become", "sudo to root failed: wrong sudo password of a", "become-password"),
        ("connect", "out of file descriptors", ""),
        ("another", "timed out", ""),
    ],
)
def test_the_section_of_an_error(phase: str, reason: str, section: str) -> None:
    assert troubleshooting_section(phase, reason) == section


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("is it up?", "is it up? See `orch doc shell-unusable`"),
        ("start it", "start it; see `orch doc shell-unusable`"),
        ("", "see `orch doc shell-unusable`"),
    ],
)
def test_the_help_line_names_the_section_once(hint: str, shown: str) -> None:
    error = ConnectError("shell", "no shell", hint).with_endpoint("a@b:22")
    again = ConnectError(error.phase, error.reason, error.hint)
    assert again.hint == hint
    assert again.diagnostics[0].hint == shown


def test_doc_lists_the_sections_and_shows_one(no_project: None) -> None:
    assert (troubleshooting.TOPIC, troubleshooting.TITLE) in list_topics()
    listed = "\n".join(doc_lines(None, "troubleshooting", 90))
    assert all(f"  {name} " in listed for name in SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_plain_text(name: str, no_project: None) -> None:
    first, _, *lines = doc_lines(None, name, 90)
    assert first == f"{name}: {SECTIONS[name].title}"
    text = "\n".join(lines)
    assert "```" not in text and "<!--" not in text and "](" not in text and "(#" not in text
    assert not re.search(r"^#+ |^\(.*\)=$", text, re.MULTILINE)


def test_a_name_that_is_almost_a_section(no_project: None) -> None:
    with pytest.raises(UsageError) as caught:
        doc_lines(None, "host-key-unknwon", 90)
    assert "did you mean 'host-key-unknown'?" in caught.value.diagnostics[0].hint
