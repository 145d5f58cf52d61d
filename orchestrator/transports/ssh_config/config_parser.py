"""Reads the files, with what they include, and finds all that is wrong in them at once."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import Mark, Problem, nearest
from orchestrator.transports.ssh_config.config_keywords import (
    IGNORED,
    OBEYED,
    TRY_SSH,
    BadValueError,
    Ignored,
    hops,
)
from orchestrator.transports.ssh_config.config_lexer import SPACE, QuotesError, keyword_of, words
from orchestrator.transports.ssh_config.config_tree import (
    Block,
    ConfigError,
    File,
    Item,
    Setting,
    indexed,
)
from orchestrator.transports.ssh_config.match import read_criteria
from orchestrator.transports.ssh_config.patterns import Patterns, compiled
from orchestrator.transports.ssh_config.tokens import TokenError, tilde
from orchestrator.yamlio.local_files import MOST

DEEPEST = 16  # files that include one another
USUAL_ENVIRONMENT = frozenset(("LANG", "LC_*", "COLORTERM", "NO_COLOR"))  # as Debian sends


class Reader:
    """Reads files in the order in which they count. ``problems`` holds what is wrong in them,
    ``final`` whether some Match line asks for a second look at them.
    """

    def __init__(self, home: Path, environ: Mapping[str, str], system: Path) -> None:
        self.problems: list[Problem] = []
        self.final = False
        self._home, self._environ, self._system = home, environ, system
        self._ignored: Patterns | None = None

    def read(self, path: Path, *, user: bool, check: bool, depth: int = 0) -> File:
        """The file's blocks. Raises OSError, and ConfigError where ``check`` finds that others
        may write to it.
        """
        with path.open("rb") as file:
            if check and _others_may_write(os.fstat(file.fileno())):
                raise ConfigError(
                    Problem(
                        "others than you may write to this file, so it can't be believed",
                        Mark(str(path)),
                        f"chmod go-w {path}, and it must belong to you or to root",
                    )
                )
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise OSError(errno.EFBIG, f"more than {MOST} bytes", str(path))
        return _Pass(self, path, user, depth).blocks(data.decode("utf-8", "surrogateescape"))

    def included(self, pattern: str, mark: Mark, *, user: bool, depth: int) -> tuple[File, ...]:
        """The files that an Include names; those that are not there are none."""
        if depth >= DEEPEST:
            raise ConfigError(Problem("include: the files include one another for ever", mark))
        if pattern.startswith("~"):
            if not user:
                raise BadValueError(f"{pattern!r}: the system's files can't include a user's")
            pattern = tilde(pattern, self._home)
        folder = self._home / ".ssh" if user else self._system.parent
        found = []
        for name in sorted(glob.glob(str(folder / pattern))):  # noqa: PTH207 (absolute ones, too)
            try:
                found.append(self.read(Path(name), user=user, check=True, depth=depth + 1))
            except FileNotFoundError:
                continue  # a link to nothing
            except OSError as error:
                raise BadValueError(f"can't read {name}: {error.strerror}") from None
        return tuple(found)

    def ignore(self, patterns: str) -> None:
        """Unknown keywords like these are no error (IgnoreUnknown; the first counts)."""
        self._ignored = self._ignored or compiled(patterns.lower().split(","))

    def ignores(self, keyword: str) -> bool:
        """Whether this one is none."""
        return self._ignored is not None and self._ignored.match(keyword)

    def obeyed(self, keyword: str, rest: str) -> tuple[str, object, bool]:
        """The field, its value, and whether it adds to others. Raises BadValueError."""
        if keyword == "proxycommand":
            return "proxy_command", rest.lstrip(SPACE + "="), False
        if keyword == "proxyjump":
            return "jump", hops(rest.lstrip(SPACE + "=")), False
        known = OBEYED[keyword]
        return known.field, known.parse(words(rest), self._environ), known.many


class _Pass:
    """One file being read."""

    def __init__(self, reader: Reader, path: Path, user: bool, depth: int) -> None:
        self._reader, self._path, self._user, self._depth = reader, path, user, depth
        self._blocks = [Block()]

    def blocks(self, text: str) -> File:
        for number, line in enumerate(text.split("\n"), 1):
            mark = Mark(str(self._path), number, 1)
            try:
                self._line(line.partition("\0")[0], mark)
            except QuotesError:
                self._wrong("a quote is not closed", mark)
            except BadValueError as bad:
                self._wrong(str(bad), mark, bad.hint)
            except TokenError as bad:
                self._wrong(str(bad), mark, TRY_SSH)
        return indexed(self._blocks)

    def _line(self, line: str, mark: Mark) -> None:
        keyword, rest = keyword_of(line)
        if not keyword:
            return
        if not rest:
            raise BadValueError(f"{keyword}: it needs a value")
        try:
            self._keyword(keyword, rest, mark)
        except BadValueError as bad:
            raise BadValueError(f"{keyword}: {bad}", bad.hint) from None

    def _keyword(self, keyword: str, rest: str, mark: Mark) -> None:
        reader, items = self._reader, self._blocks[-1].items
        if keyword == "host":
            names = words(rest)
            if "" in names:
                raise BadValueError("an empty pattern matches nothing")
            self._blocks.append(Block(hosts=compiled(names)))
        elif keyword == "match":
            self._blocks.append(Block(match=()))  # so that what follows is not the block before's
            criteria = read_criteria(rest, mark)
            reader.final = reader.final or any(one.kind == "final" for one in criteria)
            self._blocks[-1].match = criteria
        elif keyword == "include":
            items.extend(self._include(rest, mark))
        elif keyword in OBEYED or keyword in ("proxyjump", "proxycommand"):
            field, value, many = reader.obeyed(keyword, rest)
            items.append(
                Setting(keyword, field, value=value, mark=mark, user=self._user, many=many)
            )
        else:
            items.extend(self._ignored(keyword, rest, mark))

    def _include(self, rest: str, mark: Mark) -> list[Item]:
        names = words(rest)
        if not names or "" in names:
            raise BadValueError("it needs a path, not an empty one")
        return [
            self._reader.included(name, mark, user=self._user, depth=self._depth) for name in names
        ]

    def _ignored(self, keyword: str, rest: str, mark: Mark) -> list[Item]:
        known = IGNORED.get(keyword)
        if known is None:
            if self._reader.ignores(keyword):
                return []
            near = nearest(keyword, (*OBEYED, *IGNORED, "proxyjump", "proxycommand"))
            other = near or f"if it is another program's: IgnoreUnknown {keyword}"
            self._wrong(f"there is no keyword {keyword!r}", mark, f"{other}; {TRY_SSH}")
            return []
        said = words(rest)
        if keyword == "ignoreunknown" and said:
            self._reader.ignore(said[0])
        why = _matters(keyword, known, said, self._user)
        text = " ".join(said)
        if keyword == "canonicalizehostname":
            return [Setting(keyword, "canonicalize", text.lower(), mark, self._user)]
        return [
            Setting(
                keyword,
                f"({keyword})",
                value=None,
                mark=mark,
                user=self._user,
                many=False,
                why=why,
                text=text,
            )
        ]

    def _wrong(self, what: str, mark: Mark, hint: str = "") -> None:
        self._reader.problems.append(Problem(what, mark, hint))


def _matters(keyword: str, known: Ignored, said: list[str], user: bool) -> str:
    """Why this setting may be missed, '' where it is not."""
    if keyword == "sendenv":
        left = [name for name in said if name not in USUAL_ENVIRONMENT and name[:1] != "-"]
        return f"{' '.join(left)}: `environment` sets variables there" if left else ""
    value = said[0].lower() if said else ""
    if keyword == "gssapiauthentication" and not user:
        return ""  # Debian's file has it for every host
    if value == "none" or (known.when and value not in known.when):
        return ""
    return known.why


def _others_may_write(status: os.stat_result) -> bool:
    return status.st_uid not in (0, os.getuid()) or bool(
        status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
