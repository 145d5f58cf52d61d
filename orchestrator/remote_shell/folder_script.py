"""The script of a command line that starts in a given folder and reports the folder it ends in.

The report is made by markers of the step (see ``decoder.py``), when its shell exits:

    folder PATH      the working folder at the end
    previous PATH    the one before it, to which `cd -` goes; missing if there is none
    home PATH        the working folder again, if it is the home folder

In paths a newline is ``%0A`` and ``%`` is ``%25``. A path longer than a marker continues in the
next one; the kind of all but the last begins with ``+``.
"""

from __future__ import annotations

from orchestrator.model.command import WorkingFolder
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.shell_quoting import always_shell_quote, shell_quote
from orchestrator.model.text_encoding import decode_bytes, encode_text
from orchestrator.remote_shell.decoder import ProtocolError

REPORT_KINDS = frozenset({"folder", "previous", "home"})
_MAX_REPORT_CHARS = 1 << 16
_MAX_PATH_CHARS = 1 << 13  # twice PATH_MAX of Linux

# The marker is kept in two halves: `set` prints all variables, and its output would be taken for a
# marker. The line is not part of this script's own text, so that an error in it has its own line
# number. Tracing is off before the marker is whole.
_SCRIPT = """\
o_to1=%(first)s o_to2=%(second)s
o_nl='
'
o_report() {
  o_rest=$2 o_text=
  while :; do
    o_head=${o_rest%%%%[%%"$o_nl"]*}
    o_text=$o_text$o_head
    [ "$o_head" != "$o_rest" ] || break
    o_rest=${o_rest#"$o_head"}
    case $o_rest in %%*) o_text=$o_text%%25;; *) o_text=$o_text%%0A;; esac
    o_rest=${o_rest#?}
  done
  while [ ${#o_text} -gt 1000 ]; do
    o_head=$(printf '%%.1000s' "$o_text")
    printf '%%s\\n' "$o_to1$o_to2+$1 $o_head"
    o_text=${o_text#"$o_head"}
  done
  printf '%%s\\n' "$o_to1$o_to2$1 $o_text"
}
o_exit() {
  o_path=$(command pwd; echo .)
  o_report folder "${o_path%%"$o_nl".}"
  [ "${o_path%%"$o_nl".}" != "$HOME" ] || o_report home "$HOME"
  [ -z "${OLDPWD-}" ] || o_report previous "$OLDPWD"
}
%(start)strap '{ o_status=$?; set +efnuvx; o_exit; exit $o_status; } 2>/dev/null' EXIT
set +e
eval %(line)s
"""

_START = """\
cd -- %(path)s || {
  echo 'orch: not run, because the folder of the last command cannot be entered; `cd` leaves it' >&2
  exit 1
}
"""

_LEAVES_FOLDER = lazy_regex(r"\s*cd(?:\s+-|\s+(?:--\s+)?['\"]?[~/][^;&|<>()`$\n\\]*)?\s*")
"""A command that does nothing but go to a folder that is not relative to the current one."""


def folder_script(line: str, folder: WorkingFolder, marker: str) -> str:
    """Return the script that runs a command line in a folder and reports the folder at its end.

    ``marker`` is the beginning of the step's report markers. The line runs without `-e`, as one
    that is typed. If the folder cannot be entered, the line is not run and nothing is reported,
    unless all it does is to go elsewhere.
    """
    half = len(marker) // 4
    path, start = shell_quote(folder.path), ""
    if folder.path:
        leaves = _LEAVES_FOLDER.fullmatch(line)
        start = f"cd -- {path} 2>/dev/null || :\n" if leaves else _START % {"path": path}
    previous = f"OLDPWD={shell_quote(folder.previous)}" if folder.previous else "unset OLDPWD"
    return _SCRIPT % {
        "first": shell_quote(marker[:half]),
        "second": shell_quote(marker[half:]),
        "start": f"{start}{previous}\n",
        "line": always_shell_quote(line),
    }


class FolderReports:
    """The reports of one command line."""

    def __init__(self) -> None:
        """Start without reports."""
        self._parts: dict[str, list[str]] = {}
        self._size = 0

    def add_report(self, kind: str, text: str) -> None:
        """Add the next report. Raises ProtocolError if the paths are too long."""
        self._size += len(text)
        if self._size > _MAX_REPORT_CHARS:
            raise ProtocolError(f"a folder's path is longer than {_MAX_REPORT_CHARS} characters")
        self._parts.setdefault(kind.lstrip("+"), []).append(text)

    def folder(self) -> WorkingFolder | None:
        """Return the reported folder, or None if no absolute path was reported."""
        path, previous, home = (self._path(kind) for kind in ("folder", "previous", "home"))
        return WorkingFolder(path, previous, is_home=bool(home)) if path else None

    def _path(self, kind: str) -> str:
        # a character may be split between two parts
        text = decode_bytes(encode_text("".join(self._parts.get(kind, ()))))
        text = text.replace("%0A", "\n").replace("%25", "%")
        is_path = text.startswith("/") and "\0" not in text and len(text) <= _MAX_PATH_CHARS
        return text if is_path else ""
