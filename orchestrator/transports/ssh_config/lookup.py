"""Look up a host's settings in the files, as ssh does before it connects."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh_config.config_keywords import NO_JUMP, TRY_SSH_HINT
from orchestrator.transports.ssh_config.config_parser import SshConfigParser
from orchestrator.transports.ssh_config.config_tree import (
    ConfigBlock,
    ConfigFile,
    ConfigLine,
    SshConfigError,
)
from orchestrator.transports.ssh_config.match import MatchContext, MatchExecRunner, criteria_match
from orchestrator.transports.ssh_config.settings import SshSettings, UnsupportedSetting
from orchestrator.transports.ssh_config.tokens import (
    TokenError,
    connection_tokens,
    expand_path,
    expand_tokens,
)

PROXY_TOKENS = ("h", "n", "p", "r")
COPIED_FIELDS = (
    "user", "port", "identities_only", "connect_timeout", "alive_interval", "alive_count",
    "host_keys", "host_key_alias", "hash_known_hosts", "kex", "ciphers", "macs",
    "host_key_algorithms", "address_family", "bind_address", "set_env",
)  # fmt: skip
# Tokens whose value must not contain what a shell treats specially; ssh refuses them, too.
_UNTRUSTED_TOKENS = frozenset("n h k r j C".split())
_UNSAFE_IN_SHELL = lazy_regex(r"[\s\x00-\x1f'\"`$;&<>|(){}]|\\(?!\w)|^-")


def expand_setting(
    line: ConfigLine,
    expander: Callable[[str, Mapping[str, str]], str],
    text: str,
    tokens: Mapping[str, str],
) -> str:
    """Return ``text`` with its tokens expanded. Raises SshConfigError with the line's position."""
    try:
        return expander(text, tokens)
    except TokenError as bad:
        raise SshConfigError(
            Diagnostic(f"{line.keyword}: {bad}", line.position, TRY_SSH_HINT)
        ) from None


def expand_command(text: str, tokens: Mapping[str, str]) -> str:
    """Return a command with its tokens expanded.

    Raises TokenError, also if a token's value is not a single word for a shell.
    """
    for sign in set(re.findall(r"%(.)", text.replace("%%", ""))) & _UNTRUSTED_TOKENS:
        if _UNSAFE_IN_SHELL.search(tokens.get(sign, "")):
            raise TokenError(f"%{sign} is not a single word for the shell: {tokens[sign]!r}")
    return expand_tokens(text, tokens)


def final_settings(
    name: str,
    lines: Mapping[str, ConfigLine],
    lists: Mapping[str, list[ConfigLine]],
    tokens: Mapping[str, str],
    environ: Mapping[str, str],
    home: Path,
) -> SshSettings:
    """Return the settings of the host called ``name``. Raises SshConfigError."""

    def expand_one_path(text: str, known: Mapping[str, str]) -> str:
        return text if text.lower() == "none" else expand_path(text, known, environ, home)

    def expand_list(field: str) -> tuple[str, ...]:
        return tuple(
            expand_setting(s, expand_one_path, str(s.value), tokens) for s in lists.get(field, ())
        )

    def expand_files(field: str, how: Callable[[str, Mapping[str, str]], str]) -> tuple[str, ...]:
        line = lines.get(field)
        names: Any = () if line is None else line.value
        return (
            () if line is None else tuple(expand_setting(line, how, one, tokens) for one in names)
        )

    values: dict[str, Any] = {
        field: lines[field].value
        for field in COPIED_FIELDS
        if field in lines and lines[field].value is not None
    }
    return SshSettings(
        name,
        tokens["h"],
        identity=expand_list("identity"),
        certificates=expand_list("certificates"),
        known_hosts=expand_files("known_hosts", expand_one_path),
        global_known_hosts=expand_files("global_known_hosts", lambda text, _: text),
        unsupported=tuple(
            UnsupportedSetting(s.keyword, s.text, s.position, s.unsupported_reason)
            for s in lines.values()
            if s.unsupported_reason
        ),
        **values,
        **_proxy_settings(lines, tokens),
        **_agent_settings(lines, tokens, environ, expand_one_path),
    )


def _proxy_settings(lines: Mapping[str, ConfigLine], tokens: Mapping[str, str]) -> dict[str, Any]:
    known = {sign: tokens[sign] for sign in PROXY_TOKENS}
    jump, command = lines.get("jump"), lines.get("proxy_command")
    if jump is not None and jump.value != NO_JUMP:
        hops: Any = jump.value
        return {"jump": tuple(expand_setting(jump, expand_tokens, hop, known) for hop in hops)}
    if command is not None and str(command.value).lower() != "none":
        return {"proxy_command": expand_setting(command, expand_command, str(command.value), known)}
    return {}


def _agent_settings(
    lines: Mapping[str, ConfigLine],
    tokens: Mapping[str, str],
    environ: Mapping[str, str],
    expander: Callable[[str, Mapping[str, str]], str],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    own, other = lines.get("identity_agent"), lines.get("forward")
    if own is not None and own.value != "SSH_AUTH_SOCK":
        found["identity_agent"] = _agent_socket(own, tokens, environ, expander) or "none"
    if other is not None:
        found["forward_agent"] = bool(other.value)
    if (path := lines.get("forward_socket")) is not None:
        found["forward_socket"] = _agent_socket(path, tokens, environ, expander)
    return found


def _agent_socket(
    line: ConfigLine,
    tokens: Mapping[str, str],
    environ: Mapping[str, str],
    expander: Callable[[str, Mapping[str, str]], str],
) -> str:
    text = str(line.value)
    if text.startswith("$") and not text.startswith("${"):
        return environ.get(text[1:], "")
    return expand_setting(line, expander, text, tokens)


SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
NO_FILE = "none"
DefaultT = TypeVar("DefaultT")


class _ParsedFiles(Struct, frozen=True):
    files: tuple[ConfigFile, ...]
    has_final_match: bool


class SshConfig:
    """The ssh_config files, which are parsed at the first lookup. Thread-safe.

    ``config_file`` is the only file to read, as with ``ssh -F``; ``none`` means no file.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
        *,
        config_file: str | None = None,
        system_config: Path = SYSTEM_CONFIG,
    ) -> None:
        self._home, self._environ, self._file, self._system = (
            home,
            environ,
            config_file,
            system_config,
        )
        self._commands = MatchExecRunner(environ, stop)
        self._lock = threading.Lock()
        self._parsed_or_error: _ParsedFiles | SshConfigError | None = None
        self._options: dict[tuple[str, ...], ConfigFile] = {}
        self._local = login_name()

    def settings_for(
        self,
        name: str,
        *,
        user: str | None = None,
        port: int | None = None,
        options: tuple[str, ...] = (),
    ) -> SshSettings:
        """Return the settings of a host. ``user`` and ``port`` override those of the files.

        ``options`` are lines that precede the files, as with ``ssh -o``. Raises SshConfigError.
        """
        parsed = self._parsed_files()
        lookup = _HostLookup(self, name, user, port)
        if options:
            lookup.apply_files((self._parse_options(options),))
        lookup.apply_files(parsed.files)
        lookup.fix_host_name()
        if parsed.has_final_match:
            lookup.apply_files(parsed.files, is_final_pass=True)
        return final_settings(
            name,
            lookup.first_lines,
            lists=lookup.list_lines,
            tokens=lookup.tokens(),
            environ=self._environ,
            home=self._home,
        )

    def command_succeeds(self, command: str, position: SourcePosition) -> bool:
        """Return True if a command of ``Match exec`` succeeds."""
        return self._commands.command_succeeds(command, position)

    @property
    def home(self) -> Path:
        """The home folder whose files are read."""
        return self._home

    @property
    def local_user(self) -> str:
        """The user who runs orch."""
        return self._local

    def _parse_options(self, options: tuple[str, ...]) -> ConfigFile:
        """Return the options as a file; each tuple of options is parsed once."""
        with self._lock:
            if options not in self._options:
                parser = SshConfigParser(self._home, self._environ, self._system)
                file = parser.parse_options(options)
                if parser.diagnostics:
                    raise SshConfigError(*parser.diagnostics)
                self._options[options] = file
            return self._options[options]

    def _parsed_files(self) -> _ParsedFiles:
        with self._lock:
            if self._parsed_or_error is None:
                try:
                    self._parsed_or_error = self._parse()
                except SshConfigError as error:
                    self._parsed_or_error = error
        if isinstance(self._parsed_or_error, SshConfigError):
            raise SshConfigError(*self._parsed_or_error.diagnostics)
        return self._parsed_or_error

    def _parse(self) -> _ParsedFiles:
        reader = SshConfigParser(self._home, self._environ, self._system)
        files = tuple(self._parse_files(reader))
        if reader.diagnostics:
            raise SshConfigError(*reader.diagnostics)
        return _ParsedFiles(files, reader.has_final_match)

    def _parse_files(self, parser: SshConfigParser) -> Iterator[ConfigFile]:
        if self._file == NO_FILE:
            return
        if self._file is not None:
            path = Path(self._file)
            try:
                yield parser.parse_file(path, is_user_file=True, check_owner=False)
            except OSError as error:
                what = f"can't read this ssh_config file: {error.strerror}"
                raise SshConfigError(Diagnostic(what, SourcePosition(str(path)))) from None
            return
        for path, user in ((self._home / ".ssh" / "config", True), (self._system, False)):
            try:
                yield parser.parse_file(path, is_user_file=user, check_owner=user)
            except OSError:
                continue  # absent or not readable; ssh ignores that, too


class _HostLookup:
    """The lookup of one host. ``first_lines`` maps each field to the first line that sets it."""

    def __init__(self, config: SshConfig, name: str, user: str | None, port: int | None) -> None:
        self.first_lines: dict[str, ConfigLine] = {}
        self.list_lines: dict[str, list[ConfigLine]] = {}
        self._config, self._name, self._host = config, name, name
        self._final_host_name: str | None = None  # the host's name after the first pass
        for field, value in (("user", user), ("port", port)):
            if value is not None:
                self.first_lines[field] = ConfigLine(
                    field, field, value, SourcePosition("the inventory"), True
                )

    def apply_files(self, files: tuple[ConfigFile, ...], *, is_final_pass: bool = False) -> None:
        """Apply the lines of these files that apply to the host, in order."""
        for file in files:
            for block in _relevant_blocks(file, self._host):
                if not self._block_applies(block, is_final_pass):
                    continue
                for item in block.items:
                    if isinstance(item, ConfigLine):
                        self._apply_line(item)
                    else:
                        self.apply_files(item, is_final_pass=is_final_pass)

    def fix_host_name(self) -> None:
        """Fix the host's name, which Host lines are compared with in the final pass.

        It is the HostName, with addresses in canonical form. Raises SshConfigError for
        CanonicalizeHostname.
        """
        canonical = self.first_lines.get("canonicalize")
        if canonical and canonical.value not in ("no", "false", "none"):
            raise SshConfigError(
                Diagnostic(
                    "canonicalizehostname: orch does not canonicalize host names",
                    canonical.position,
                    "write full host names; `Match final` alone requests a second pass",
                )
            )
        self._host = self._final_host_name = _canonical_host(self._current_host_name())

    def tokens(self) -> dict[str, str]:
        """Return the tokens as far as the settings are known."""
        jump: tuple[str, ...] = self._value_of("jump", NO_JUMP)
        return connection_tokens(
            name=self._name,
            host=self._current_host_name(),
            port=self._value_of("port", 22),
            user=self._value_of("user", self._config.local_user),
            local=self._config.local_user,
            home=self._config.home,
            alias=self._value_of("host_key_alias", ""),
            jump=",".join(jump) if jump != NO_JUMP else "",
        )

    def _block_applies(self, block: ConfigBlock, is_final_pass: bool) -> bool:
        if block.hosts is not None:
            return block.hosts.matches(self._host)
        if block.match is None:
            return True
        subject = MatchContext(
            self._current_host_name(),
            self._name,
            user=self._value_of("user", self._config.local_user),
            local_user=self._config.local_user,
            tag=self._value_of("tag", ""),
            is_final_pass=is_final_pass,
            run_command=self._run_match_command,
        )
        return criteria_match(block.match, subject)

    def _apply_line(self, line: ConfigLine) -> None:
        if line.is_list:
            lines = self.list_lines.setdefault(line.field, [])
            if all(
                (one.value, one.is_user_file) != (line.value, line.is_user_file) for one in lines
            ):
                lines.append(line)
        elif line.field == "jump" and "proxy_command" in self.first_lines:
            return
        else:
            self._apply_first(line)

    def _apply_first(self, line: ConfigLine) -> None:
        if line.field == "forward" and isinstance(line.value, str):
            # as in ssh, the first path counts even if yes or no precedes it
            self.first_lines.setdefault("forward_socket", line)
        if line.field not in self.first_lines:
            self.first_lines[line.field] = line
            if line.field == "jump" and line.value != NO_JUMP:
                self.first_lines["proxy_command"] = replace(line, value="none")

    def _current_host_name(self) -> str:
        """Return the host's name as far as it is known."""
        line = self.first_lines.get("hostname")
        if self._final_host_name is not None or line is None:
            return self._final_host_name or self._name
        return expand_setting(line, expand_tokens, str(line.value), {"h": self._name})

    def _run_match_command(self, command: str, position: SourcePosition) -> bool:
        line = ConfigLine("match", "", command, position, True)
        return self._config.command_succeeds(
            expand_setting(line, expand_command, command, self.tokens()), position
        )

    def _value_of(self, field: str, default: DefaultT) -> DefaultT:
        line = self.first_lines.get(field)
        return default if line is None else cast(DefaultT, line.value)


def _relevant_blocks(file: ConfigFile, host: str) -> Iterator[ConfigBlock]:
    """Return the blocks that may apply to this host, in order."""
    named = file.blocks_by_name.get(host)
    indexes = sorted({*named, *file.pattern_blocks}) if named else file.pattern_blocks
    return (file.blocks[index] for index in indexes)


def _canonical_host(host: str) -> str:
    """Return a name in lower case, or an address in canonical form."""
    with suppress(OSError, ValueError):
        socket.inet_pton(socket.AF_INET, host)  # accepts the canonical form only
        return host
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    except (OSError, UnicodeError):
        return host.lower()
