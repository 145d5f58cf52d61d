"""The modules that ship: task files like a user's own, and the shell functions they build on."""

from __future__ import annotations

from pathlib import Path

MODULES_FOLDER = Path(__file__).parent
"""Where the files are."""

EVAL_FUNCTIONS = {"tried": 0, "planned": 0, "compared": 3}
"""The functions of functions.sh that run an argument as a command: that argument's number."""
