"""From what the files said to the settings of a host: tokens expanded, ``none`` understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import Problem
from orchestrator.model.regex import regex
from orchestrator.transport.config.jumps import NONE
from orchestrator.transport.config.keywords import TRY_SSH
from orchestrator.transport.config.settings import Settings, Unsupported
from orchestrator.transport.config.tokens import TokenError, expanded, percent
from orchestrator.transport.config.tree import ConfigError, Setting

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
