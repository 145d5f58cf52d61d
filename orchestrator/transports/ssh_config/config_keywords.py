"""The keywords of ssh_config(5): what each one's words come to.

ProxyJump: hops as USER@HOST:PORT or ssh://USER@HOST:PORT, with commas between them.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from msgspec import Struct

from orchestrator.model.lazy_regex import regex

INT_MAX = 2**31 - 1
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
FLAG = {"yes": True, "true": True, "no": False, "false": False}
HOST_KEYS = {
    "yes": "yes", "true": "yes", "accept-new": "accept-new", "ask": "ask",
    "no": "no", "false": "no", "off": "no",
}  # fmt: skip
FAMILY = {"any": "any", "inet": "inet", "inet6": "inet6"}
Parse: TypeAlias = Callable[[list[str], Mapping[str, str]], object]


TRY_SSH = "if `ssh` takes it, have that connect: `connect: {transport: openssh}`"


class BadValueError(Exception):
    """A keyword can't have this value. The message says why, ``hint`` what to do."""

    def __init__(self, why: str, hint: str = TRY_SSH) -> None:
        super().__init__(why)
        self.hint = hint


class Keyword(Struct, frozen=True):
    """A keyword that orch obeys: the field it sets, and how its words are read."""

    field: str
    parse: Parse
    many: bool = False


def text(words: list[str], _: Mapping[str, str]) -> str:
    """One word."""
    if not words or not words[0]:
        raise BadValueError("it needs a value")
    if len(words) > 1:
        raise BadValueError(f"nothing may follow {words[0]!r}: put quotes around both")
    return words[0]


def small(words: list[str], environ: Mapping[str, str]) -> str:
    """One word, in small letters."""
    return text(words, environ).lower()


def choice(values: Mapping[str, object]) -> Parse:
    """One of some words, in any case."""

    def parse(words: list[str], environ: Mapping[str, str]) -> object:
        word = text(words, environ)
        if word.lower() not in values:
            raise BadValueError(f"it can't be {word!r}, but one of {', '.join(values)}")
        return values[word.lower()]

    return parse


def port(words: list[str], environ: Mapping[str, str]) -> int:
    """A number, or the name of a service."""
    word = text(words, environ)
    if word.isascii() and word.isdigit():
        number = int(word[:10])
    else:
        try:
            number = socket.getservbyname(word, "tcp")
        except (OSError, UnicodeError, ValueError):
            number = 0
    if not 0 < number < 65536:
        raise BadValueError(f"{word!r} is no port, 1 to 65535")
    return number


def count(words: list[str], environ: Mapping[str, str]) -> int:
    """A whole number from 0."""
    word = text(words, environ)
    if not re.fullmatch(r"[+]?[0-9]{1,10}", word) or int(word) > INT_MAX:
        raise BadValueError(f"{word!r} is no whole number")
    return int(word)


def seconds(words: list[str], environ: Mapping[str, str]) -> int | None:
    """A time as sshd_config(5) has it, like 90 or 1m30s; ``none``: none."""
    word = text(words, environ)
    if word == "none":
        return None
    if not re.fullmatch(r"(?i)(?:[0-9]{1,12}+[smhdw]?)++", word):
        raise BadValueError(f"{word!r} is no time, like 90 or 1m30s")
    parts = re.findall(r"([0-9]+)([a-z]?)", word.lower())
    total = sum(int(number) * UNITS[unit] for number, unit in parts)
    if total > INT_MAX:
        raise BadValueError(f"{word!r} is too long")
    return total


def files(words: list[str], _: Mapping[str, str]) -> tuple[str, ...]:
    """Some paths, or ``none`` alone."""
    if not words or "" in words:
        raise BadValueError("it needs a path, not an empty one")
    if "none" in (word.lower() for word in words):
        if len(words) > 1:
            raise BadValueError("'none' must stand alone")
        return ("none",)
    return tuple(words)


def socket_path(words: list[str], environ: Mapping[str, str]) -> str:
    """A path in which every ${NAME} is known, or $NAME."""
    word = text(words, environ)
    if "${" in word.rpartition("}")[2]:
        raise BadValueError(f"a }} is missing in {word!r}")
    for name in re.findall(r"\$\{([^}]*)\}", word):
        if name not in environ:
            raise BadValueError(f"${{{name}}} is not set in the environment")
    if word.startswith("$") and not re.match(r"\$(\{|[A-Za-z0-9_]+$)", word):
        raise BadValueError(f"{word!r} names no variable of the environment")
    return word


def forward(words: list[str], environ: Mapping[str, str]) -> object:
    """Yes, no, or the socket of another agent."""
    word = text(words, environ)
    return FLAG[word.lower()] if word.lower() in FLAG else socket_path(words, environ)


def variables(words: list[str], _: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """NAME=TEXT words; the first of each name."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadValueError(f"{word!r} is no NAME=TEXT")
        found.setdefault(name, value)
    return tuple(found.items())


def algorithms(words: list[str], environ: Mapping[str, str]) -> str:
    """A list with commas, and + - or ^ before it."""
    word = text(words, environ)
    if not re.fullmatch(r"[-+^]?[^-+^,\s][^,\s]*(,[^,\s]+)*", word):
        raise BadValueError(f"{word!r} is no list of algorithms")
    return word


OBEYED: Mapping[str, Keyword] = {
    "hostname": Keyword("hostname", text),
    "port": Keyword("port", port),
    "user": Keyword("user", text),
    "identityfile": Keyword("identity", text, many=True),
    "identityfile2": Keyword("identity", text, many=True),
    "certificatefile": Keyword("certificates", text, many=True),
    "identitiesonly": Keyword("identities_only", choice(FLAG)),
    "identityagent": Keyword("identity_agent", socket_path),
    "connecttimeout": Keyword("connect_timeout", seconds),
    "serveraliveinterval": Keyword("alive_interval", seconds),
    "serveralivecountmax": Keyword("alive_count", count),
    "stricthostkeychecking": Keyword("host_keys", choice(HOST_KEYS)),
    "userknownhostsfile": Keyword("known_hosts", files),
    "globalknownhostsfile": Keyword("global_known_hosts", files),
    "hostkeyalias": Keyword("host_key_alias", small),
    "hashknownhosts": Keyword("hash_known_hosts", choice(FLAG)),
    "kexalgorithms": Keyword("kex", algorithms),
    "ciphers": Keyword("ciphers", algorithms),
    "macs": Keyword("macs", algorithms),
    "hostkeyalgorithms": Keyword("host_key_algorithms", algorithms),
    "addressfamily": Keyword("address_family", choice(FAMILY)),
    "bindaddress": Keyword("bind_address", text),
    "forwardagent": Keyword("forward", forward),
    "setenv": Keyword("set_env", variables),
    "tag": Keyword("tag", text),
}

ON = frozenset(("yes", "true", "always", "ask", "point-to-point", "ethernet", "force"))
OFF = frozenset(("no", "false"))


class Ignored(Struct, frozen=True):
    """A keyword that orch does not obey. With ``why`` that matters: for the values in ``when``,
    or all but ``none`` where there are no such.
    """

    why: str = ""
    when: frozenset[str] = frozenset()


_METHODS = "orch picks the ways to log in itself"
IGNORED: Mapping[str, Ignored] = {
    "bindinterface": Ignored("connections leave by the system's routes; BindAddress is obeyed"),
    "casignaturealgorithms": Ignored("the algorithms of certificates are not limited"),
    "checkhostip": Ignored("addresses are not looked up in known_hosts", ON),
    "connectionattempts": Ignored("`connect: {retries: …}` says how often"),
    "gssapiauthentication": Ignored("Kerberos needs `transport: openssh`", ON),
    "hostbasedauthentication": Ignored("it needs `transport: openssh`", ON),
    "knownhostscommand": Ignored("only files say which host keys are known"),
    "localcommand": Ignored("nothing is run on this machine"),
    "nohostauthenticationforlocalhost": Ignored("localhost's key is judged like any other", ON),
    "pkcs11provider": Ignored("load its keys into an agent"),
    "preferredauthentications": Ignored(_METHODS),
    "passwordauthentication": Ignored(_METHODS, OFF),
    "kbdinteractiveauthentication": Ignored(_METHODS, OFF),
    "pubkeyauthentication": Ignored(_METHODS, OFF),
    "pubkeyacceptedalgorithms": Ignored("keys of all types are offered"),
    "proxyusefdpass": Ignored("a proxy that hands over a socket needs `transport: openssh`", ON),
    "remotecommand": Ignored("orch runs its own"),
    "requesttty": Ignored("orch needs none and asks for none", frozenset(("yes", "force"))),
    "requiredrsasize": Ignored("small RSA keys are not refused"),
    "refuseconnection": Ignored("orch connects all the same"),
    "revokedhostkeys": Ignored("only @revoked lines in known_hosts revoke"),
    "securitykeyprovider": Ignored("load its keys into an agent"),
    "tunnel": Ignored("there are no tunnels", ON),
    "verifyhostkeydns": Ignored("DNS does not vouch for host keys", ON),
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
    Ignored(),
)


NONE = ("none",)
_HOP = regex(r"(?:(.+)@)?(\[[^\]\[]+\]|[^:@/\[\]]+)(?::([^:/]+))?", re.DOTALL)


def hops(text: str) -> tuple[str, ...]:
    """The hops in order, or NONE. Raises BadValueError."""
    text = text.partition("#")[0].strip(" \t\r\n")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]  # a shell takes them away in the end, for ssh
    if text.lower() == "none":
        return NONE
    return tuple(_hop(one) for one in text.split(","))


def split(hop: str) -> tuple[str, str, int | None]:
    """User ('' where none is said), host and port of one of the ``hops``."""
    found = _HOP.fullmatch(hop)
    if found is None:  # a token made it so
        return "", hop, None
    user, host, number = found.groups()
    return user or "", host.strip("[]"), port([number], {}) if number else None


def _hop(text: str) -> str:
    found = _HOP.fullmatch(text.strip())
    if text.lower().startswith("ssh://"):
        found = _HOP.fullmatch(text[6:].removesuffix("/"))
    if found is None:
        raise BadValueError(f"{text!r} is no USER@HOST:PORT")
    user, host, number = found.groups()
    user = unquote(user) if user and text.lower().startswith("ssh://") else user
    at = f"{user}@" if user else ""
    return f"{at}{host}" + (f":{port([number], {})}" if number else "")
