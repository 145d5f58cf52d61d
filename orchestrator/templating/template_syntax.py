"""How the parts of a text template are told from its text. Loading this does not load Jinja."""

from __future__ import annotations

from msgspec import Struct


class TemplateSyntax(Struct, frozen=True):
    """The texts around each kind of part, and which blanks around blocks are removed.

    ``trim_blocks``: a newline right after a block. ``lstrip_blocks``: blanks between the start of a
    line and a block.
    """

    variable: tuple[str, str] = ("{{", "}}")
    block: tuple[str, str] = ("{%", "%}")
    comment: tuple[str, str] = ("{#", "#}")
    trim_blocks: bool = True
    lstrip_blocks: bool = False

    @property
    def starts(self) -> tuple[str, str, str]:
        """Return the texts with which the parts begin."""
        return self.variable[0], self.block[0], self.comment[0]

    @property
    def cache_kind(self) -> str:
        """Return a word for a text template of this syntax, different for each syntax."""
        return "text" if self == JINJA_SYNTAX else f"text {self!r}"


JINJA_SYNTAX = TemplateSyntax()
"""The syntax of template files, which is that of Ansible's."""

INLINE_SYNTAX = TemplateSyntax(trim_blocks=False)
"""The syntax of templates in YAML."""
