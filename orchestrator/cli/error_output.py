"""Printing of errors, with secrets masked."""

from __future__ import annotations

import os
import sys

from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.model.secret_masking import SecretMasker


def print_error(error: OrchError, masks: SecretMasker) -> None:
    """Print the error's diagnostics to stderr, with hints and source excerpts."""
    from orchestrator.output.console import open_console
    from orchestrator.output.error_text import problems_text

    out = open_console(sys.stderr, os.environ)
    diagnostics = [
        replace(
            diagnostic,
            message=masks.mask_text(diagnostic.message),
            hint=masks.mask_text(diagnostic.hint),
        )
        for diagnostic in error.diagnostics
    ]
    out.lines([masks.mask_text(problems_text(diagnostics, out))])  # also the source excerpt
