"""The keywords of ssh_config(5) and the parsers of their values."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from msgspec import Struct

from orchestrator.model.lazy_regex import lazy_regex

INT_MAX = 2**31 - 1
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
YES_NO = {"yes": True, "true": True, "no": False, "false": False}
HOST_KEY_CHECKING = {
    "yes": "yes", "true": "yes", "accept-new": "accept-new", "ask": "ask",
    "no": "no", "false": "no", "off": "no",
}  # fmt: skip
ADDRESS_FAMILIES = {"any": "any", "inet": "inet", "inet6": "inet6"}
KeywordParser: TypeAlias = Callable[[list[str], Mapping[str, str]], object]


TRY_SSH_HINT = "if `ssh` accepts it, use `connect: {transport: openssh}`"


class InvalidValueError(Exception):
    """A keyword has an invalid value. The message says why; ``hint`` says what to do."""

    def __init__(self, why: str, hint: str = TRY_SSH_HINT) -> None:
        super().__init__(why)
        self.hint = hint


class SupportedKeyword(Struct, frozen=True):
    """A keyword that orch supports: the field that it sets, and the parser of its words."""

    field: str
    parse: KeywordParser
    is_list: bool = False


def parse_text(words: list[str], _: Mapping[str, str]) -> str:
    """Return the only word."""
    if not words or not words[0]:
        raise InvalidValueError("missing value")
    if len(words) > 1:
        raise InvalidValueError(
            f"unexpected word after {words[0]!r} (quote a value that contains spaces)"
        )
    return words[0]


def parse_lowercase(words: list[str], environ: Mapping[str, str]) -> str:
    """Return the only word in lower case."""
    return parse_text(words, environ).lower()


def choice_parser(values: Mapping[str, object]) -> KeywordParser:
    """Return a parser for one of some words, case-insensitive."""

    def parse(words: list[str], environ: Mapping[str, str]) -> object:
        word = parse_text(words, environ)
        if word.lower() not in values:
            raise InvalidValueError(
                f"invalid value {word!r} (expected one of: {', '.join(values)})"
            )
        return values[word.lower()]

    return parse


def parse_port(words: list[str], environ: Mapping[str, str]) -> int:
    """Return a port, given as a number or as the name of a service."""
    word = parse_text(words, environ)
    if word.isascii() and word.isdigit():
        number = int(word[:10])
    else:
        try:
            number = socket.getservbyname(word, "tcp")
        except (OSError, UnicodeError, ValueError):
            number = 0
    if not 0 < number < 65536:
        raise InvalidValueError(f"invalid port {word!r} (1 to 65535)")
    return number


def parse_count(words: list[str], environ: Mapping[str, str]) -> int:
    """Return a non-negative integer."""
    word = parse_text(words, environ)
    if not re.fullmatch(r"[+]?[0-9]{1,10}", word) or int(word) > INT_MAX:
        raise InvalidValueError(f"invalid number {word!r}")
    return int(word)


def parse_duration(words: list[str], environ: Mapping[str, str]) -> int | None:
    """Return seconds for a time like 90 or 1m30s (sshd_config(5)), or None for ``none``."""
    word = parse_text(words, environ)
    if word == "none":
        return None
    if not re.fullmatch(r"(?i)(?:[0-9]{1,12}+[smhdw]?)++", word):
        raise InvalidValueError(f"invalid time {word!r} (examples: 90, 1m30s)")
    parts = re.findall(r"([0-9]+)([a-z]?)", word.lower())
    total = sum(int(number) * UNITS[unit] for number, unit in parts)
    if total > INT_MAX:
        raise InvalidValueError(f"{word!r} is too long")
    return total


def parse_paths(words: list[str], _: Mapping[str, str]) -> tuple[str, ...]:
    """Return paths, or ``none`` alone."""
    if not words or "" in words:
        raise InvalidValueError("missing path")
    if "none" in (word.lower() for word in words):
        if len(words) > 1:
            raise InvalidValueError("'none' must be the only value")
        return ("none",)
    return tuple(words)


def parse_socket_path(words: list[str], environ: Mapping[str, str]) -> str:
    """Return a path in which every ${NAME} is set in the environment, or $NAME."""
    word = parse_text(words, environ)
    if "${" in word.rpartition("}")[2]:
        raise InvalidValueError(f"missing }} in {word!r}")
    for name in re.findall(r"\$\{([^}]*)\}", word):
        if name not in environ:
            raise InvalidValueError(f"${{{name}}} is not set in the environment")
    if word.startswith("$") and not re.match(r"\$(\{|[A-Za-z0-9_]+$)", word):
        raise InvalidValueError(f"{word!r} is not an environment variable")
    return word


def parse_forward_agent(words: list[str], environ: Mapping[str, str]) -> object:
    """Return True, False, or the path of another agent's socket."""
    word = parse_text(words, environ)
    return YES_NO[word.lower()] if word.lower() in YES_NO else parse_socket_path(words, environ)


def parse_variables(words: list[str], _: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of NAME=TEXT words, the first one for each name."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidValueError(f"{word!r} is not NAME=TEXT")
        found.setdefault(name, value)
    return tuple(found.items())


def parse_algorithms(words: list[str], environ: Mapping[str, str]) -> str:
    """Return a comma-separated list, which may begin with +, - or ^."""
    word = parse_text(words, environ)
    if not re.fullmatch(r"[-+^]?[^-+^,\s][^,\s]*(,[^,\s]+)*", word):
        raise InvalidValueError(f"invalid list of algorithms {word!r}")
    return word


SUPPORTED_KEYWORDS: Mapping[str, SupportedKeyword] = {
    "hostname": SupportedKeyword("hostname", parse_text),
    "port": SupportedKeyword("port", parse_port),
    "user": SupportedKeyword("user", parse_text),
    "identityfile": SupportedKeyword("identity", parse_text, is_list=True),
    "identityfile2": SupportedKeyword("identity", parse_text, is_list=True),
    "certificatefile": SupportedKeyword("certificates", parse_text, is_list=True),
    "identitiesonly": SupportedKeyword("identities_only", choice_parser(YES_NO)),
    "identityagent": SupportedKeyword("identity_agent", parse_socket_path),
    "connecttimeout": SupportedKeyword("connect_timeout", parse_duration),
    "serveraliveinterval": SupportedKeyword("alive_interval", parse_duration),
    "serveralivecountmax": SupportedKeyword("alive_count", parse_count),
    "stricthostkeychecking": SupportedKeyword("host_keys", choice_parser(HOST_KEY_CHECKING)),
    "userknownhostsfile": SupportedKeyword("known_hosts", parse_paths),
    "globalknownhostsfile": SupportedKeyword("global_known_hosts", parse_paths),
    "hostkeyalias": SupportedKeyword("host_key_alias", parse_lowercase),
    "hashknownhosts": SupportedKeyword("hash_known_hosts", choice_parser(YES_NO)),
    "kexalgorithms": SupportedKeyword("kex", parse_algorithms),
    "ciphers": SupportedKeyword("ciphers", parse_algorithms),
    "macs": SupportedKeyword("macs", parse_algorithms),
    "hostkeyalgorithms": SupportedKeyword("host_key_algorithms", parse_algorithms),
    "addressfamily": SupportedKeyword("address_family", choice_parser(ADDRESS_FAMILIES)),
    "bindaddress": SupportedKeyword("bind_address", parse_text),
    "forwardagent": SupportedKeyword("forward", parse_forward_agent),
    "setenv": SupportedKeyword("set_env", parse_variables),
    "tag": SupportedKeyword("tag", parse_text),
}

ON_VALUES = frozenset(("yes", "true", "always", "ask", "point-to-point", "ethernet", "force"))
OFF_VALUES = frozenset(("no", "false"))


class UnsupportedKeyword(Struct, frozen=True):
    """A keyword that orch ignores.

    ``reason`` is set if ignoring it may matter to the user; then it is reported for the values in
    ``relevant_values``, or for all except ``none`` if that is empty.
    """

    reason: str = ""
    relevant_values: frozenset[str] = frozenset()


_METHODS_REASON = "orch chooses the authentication methods itself"
UNSUPPORTED_KEYWORDS: Mapping[str, UnsupportedKeyword] = {
    "bindinterface": UnsupportedKeyword("it is not supported; use BindAddress"),
    "casignaturealgorithms": UnsupportedKeyword("certificates may use any algorithm"),
    "checkhostip": UnsupportedKeyword("addresses are not looked up in known_hosts", ON_VALUES),
    "connectionattempts": UnsupportedKeyword("use `connect: {retries: …}`"),
    "gssapiauthentication": UnsupportedKeyword("Kerberos needs `transport: openssh`", ON_VALUES),
    "hostbasedauthentication": UnsupportedKeyword("it needs `transport: openssh`", ON_VALUES),
    "knownhostscommand": UnsupportedKeyword("known host keys are read from files only"),
    "localcommand": UnsupportedKeyword("no local command is run"),
    "nohostauthenticationforlocalhost": UnsupportedKeyword(
        "localhost's key is checked like any other", ON_VALUES
    ),
    "pkcs11provider": UnsupportedKeyword("load its keys into an agent"),
    "preferredauthentications": UnsupportedKeyword(_METHODS_REASON),
    "passwordauthentication": UnsupportedKeyword(_METHODS_REASON, OFF_VALUES),
    "kbdinteractiveauthentication": UnsupportedKeyword(_METHODS_REASON, OFF_VALUES),
    "pubkeyauthentication": UnsupportedKeyword(_METHODS_REASON, OFF_VALUES),
    "pubkeyacceptedalgorithms": UnsupportedKeyword("keys of all types are offered"),
    "proxyusefdpass": UnsupportedKeyword(
        "a proxy that passes a socket needs `transport: openssh`", ON_VALUES
    ),
    "remotecommand": UnsupportedKeyword("orch runs its own command"),
    "requesttty": UnsupportedKeyword("orch never requests a terminal", frozenset(("yes", "force"))),
    "requiredrsasize": UnsupportedKeyword("small RSA keys are not refused"),
    "refuseconnection": UnsupportedKeyword("orch connects anyway"),
    "revokedhostkeys": UnsupportedKeyword("only @revoked lines in known_hosts revoke keys"),
    "securitykeyprovider": UnsupportedKeyword("load its keys into an agent"),
    "tunnel": UnsupportedKeyword("tunnels are not supported", ON_VALUES),
    "verifyhostkeydns": UnsupportedKeyword("host keys are not looked up in DNS", ON_VALUES),
} | dict.fromkeys(
    """addkeystoagent afstokenpassing batchmode canonicaldomains canonicalizefallbacklocal
    canonicalizehostname canonicalizemaxdots canonicalizepermittedcnames
    challengeresponseauthentication channeltimeout cipher clearallforwardings compression
    compressionlevel controlmaster controlpath controlpersist dsaauthentication dynamicforward
    enableescapecommandline enablesshkeysign escapechar exitonforwardfailure fallbacktorsh
    fingerprinthash forkafterauthentication forwardx11 forwardx11timeout forwardx11trusted
    gatewayports globalknownhostsfile2 gssapiclientidentity gssapidelegatecredentials
    gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapiserveridentity
    gssapitrustdns hostbasedacceptedalgorithms hostbasedkeytypes ignoreunknown ipqos keepalive
    kerberosauthentication kerberostgtpassing localforward loglevel logverbose
    numberofpasswordprompts obscurekeystroketiming permitlocalcommand permitremoteopen protocol
    pubkeyacceptedkeytypes rekeylimit remoteforward rhostsauthentication rhostsrsaauthentication
    rsaauthentication sendenv sessiontype skeyauthentication smartcarddevice stdinnull
    streamlocalbindmask streamlocalbindunlink syslogfacility tcpkeepalive tisauthentication
    tunneldevice updatehostkeys useprivilegedport userknownhostsfile2 useroaming usersh
    versionaddendum visualhostkey warnweakcrypto xauthlocation""".split(),
    UnsupportedKeyword(),
)


NO_JUMP = ("none",)
_JUMP_HOST = lazy_regex(r"(?:(.+)@)?(\[[^\]\[]+\]|[^:@/\[\]]+)(?::([^:/]+))?", re.DOTALL)


def parse_jump_hosts(text: str) -> tuple[str, ...]:
    """Return the jump hosts in order, or ``NO_JUMP``. Raises InvalidValueError.

    Each is USER@HOST:PORT or ssh://USER@HOST:PORT; they are separated by commas.
    """
    text = text.partition("#")[0].strip(" \t\r\n")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]  # for ssh, the shell that runs the command removes them
    if text.lower() == "none":
        return NO_JUMP
    return tuple(_parse_jump_host(one) for one in text.split(","))


def split_jump_host(jump_host: str) -> tuple[str, str, int | None]:
    """Return user ('' if not given), host and port of one of the ``parse_jump_hosts``."""
    found = _JUMP_HOST.fullmatch(jump_host)
    if found is None:  # an expanded token made it invalid
        return "", jump_host, None
    user, host, number = found.groups()
    return user or "", host.strip("[]"), parse_port([number], {}) if number else None


def _parse_jump_host(text: str) -> str:
    found = _JUMP_HOST.fullmatch(text.strip())
    if text.lower().startswith("ssh://"):
        found = _JUMP_HOST.fullmatch(text[6:].removesuffix("/"))
    if found is None:
        raise InvalidValueError(f"invalid jump host {text!r} (expected USER@HOST:PORT)")
    user, host, number = found.groups()
    user = unquote(user) if user and text.lower().startswith("ssh://") else user
    at = f"{user}@" if user else ""
    return f"{at}{host}" + (f":{parse_port([number], {})}" if number else "")
