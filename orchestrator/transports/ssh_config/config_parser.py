"""Reads the files, with what they include, and finds all that is wrong in them at once."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import Diagnostic, SourcePosition, suggest_nearest
from orchestrator.transports.ssh_config.config_keywords import (
    SUPPORTED_KEYWORDS,
    TRY_SSH_HINT,
    UNSUPPORTED_KEYWORDS,
    InvalidValueError,
    UnsupportedKeyword,
    parse_jump_hosts,
)
from orchestrator.transports.ssh_config.config_lexer import (
    SPACE,
    UnclosedQuoteError,
    split_keyword,
    split_words,
)
from orchestrator.transports.ssh_config.config_tree import (
    BlockItem,
    ConfigBlock,
    ConfigFile,
    ConfigLine,
    SshConfigError,
    index_blocks,
)
from orchestrator.transports.ssh_config.match import parse_criteria
from orchestrator.transports.ssh_config.patterns import PatternList, compile_patterns
from orchestrator.transports.ssh_config.tokens import TokenError, expand_tilde
from orchestrator.yamlio.local_files import MAX_FILE_BYTES

MAX_INCLUDE_DEPTH = 16  # files that include one another
USUAL_ENVIRONMENT = frozenset(("LANG", "LC_*", "COLORTERM", "NO_COLOR"))  # as Debian sends


class SshConfigParser:
    """Reads files in the order in which they count. ``diagnostics`` holds what is wrong in them,
    ``has_final_match`` whether some Match line asks for a second look at them.
    """

    def __init__(self, home: Path, environ: Mapping[str, str], system_config: Path) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.has_final_match = False
        self._home, self._environ, self._system = home, environ, system_config
        self._ignored: PatternList | None = None

    def parse_file(
        self, path: Path, *, is_user_file: bool, check_owner: bool, depth: int = 0
    ) -> ConfigFile:
        """The file's blocks. Raises OSError, and SshConfigError where ``check_owner`` finds that others
        may write to it.
        """
        with path.open("rb") as file:
            if check_owner and _is_writable_by_others(os.fstat(file.fileno())):
                raise SshConfigError(
                    Diagnostic(
                        "others than you may write to this file, so it can't be believed",
                        SourcePosition(str(path)),
                        f"chmod go-w {path}, and it must belong to you or to root",
                    )
                )
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"more than {MAX_FILE_BYTES} bytes", str(path))
        return _FileParser(self, path, is_user_file, depth).parse(
            data.decode("utf-8", "surrogateescape")
        )

    def parse_included(
        self, pattern: str, position: SourcePosition, *, is_user_file: bool, depth: int
    ) -> tuple[ConfigFile, ...]:
        """The files that an Include names; those that are not there are none."""
        if depth >= MAX_INCLUDE_DEPTH:
            raise SshConfigError(
                Diagnostic("include: the files include one another for ever", position)
            )
        if pattern.startswith("~"):
            if not is_user_file:
                raise InvalidValueError(f"{pattern!r}: the system's files can't include a user's")
            pattern = expand_tilde(pattern, self._home)
        folder = self._home / ".ssh" if is_user_file else self._system.parent
        found = []
        for name in sorted(glob.glob(str(folder / pattern))):  # noqa: PTH207 (absolute ones, too)
            try:
                found.append(
                    self.parse_file(
                        Path(name), is_user_file=is_user_file, check_owner=True, depth=depth + 1
                    )
                )
            except FileNotFoundError:
                continue  # a link to nothing
            except OSError as error:
                raise InvalidValueError(f"can't read {name}: {error.strerror}") from None
        return tuple(found)

    def ignore_unknown(self, patterns: str) -> None:
        """Unknown keywords like these are no error (IgnoreUnknown; the first counts)."""
        self._ignored = self._ignored or compile_patterns(patterns.lower().split(","))

    def is_ignored(self, keyword: str) -> bool:
        """Whether this one is none."""
        return self._ignored is not None and self._ignored.matches(keyword)

    def parse_keyword(self, keyword: str, rest: str) -> tuple[str, object, bool]:
        """The field, its value, and whether it adds to others. Raises InvalidValueError."""
        if keyword == "proxycommand":
            return "proxy_command", rest.lstrip(SPACE + "="), False
        if keyword == "proxyjump":
            return "jump", parse_jump_hosts(rest.lstrip(SPACE + "=")), False
        known = SUPPORTED_KEYWORDS[keyword]
        return known.field, known.parse(split_words(rest), self._environ), known.is_list


class _FileParser:
    """One file being read."""

    def __init__(self, parser: SshConfigParser, path: Path, is_user_file: bool, depth: int) -> None:
        self._parser, self._path, self._is_user_file, self._depth = (
            parser,
            path,
            is_user_file,
            depth,
        )
        self._blocks = [ConfigBlock()]

    def parse(self, text: str) -> ConfigFile:
        for number, line in enumerate(text.split("\n"), 1):
            mark = SourcePosition(str(self._path), number, 1)
            try:
                self._parse_line(line.partition("\0")[0], mark)
            except UnclosedQuoteError:
                self._add_error("a quote is not closed", mark)
            except InvalidValueError as bad:
                self._add_error(str(bad), mark, bad.hint)
            except TokenError as bad:
                self._add_error(str(bad), mark, TRY_SSH_HINT)
        return index_blocks(self._blocks)

    def _parse_line(self, line: str, position: SourcePosition) -> None:
        keyword, rest = split_keyword(line)
        if not keyword:
            return
        if not rest:
            raise InvalidValueError(f"{keyword}: it needs a value")
        try:
            self._parse_keyword(keyword, rest, position)
        except InvalidValueError as bad:
            raise InvalidValueError(f"{keyword}: {bad}", bad.hint) from None

    def _parse_keyword(self, keyword: str, rest: str, position: SourcePosition) -> None:
        reader, items = self._parser, self._blocks[-1].items
        if keyword == "host":
            names = split_words(rest)
            if "" in names:
                raise InvalidValueError("an empty pattern matches nothing")
            self._blocks.append(ConfigBlock(hosts=compile_patterns(names)))
        elif keyword == "match":
            self._blocks.append(
                ConfigBlock(match=())
            )  # so that what follows is not the block before's
            criteria = parse_criteria(rest, position)
            reader.has_final_match = reader.has_final_match or any(
                one.kind == "final" for one in criteria
            )
            self._blocks[-1].match = criteria
        elif keyword == "include":
            items.extend(self._parse_include(rest, position))
        elif keyword in SUPPORTED_KEYWORDS or keyword in ("proxyjump", "proxycommand"):
            field, value, many = reader.parse_keyword(keyword, rest)
            items.append(
                ConfigLine(
                    keyword,
                    field,
                    value=value,
                    position=position,
                    is_user_file=self._is_user_file,
                    is_list=many,
                )
            )
        else:
            items.extend(self._unsupported_lines(keyword, rest, position))

    def _parse_include(self, rest: str, position: SourcePosition) -> list[BlockItem]:
        names = split_words(rest)
        if not names or "" in names:
            raise InvalidValueError("it needs a path, not an empty one")
        return [
            self._parser.parse_included(
                name, position, is_user_file=self._is_user_file, depth=self._depth
            )
            for name in names
        ]

    def _unsupported_lines(
        self, keyword: str, rest: str, position: SourcePosition
    ) -> list[BlockItem]:
        known = UNSUPPORTED_KEYWORDS.get(keyword)
        if known is None:
            if self._parser.is_ignored(keyword):
                return []
            near = suggest_nearest(
                keyword, (*SUPPORTED_KEYWORDS, *UNSUPPORTED_KEYWORDS, "proxyjump", "proxycommand")
            )
            other = near or f"if it is another program's: IgnoreUnknown {keyword}"
            self._add_error(
                f"there is no keyword {keyword!r}", position, f"{other}; {TRY_SSH_HINT}"
            )
            return []
        values = split_words(rest)
        if keyword == "ignoreunknown" and values:
            self._parser.ignore_unknown(values[0])
        why = _unsupported_reason(keyword, known, values, self._is_user_file)
        text = " ".join(values)
        if keyword == "canonicalizehostname":
            return [ConfigLine(keyword, "canonicalize", text.lower(), position, self._is_user_file)]
        return [
            ConfigLine(
                keyword,
                f"({keyword})",
                value=None,
                position=position,
                is_user_file=self._is_user_file,
                is_list=False,
                unsupported_reason=why,
                text=text,
            )
        ]

    def _add_error(self, what: str, position: SourcePosition, hint: str = "") -> None:
        self._parser.diagnostics.append(Diagnostic(what, position, hint))


def _unsupported_reason(
    keyword: str, rule: UnsupportedKeyword, values: list[str], is_user_file: bool
) -> str:
    """Why this setting may be missed, '' where it is not."""
    if keyword == "sendenv":
        left = [name for name in values if name not in USUAL_ENVIRONMENT and name[:1] != "-"]
        return f"{' '.join(left)}: `environment` sets variables there" if left else ""
    value = values[0].lower() if values else ""
    if keyword == "gssapiauthentication" and not is_user_file:
        return ""  # Debian's file has it for every host
    if value == "none" or (rule.relevant_values and value not in rule.relevant_values):
        return ""
    return rule.reason


def _is_writable_by_others(status: os.stat_result) -> bool:
    return status.st_uid not in (0, os.getuid()) or bool(
        status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
