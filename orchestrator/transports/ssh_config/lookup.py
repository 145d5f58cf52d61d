"""From what the files said to the settings of a host: tokens expanded, ``none`` understood.

Looking up a host in the files, as ssh does before it connects.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Mark, Problem
from orchestrator.model.lazy_regex import regex
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh_config.config_keywords import NONE, TRY_SSH
from orchestrator.transports.ssh_config.config_parser import Reader
from orchestrator.transports.ssh_config.config_tree import Block, ConfigError, File, Setting
from orchestrator.transports.ssh_config.match import Commands, Subject, holds
from orchestrator.transports.ssh_config.settings import Settings, Unsupported
from orchestrator.transports.ssh_config.tokens import (
    TokenError,
    connection_tokens,
    expanded,
    percent,
)

PROXY = ("h", "n", "p", "r")
AS_SAID = (
    "user", "port", "identities_only", "connect_timeout", "alive_interval", "alive_count",
    "host_keys", "host_key_alias", "hash_known_hosts", "kex", "ciphers", "macs",
    "host_key_algorithms", "address_family", "bind_address", "set_env",
)  # fmt: skip
# What a shell would not take as part of a word; ssh refuses such names, too.
_FOREIGN = frozenset("n h k r j C".split())
_UNSAFE = regex(r"[\s\x00-\x1f'\"`$;&<>|(){}]|\\(?!\w)|^-")


def expand(
    said: Setting, how: Callable[[str, Mapping[str, str]], str], text: str, known: Mapping[str, str]
) -> str:
    """``text`` with its tokens expanded. Raises ConfigError at the setting's place."""
    try:
        return how(text, known)
    except TokenError as bad:
        raise ConfigError(Problem(f"{said.keyword}: {bad}", said.mark, TRY_SSH)) from None


def in_shell(text: str, tokens: Mapping[str, str]) -> str:
    """A command with its tokens expanded. Raises TokenError, also where one of them would be more
    than a word to a shell.
    """
    for sign in set(re.findall(r"%(.)", text.replace("%%", ""))) & _FOREIGN:
        if _UNSAFE.search(tokens.get(sign, "")):
            raise TokenError(f"%{sign} would be more than a word to the shell: {tokens[sign]!r}")
    return percent(text, tokens)


def finished(
    name: str,
    chosen: Mapping[str, Setting],
    lists: Mapping[str, list[Setting]],
    tokens: Mapping[str, str],
    environ: Mapping[str, str],
    home: Path,
) -> Settings:
    """The settings of the host called ``name``. Raises ConfigError."""

    def path(text: str, known: Mapping[str, str]) -> str:
        return text if text.lower() == "none" else expanded(text, known, environ, home)

    def each(field: str) -> tuple[str, ...]:
        return tuple(expand(s, path, str(s.value), tokens) for s in lists.get(field, ()))

    def files(field: str, how: Callable[[str, Mapping[str, str]], str]) -> tuple[str, ...]:
        said = chosen.get(field)
        names: Any = () if said is None else said.value
        return () if said is None else tuple(expand(said, how, one, tokens) for one in names)

    values: dict[str, Any] = {
        field: chosen[field].value
        for field in AS_SAID
        if field in chosen and chosen[field].value is not None
    }
    return Settings(
        name,
        tokens["h"],
        identity=each("identity"),
        certificates=each("certificates"),
        known_hosts=files("known_hosts", path),
        global_known_hosts=files("global_known_hosts", lambda text, _: text),
        unsupported=tuple(
            Unsupported(s.keyword, s.text, s.mark, s.why) for s in chosen.values() if s.why
        ),
        **values,
        **_proxies(chosen, tokens),
        **_agents(chosen, tokens, environ, path),
    )


def _proxies(chosen: Mapping[str, Setting], tokens: Mapping[str, str]) -> dict[str, Any]:
    known = {sign: tokens[sign] for sign in PROXY}
    jump, command = chosen.get("jump"), chosen.get("proxy_command")
    if jump is not None and jump.value != NONE:
        hops: Any = jump.value
        return {"jump": tuple(expand(jump, percent, hop, known) for hop in hops)}
    if command is not None and str(command.value).lower() != "none":
        return {"proxy_command": expand(command, in_shell, str(command.value), known)}
    return {}


def _agents(
    chosen: Mapping[str, Setting],
    tokens: Mapping[str, str],
    environ: Mapping[str, str],
    path: Callable[[str, Mapping[str, str]], str],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    own, other = chosen.get("identity_agent"), chosen.get("forward")
    if own is not None and own.value != "SSH_AUTH_SOCK":
        found["identity_agent"] = _socket(own, tokens, environ, path) or "none"
    if other is not None:
        found["forward_agent"] = bool(other.value)
        if isinstance(other.value, str):
            found["forward_socket"] = _socket(other, tokens, environ, path)
    return found


def _socket(
    said: Setting,
    tokens: Mapping[str, str],
    environ: Mapping[str, str],
    path: Callable[[str, Mapping[str, str]], str],
) -> str:
    text = str(said.value)
    if text.startswith("$") and not text.startswith("${"):
        return environ.get(text[1:], "")
    return expand(said, path, text, tokens)


SYSTEM = Path("/etc/ssh/ssh_config")
NO_FILE = "none"
T = TypeVar("T")


class _Read(Struct, frozen=True):
    files: tuple[File, ...]
    final: bool


class SshConfig:
    """What ssh_config says about hosts. The files are read when first asked, once.

    ``file``: the only one to read, as with ``ssh -F``; ``none`` is no file at all.
    Serves any number of threads.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
        *,
        file: str | None = None,
        system: Path = SYSTEM,
    ) -> None:
        self._home, self._environ, self._file, self._system = home, environ, file, system
        self._commands = Commands(environ, stop)
        self._lock = threading.Lock()
        self._known: _Read | ConfigError | None = None
        self._local = login_name()

    def of(self, name: str, *, user: str | None = None, port: int | None = None) -> Settings:
        """The settings of the host of this name, where ``user`` and ``port`` are known from
        elsewhere and win. Raises ConfigError.
        """
        read = self._reading()
        lookup = _Lookup(self, name, user, port)
        lookup.walk(read.files)
        lookup.settle()
        if read.final:
            lookup.walk(read.files, final=True)
        return finished(
            name,
            lookup.chosen,
            lists=lookup.lists,
            tokens=lookup.tokens(),
            environ=self._environ,
            home=self._home,
        )

    def succeeds(self, command: str, mark: Mark) -> bool:
        """Whether a command of ``Match exec`` does."""
        return self._commands.succeeds(command, mark)

    @property
    def home(self) -> Path:
        """Whose files are read."""
        return self._home

    @property
    def local(self) -> str:
        """Who runs orch."""
        return self._local

    def _reading(self) -> _Read:
        with self._lock:
            if self._known is None:
                try:
                    self._known = self._read()
                except ConfigError as error:
                    self._known = error
        if isinstance(self._known, ConfigError):
            raise ConfigError(*self._known.found)
        return self._known

    def _read(self) -> _Read:
        reader = Reader(self._home, self._environ, self._system)
        files = tuple(self._files(reader))
        if reader.problems:
            raise ConfigError(*reader.problems)
        return _Read(files, reader.final)

    def _files(self, reader: Reader) -> Iterator[File]:
        if self._file == NO_FILE:
            return
        if self._file is not None:
            path = Path(self._file)
            try:
                yield reader.read(path, user=True, check=False)
            except OSError as error:
                what = f"can't read this ssh_config file: {error.strerror}"
                raise ConfigError(Problem(what, Mark(str(path)))) from None
            return
        for path, user in ((self._home / ".ssh" / "config", True), (self._system, False)):
            try:
                yield reader.read(path, user=user, check=user)
            except OSError:
                continue  # ssh does without it, too, be it absent or not ours to read


class _Lookup:
    """One host's way through the files. ``chosen`` maps fields to what was said first."""

    def __init__(self, config: SshConfig, name: str, user: str | None, port: int | None) -> None:
        self.chosen: dict[str, Setting] = {}
        self.lists: dict[str, list[Setting]] = {}
        self._config, self._name, self._host = config, name, name
        self._found: str | None = None  # the host's name after the first look
        for field, value in (("user", user), ("port", port)):
            if value is not None:
                self.chosen[field] = Setting(field, field, value, Mark("the inventory"), True)

    def walk(self, files: tuple[File, ...], *, final: bool = False) -> None:
        """Take what these files say, in their order. ``final``: for the second time."""
        for file in files:
            for block in _blocks(file, self._host):
                if not self._selects(block, final):
                    continue
                for item in block.items:
                    if isinstance(item, Setting):
                        self._take(item)
                    else:
                        self.walk(item, final=final)

    def settle(self) -> None:
        """The host's name is final, and what Host lines are about from now on: HostName counts,
        addresses take their plain form.
        """
        canonical = self.chosen.get("canonicalize")
        if canonical and canonical.value not in ("no", "false", "none"):
            raise ConfigError(
                Problem(
                    "canonicalizehostname: orch does not complete host names",
                    canonical.mark,
                    "write whole names; `Match final` asks for the second look alone",
                )
            )
        self._host = self._found = _plain(self._named())

    def tokens(self) -> dict[str, str]:
        """The tokens as far as the settings are known."""
        jump: tuple[str, ...] = self._said("jump", NONE)
        return connection_tokens(
            name=self._name,
            host=self._named(),
            port=self._said("port", 22),
            user=self._said("user", self._config.local),
            local=self._config.local,
            home=self._config.home,
            alias=self._said("host_key_alias", ""),
            jump=",".join(jump) if jump != NONE else "",
        )

    def _selects(self, block: Block, final: bool) -> bool:
        if block.hosts is not None:
            return block.hosts.match(self._host)
        if block.match is None:
            return True
        subject = Subject(
            self._named(),
            self._name,
            user=self._said("user", self._config.local),
            local=self._config.local,
            tag=self._said("tag", ""),
            final=final,
            run=self._runs,
        )
        return holds(block.match, subject)

    def _take(self, item: Setting) -> None:
        if item.many:
            said = self.lists.setdefault(item.field, [])
            if all((one.value, one.user) != (item.value, item.user) for one in said):
                said.append(item)
        elif item.field == "jump" and "proxy_command" in self.chosen:
            return
        elif item.field not in self.chosen:
            self.chosen[item.field] = item
            if item.field == "jump" and item.value != NONE:
                self.chosen["proxy_command"] = replace(item, value="none")

    def _named(self) -> str:
        """The host's name as far as it is known."""
        said = self.chosen.get("hostname")
        if self._found is not None or said is None:
            return self._found or self._name
        return expand(said, percent, str(said.value), {"h": self._name})

    def _runs(self, command: str, mark: Mark) -> bool:
        said = Setting("match", "", command, mark, True)
        return self._config.succeeds(expand(said, in_shell, command, self.tokens()), mark)

    def _said(self, field: str, default: T) -> T:
        said = self.chosen.get(field)
        return default if said is None else cast(T, said.value)


def _blocks(file: File, host: str) -> Iterator[Block]:
    """Those blocks that this host has to do with, in their order."""
    named = file.named.get(host)
    places = sorted({*named, *file.others}) if named else file.others
    return (file.blocks[place] for place in places)


def _plain(host: str) -> str:
    """A name in small letters; an address as the system writes it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    except (OSError, UnicodeError):
        return host.lower()
