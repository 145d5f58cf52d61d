"""Notes for the user, beside the output of a command."""

from __future__ import annotations

import click

from orchestrator.model.sanitize import to_one_line


def tell_user(text: str) -> None:
    """Print a note in one line to stderr."""
    click.echo(to_one_line(text), err=True)
