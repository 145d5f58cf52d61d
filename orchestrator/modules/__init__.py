"""The built-in modules: task files like a user's own, and the shell functions that they use."""

from __future__ import annotations

from pathlib import Path

MODULES_FOLDER = Path(__file__).parent
"""The folder of the modules."""

EVAL_FUNCTIONS = {"tried": 0, "planned": 0, "compared": 3}
"""The functions of functions.sh that run an argument as code, with the argument's number."""
