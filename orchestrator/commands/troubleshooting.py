"""Shows the sections of ``docs/troubleshooting.md``: help lines of errors name them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping

from msgspec import Struct

from orchestrator.commands.shipped_files import shipped_file

TOPIC = "troubleshooting"
TITLE = "Errors, and what to do about them"

_HEADING = re.compile(r"\((?P<anchor>[a-z-]+)\)=\n##+ (?P<title>.+)\n")
_LINK = re.compile(r"\[(?P<text>[^][]*)\]\((?P<target>[\w./#-]+)\)")


class Section(Struct, frozen=True):
    """A section of the page: its name, its title, and its text in Markdown."""

    name: str
    title: str
    text: str


def load_sections() -> Mapping[str, Section]:
    """Return the sections of the page by name, in its order; none if the page is not there."""
    try:
        page = shipped_file(f"docs/{TOPIC}.md").read_text("utf-8")
    except OSError:
        return {}
    headings = list(_HEADING.finditer(page))
    ends = [*(heading.start() for heading in headings[1:]), len(page)]
    return {
        heading["anchor"]: Section(
            heading["anchor"], heading["title"], _up_to_next_group(page[heading.end() : end])
        )
        for heading, end in zip(headings, ends, strict=True)
    }


def _up_to_next_group(text: str) -> str:
    """Return a section's text up to the heading of the next group of sections."""
    return re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]


def overview_lines(width: int) -> Iterator[str]:
    """Yield the names and titles of the sections."""
    yield f"{TOPIC}: {TITLE}"
    yield ""
    yield "`orch doctor` checks all hosts and says what to do. `orch doc NAME` shows a section:"
    yield ""
    sections = load_sections().values()
    column = max((len(section.name) for section in sections), default=0)
    for section in sections:
        yield from textwrap.wrap(
            section.title,
            width,
            initial_indent=f"  {section.name.ljust(column)}  ",
            subsequent_indent=" " * (column + 4),
        )


def section_lines(section: Section) -> Iterator[str]:
    """Yield a section as plain text: code is indented, and links are names."""
    yield f"{section.name}: {section.title}"
    yield ""
    text = re.sub(r"^<!--.*?-->\n", "", section.text, flags=re.MULTILINE | re.DOTALL)
    lines, in_code = _LINK.sub(_link_text, text).strip("\n").split("\n"), False
    for line in lines:
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif in_code:
            yield f"    {line.removeprefix(':caption: ')}".rstrip()
        else:
            yield line


def _link_text(link: re.Match[str]) -> str:
    path, _, anchor = link["target"].partition("#")
    reference = f"`orch doc {anchor}`" if anchor and not path else f"docs/{path}"
    if path.startswith("reference/"):
        reference = f"`orch doc {path.removeprefix('reference/').removesuffix('.md')}`"
    return f"{link['text']} ({reference})" if link["text"] else reference
