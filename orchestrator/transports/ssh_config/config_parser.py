"""Parse configuration files with their includes, and collect all errors in them."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Mapping, Sequence
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

MAX_INCLUDE_DEPTH = 16  # levels of files that include others
USUAL_ENVIRONMENT = frozenset(("LANG", "LC_*", "COLORTERM", "NO_COLOR"))  # SendEnv in Debian's file


class SshConfigParser:
    """Parses files in the order of their precedence.

    ``diagnostics`` are the errors in them. ``has_final_match`` is True if a Match line requires a
    second pass over the files.
    """

    def __init__(self, home: Path, environ: Mapping[str, str], system_config: Path) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.has_final_match = False
        self._home, self._environ, self._system = home, environ, system_config
        self._ignored: PatternList | None = None

    def parse_file(
        self, path: Path, *, is_user_file: bool, check_owner: bool, depth: int = 0
    ) -> ConfigFile:
        """Return the blocks of a file.

        Raises OSError; with ``check_owner``, SshConfigError if other users may write to the file.
        """
        with path.open("rb") as file:
            if check_owner and _is_writable_by_others(os.fstat(file.fileno())):
                raise SshConfigError(
                    Diagnostic(
                        "bad owner or permissions: other users may write to this file",
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

    def parse_options(self, options: Sequence[str]) -> ConfigFile:
        """Return the blocks of options of the inventory, each written as in a file."""
        text = "\n".join(option.replace("\n", " ") for option in options)
        return _FileParser(self, Path("the inventory's options of ssh"), True, 0).parse(text)

    def parse_included(
        self, pattern: str, position: SourcePosition, *, is_user_file: bool, depth: int
    ) -> tuple[ConfigFile, ...]:
        """Return the files that an Include matches. A pattern may match none."""
        if depth >= MAX_INCLUDE_DEPTH:
            raise SshConfigError(
                Diagnostic("include: the files include each other in a loop", position)
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
                continue  # a dangling link
            except OSError as error:
                raise InvalidValueError(f"can't read {name}: {error.strerror}") from None
        return tuple(found)

    def ignore_unknown(self, patterns: str) -> None:
        """Accept unknown keywords that match (IgnoreUnknown; only the first one counts)."""
        self._ignored = self._ignored or compile_patterns(patterns.lower().split(","))

    def is_ignored(self, keyword: str) -> bool:
        """Return True if IgnoreUnknown matches this keyword."""
        return self._ignored is not None and self._ignored.matches(keyword)

    def parse_keyword(self, keyword: str, rest: str) -> tuple[str, object, bool]:
        """Return field, value, and whether it is added to a list. Raises InvalidValueError."""
        if keyword == "proxycommand":
            return "proxy_command", rest.lstrip(SPACE + "="), False
        if keyword == "proxyjump":
            return "jump", parse_jump_hosts(rest.lstrip(SPACE + "=")), False
        known = SUPPORTED_KEYWORDS[keyword]
        return known.field, known.parse(split_words(rest), self._environ), known.is_list


class _FileParser:
    """The parser of one file."""

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
            raise InvalidValueError(f"{keyword}: missing value")
        try:
            self._parse_keyword(keyword, rest, position)
        except InvalidValueError as bad:
            raise InvalidValueError(f"{keyword}: {bad}", bad.hint) from None

    def _parse_keyword(self, keyword: str, rest: str, position: SourcePosition) -> None:
        parser, items = self._parser, self._blocks[-1].items
        if keyword == "host":
            names = split_words(rest)
            if "" in names:
                raise InvalidValueError("an empty pattern matches nothing")
            self._blocks.append(ConfigBlock(hosts=compile_patterns(names)))
        elif keyword == "match":
            # a new block, even if the criteria are invalid: the lines below belong to this Match
            self._blocks.append(ConfigBlock(match=()))
            criteria = parse_criteria(rest, position)
            parser.has_final_match = parser.has_final_match or any(
                one.kind == "final" for one in criteria
            )
            self._blocks[-1].match = criteria
        elif keyword == "include":
            items.extend(self._parse_include(rest, position))
        elif keyword in SUPPORTED_KEYWORDS or keyword in ("proxyjump", "proxycommand"):
            field, value, is_list = parser.parse_keyword(keyword, rest)
            items.append(
                ConfigLine(
                    keyword,
                    field,
                    value=value,
                    position=position,
                    is_user_file=self._is_user_file,
                    is_list=is_list,
                )
            )
        else:
            items.extend(self._unsupported_lines(keyword, rest, position))

    def _parse_include(self, rest: str, position: SourcePosition) -> list[BlockItem]:
        names = split_words(rest)
        if not names or "" in names:
            raise InvalidValueError("missing path")
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
            suggestion = suggest_nearest(
                keyword, (*SUPPORTED_KEYWORDS, *UNSUPPORTED_KEYWORDS, "proxyjump", "proxycommand")
            )
            hint = suggestion or f"if another program uses it: IgnoreUnknown {keyword}"
            self._add_error(f"unknown keyword {keyword!r}", position, f"{hint}; {TRY_SSH_HINT}")
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
    """Return why ignoring this setting may matter, or '' if it does not."""
    if keyword == "sendenv":
        names = [name for name in values if name not in USUAL_ENVIRONMENT and name[:1] != "-"]
        return f"{' '.join(names)}: use `environment` to set variables on the host" if names else ""
    value = values[0].lower() if values else ""
    if keyword == "gssapiauthentication" and not is_user_file:
        return ""  # Debian's file sets it for every host
    if value == "none" or (rule.relevant_values and value not in rule.relevant_values):
        return ""
    return rule.reason


def _is_writable_by_others(status: os.stat_result) -> bool:
    return status.st_uid not in (0, os.getuid()) or bool(
        status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
