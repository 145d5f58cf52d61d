"""Builds the exact text that a step's shell executes."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.marked_value import HomePath
from orchestrator.model.shell_quoting import shell_quote


def shell_word(text: str) -> str:
    """Return the text as one shell word; the shell expands the ``~`` of a home path."""
    if isinstance(text, HomePath) and text != "~":
        return "~/" + shell_quote(text[2:]) if text[2:] else "~/"
    return text if isinstance(text, HomePath) else shell_quote(text)


def wrap_script(
    text: str, chdir: str | None, environment: Mapping[str, str], *, on_cd_failure: str = ""
) -> str:
    """Prefix the text with ``cd`` and ``export`` lines; append ``on_cd_failure`` to the ``cd``."""
    lines = [f"cd -- {shell_word(chdir)}{on_cd_failure}"] if chdir is not None else []
    lines += [f"export {name}={shell_quote(value)}" for name, value in environment.items()]
    return "\n".join([*lines, text])


def guard_script(
    creates: str | None, removes: str | None, unless: str | None, onlyif: str | None
) -> str:
    """Return a script that exits with 0 to run the step, 1 to skip it, or else on error."""
    lines = []
    if creates is not None:
        path = shell_word(creates)
        lines.append(f"if [ -e {path} ] || [ -L {path} ]; then exit 1; fi")
    if removes is not None:
        path = shell_word(removes)
        lines.append(f"[ -e {path} ] || [ -L {path} ] || exit 1")
    # Left of `||` or in an `if`, the subshells' -e would be off. A command that cannot be run (126,
    # 127: POSIX.1-2017, XCU 2.8.2) is an error, not a result.
    if unless is not None:
        lines.append(f"set +e\n(set -e\n{unless}\n)")
        lines.append("case $? in 0) exit 1;; 126|127) exit 127;; esac")
    if onlyif is not None:
        lines.append(f"set +e\n(set -e\n{onlyif}\n)")
        lines.append("case $? in 0) ;; 126|127) exit 127;; *) exit 1;; esac")
    return "\n".join(lines)
