"""Find out from the log of ``ssh`` (``-E``, at DEBUG1) why it could not log in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import to_one_line

_PHASE_MARKERS = (
    ("Connecting to ", "connect"),
    ("Executing proxy command", "connect"),
    ("Local version string", "banner"),
    ("Remote protocol version", "kex"),
    ("Server host key:", "host key"),
    ("Server host certificate:", "host key"),
    ("SSH2_MSG_NEWKEYS received", "auth"),
    ("Authenticated to ", "channel"),
)
"""The beginning of a log line, and the phase that begins with it."""
_PHASE_TEXTS = {
    "resolve": "looking up the address",
    "connect": "connecting",
    "banner": "waiting for the SSH banner",
    "kex": "agreeing on keys",
    "host key": "checking the host key",
    "auth": "logging in",
    "channel": "opening a session",
}
_HINTS = (
    ("Connection refused", "is sshd running there, on this port?"),
    ("No route to host", "is the address right, and the host up?"),
    ("Network is unreachable", "is this machine online, or its VPN up?"),
    ("timed out", "is the host up? `connect: {timeout: …}` allows more"),
    ("Temporary failure in name", "is this machine online?"),
    ("Could not resolve", "is the name spelled right? `address:` sets another"),
    ("no matching", "ssh_config can enable an algorithm that the host offers"),
    ("is not accessible", "is `identity` right?"),
)
_TRANSIENT_ERRORS = ("reset by peer", "Connection reset", "Temporary failure in name", "aborted")
_NOISE = lazy_regex(r"debug\d: |Authenticated to |Warning: Permanently added |OpenSSH_|\s*$")
_HUNG_UP = ("Connection closed", "Disconnected from", "Connection reset")
_MAX_LINES = 3  # lines of the log that an error quotes


def login_phase(log: str) -> str:
    """Return the phase that the login reached, as in ConnectError."""
    phase = "resolve"
    for line in log.splitlines():
        message = line.removeprefix("debug1: ")
        phase = next((name for text, name in _PHASE_MARKERS if message.startswith(text)), phase)
    return phase


def is_waiting_for_agent(log: str) -> bool:
    """Return True if the server accepted a key of an agent that has not signed yet."""
    last = log.rstrip().rpartition("\n")[2]
    return re.match(r"debug1: Server accepts key: .* agent$", last) is not None


def phase_text(phase: str) -> str:
    """Return what ssh was doing in this phase, for the error of a deadline that passed."""
    return _PHASE_TEXTS[phase]


def login_error(log: str, stderr: str) -> ConnectError:
    """Return the error for an ``ssh`` that exited with this log.

    ``stderr`` includes that of its proxy command.
    """
    log_lines = (*stderr.splitlines(), *log.splitlines())
    lines = [to_one_line(line) for line in log_lines if not _NOISE.match(line)]
    phase = login_phase(log)
    if phase == "host key":
        return _host_key_error(log, lines)
    if phase == "auth":
        return _auth_error(log, lines)
    why = " / ".join(lines[-_MAX_LINES:]) or "ssh exited without output"
    why = why.removeprefix("ssh: ")
    hint = next((hint for text, hint in _HINTS if text in why), "")
    transient = phase == "banner" or any(text in why for text in _TRANSIENT_ERRORS)
    return ConnectError(phase, why, hint, transient=transient)


def _host_key_error(log: str, lines: list[str]) -> ConnectError:
    shown = _first_match(log, r"Server host (?:key|certificate): (\S+ [^\s,]+)") or "another key"
    old = _first_match(log, r"(?:Offending|Matching) .*key.* in (.+:\d+)")
    revoked = _first_match(log, r"host key .*REVOKED.*|.*marked as revoked.*|.* was revoked.*")
    name = _first_match(log, r"[Hh]ost key for (\S+) has changed") or _first_match(
        log, r"key is known for (\S+) and"
    )
    if revoked is not None:
        return ConnectError("host key", f"the host key is revoked: {shown} ({lines[-1]})")
    if old is not None:
        path = old.rpartition(":")[0]
        return ConnectError(
            "host key",
            f"the key of {name or 'the host'} changed: {old} has {_entry_fingerprint(old)}, "
            f"the host shows {shown}",
            f"if the host was reinstalled: ssh-keygen -f {path} -R '{name}'; "
            "if not, this may be a man-in-the-middle attack",
        )
    if name is not None:
        return ConnectError(
            "host key",
            f"{name} is not in known_hosts; its key is {shown}",
            "check it and add it with ssh-keyscan, or set `host_keys: accept-new`",
        )
    return ConnectError("host key", " / ".join(lines[-_MAX_LINES:]) or "ssh refuses the key")


def _auth_error(log: str, lines: list[str]) -> ConnectError:
    tried = _all_matches(log, r"debug1: Offering public key: (\S+)")
    tried = tried or ["no key"]
    missing = [line for line in lines if "not accessible" in line]
    # with the lines that the server sent before it closed the connection
    last = lines[-_MAX_LINES if lines and lines[-1].startswith(_HUNG_UP) else -1 :]
    why = " / ".join((*missing, *(last or ["ssh exited without output"])))
    hint = "transport openssh cannot answer prompts: is the key in the agent, or `identity` right?"
    if re.search(r"Permission denied \(gssapi[^)]*\)", why) and "publickey" not in why:
        hint = (
            "the host accepts Kerberos only: does `klist` show a ticket, and ssh_config allow it?"
        )
    return ConnectError(
        "auth",
        f"{why}; tried {', '.join(tried)}",
        hint,
        transient=any(text in why for text in _TRANSIENT_ERRORS),
    )


def _entry_fingerprint(location: str) -> str:
    """Return the fingerprint of the key at FILE:LINE (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    path, _, number = location.rpartition(":")
    try:
        words = Path(path).read_bytes().splitlines()[int(number) - 1].split()
        words = words[1:] if words[0].startswith(b"@") else words
        digest = hashlib.sha256(base64.b64decode(words[2])).digest()
    except (OSError, IndexError, binascii.Error):
        return "another key"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _first_match(log: str, pattern: str) -> str | None:
    found = re.search(pattern, log)
    return found[found.re.groups and 1] if found else None


def _all_matches(log: str, pattern: str) -> list[str]:
    found: Iterable[str] = re.findall(pattern, log)
    return list(dict.fromkeys(found))
