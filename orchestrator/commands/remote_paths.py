"""Completion of paths on a host, over a session of its own that is kept."""

from __future__ import annotations

import threading

from msgspec import Struct

from orchestrator.errors import OrchError
from orchestrator.executor import KeptConnections
from orchestrator.executor.remote_query import run_remote_query
from orchestrator.model.host import Host
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.remote_shell import SessionLostError, ShellSession

_QUERY_TIMEOUT = 2.0  # seconds
_MAX_NAMES = 200

_LIST_SCRIPT = """\
unset CDPATH
%(folders)scount=0
for name in %(base)s*; do
  if [ -d "./$name" ]; then printf '%%s/\\000' "$name"
  elif %(files)s && { [ -e "./$name" ] || [ -L "./$name" ]; }; then printf '%%s\\000' "$name"
  else continue
  fi
  count=$((count+1))
  [ $count -lt %(most)d ] || break
done
"""


class PathCompletion(Struct, frozen=True):
    """A completed path: ``text`` replaces the last word, ``shown`` is its last part."""

    text: str
    shown: str


class LastWord(Struct, frozen=True):
    """The unfinished last word of a command line: where it starts, and what it means.

    ``value`` is the word without quoting. ``command`` is the first word of its command, or '' if
    the last word is the first one.
    """

    start: int
    value: str
    command: str


_SEPARATORS = frozenset(" \t\n;&|()<>")
_COMMAND_ENDS = frozenset("\n;&|(")


def last_word(line: str) -> LastWord | None:
    """Return the last word of a line, or None if its value depends on an expansion."""
    start, value, quote, command = 0, "", "", ""
    at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if quote == "'" or (quote == '"' and char not in '"\\'):
            if char == quote:
                quote = ""
            elif quote == '"' and char in "$`":
                return None
            else:
                value += char
        elif char == quote:
            quote = ""
        elif char == "\\":
            value += line[at : at + 1]
            at += 1
        elif char in "'\"":
            quote = char
        elif char in "$`":
            return None
        elif char in _SEPARATORS:
            command = "" if char in _COMMAND_ENDS else command or value
            start, value = at, ""
        else:
            value += char
    return LastWord(start, value, command)


class RemotePaths:
    """Paths of one host at a time. Thread-safe; a call during another one finds nothing."""

    def __init__(self, connections: KeptConnections) -> None:
        """Store the connections; nothing is contacted."""
        self._connections = connections
        self._lock = threading.Lock()
        self._session: ShellSession | None = None
        self._session_of = ("", "")

    def complete(self, line: str, host: Host, user: str, folder: str) -> list[PathCompletion]:
        """Return the paths that complete the last word of a line, quoted for a shell.

        ``folder`` is the working folder ('': home), and ``user`` the become user. After `cd`, only
        folders are returned. Without an answer within 2 seconds, nothing is.
        """
        word = last_word(line)
        if word is None or not (word.command or "/" in word.value):
            return []
        if not self._lock.acquire(blocking=False):
            return []
        try:
            names = self._list_names(word, host, user, folder)
        except (OrchError, SessionLostError, ValueError):  # ValueError: a NUL was typed
            self.close()
            return []
        finally:
            self._lock.release()
        parent = word.value[: word.value.rfind("/") + 1]
        return [PathCompletion(_quoted_path(parent + name), name) for name in names]

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _list_names(self, word: LastWord, host: Host, user: str, folder: str) -> list[str]:
        parent, slash, base = word.value.rpartition("/")
        script = list_script(folder, parent + slash, base, only_folders=word.command == "cd")
        result = run_remote_query(self._open(host, user), script, timeout=_QUERY_TIMEOUT)
        return sorted(
            name
            for name in result.stdout.split("\0")
            # a name with control characters, or not in UTF-8, cannot be typed
            if name.startswith(base) and name.isprintable() and name not in ("", "./", "../")
        )

    def _open(self, host: Host, user: str) -> ShellSession:
        session = self._session
        if session is not None and session.is_alive and self._session_of == (host.name, user):
            return session
        self.close()
        session = self._session = self._connections.open_session(host, user)
        self._session_of = (host.name, user)
        return session


def list_script(folder: str, parent: str, base: str, *, only_folders: bool) -> str:
    """Return a script that prints the names in a folder that begin with ``base``, each with a NUL.

    ``parent`` is relative to ``folder``; folders end with a slash.
    """
    home = parent.startswith("~/")
    steps = [folder] if folder and not home else []
    steps += [parent[2:] if home else parent] if parent not in ("", "~/") else []
    folders = "".join(f"cd -- {shell_quote(step)} 2>/dev/null || exit 0\n" for step in steps)
    return _LIST_SCRIPT % {
        "folders": folders,
        "base": shell_quote(base) if base else "",
        "files": "false" if only_folders else "true",
        "most": _MAX_NAMES,
    }


def _quoted_path(path: str) -> str:
    """Return the path as a word; a `~/` at its beginning keeps its meaning."""
    if path.startswith("~/"):
        return f"~/{shell_quote(path[2:])}" if path[2:] else path
    return shell_quote(path)
