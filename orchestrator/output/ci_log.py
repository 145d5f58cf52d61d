"""The logs of CI servers: groups of lines, annotations, and lines that cannot be commands.

Sources: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions and
https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from orchestrator.errors import SourcePosition
from orchestrator.model.lazy_regex import lazy_regex

_COMMAND = lazy_regex(r"^([^!-~\n]*:[^\x00-\x7f]*):", re.MULTILINE)
"""The beginning of a workflow command.

GitHub's runner skips white space before it and, like all comparisons that depend on a language,
characters that are not shown.
"""
_OLD_COMMAND = lazy_regex(r"(#[^\x00-\x7f]*#[^\x00-\x7f]*)\[")
"""The beginning of a command in the old form ``##[NAME]``, which may be anywhere in a line."""


class CiServer(StrEnum):
    """A kind of CI server with special lines in its logs."""

    GITHUB = "GitHub Actions"
    GITLAB = "GitLab CI"


def ci_server(environ: Mapping[str, str]) -> CiServer | None:
    """Return the server whose log this is; None if it is another one, or ORCH_CI is 0 or false."""
    if environ.get("ORCH_CI", "").lower() in ("0", "false"):
        return None
    if reads_commands(environ):
        return CiServer.GITHUB
    return CiServer.GITLAB if environ.get("GITLAB_CI") == "true" else None


def job_summary_file(environ: Mapping[str, str]) -> str:
    """Return the file to which a summary of the job is appended as Markdown, or ''."""
    is_github = ci_server(environ) is CiServer.GITHUB
    return environ.get("GITHUB_STEP_SUMMARY", "") if is_github else ""


def reads_commands(environ: Mapping[str, str]) -> bool:
    """Return True if lines of output may be workflow commands: in GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


def defuse_commands(text: str) -> str:
    """Return lines with a space in what GitHub's runner would take as a workflow command."""
    if "::" not in text and "[" not in text and text.isascii():
        return text
    return _OLD_COMMAND.sub(r"\1 [", _COMMAND.sub(r"\1 :", text))


class GroupMarkers:
    """The lines that begin and end a group of lines in a log. Groups cannot contain groups."""

    def __init__(self, server: CiServer) -> None:
        """Start without groups in the log of this server."""
        self._server, self._count = server, 0

    def begin(self, title: str, time: float) -> str:
        """Return the line before a group, with its title; the time is in epoch seconds."""
        if self._server is CiServer.GITHUB:
            return f"::group::{_escape_data(title)}"
        self._count += 1
        name = f"orch_task_{self._count}[collapsed=true]"
        return f"\x1b[0Ksection_start:{int(time)}:{name}\r\x1b[0K{title}"

    def end(self, time: float) -> str:
        """Return the line after the group that began last."""
        if self._server is CiServer.GITHUB:
            return "::endgroup::"
        return f"\x1b[0Ksection_end:{int(time)}:orch_task_{self._count}\r\x1b[0K"


def error_annotation(title: str, message: str, position: str, environ: Mapping[str, str]) -> str:
    """Return the command for an annotation, at a position as ``StepResult`` has it, or at ``''``.

    GitHub looks for the file in the workspace, so the path is made relative to it.
    """
    place = SourcePosition.parse(position)
    properties = {"title": title}
    if place.line:
        workspace = environ.get("GITHUB_WORKSPACE", "")
        properties = {
            "file": _path_in(Path(workspace), place.path) if workspace else place.path,
            "line": str(place.line),
            "col": str(place.column),
            **properties,
        }
    words = ",".join(f"{name}={_escape_property(text)}" for name, text in properties.items())
    return f"::error {words}::{_escape_data(message)}"


def _path_in(folder: Path, path: str) -> str:
    found = Path(os.path.abspath(path))  # noqa: PTH100  # symbolic links are kept
    return str(found.relative_to(folder)) if found.is_relative_to(folder) else path


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
