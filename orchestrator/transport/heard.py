"""What a peer says, as errors tell it."""

from __future__ import annotations

from orchestrator.errors import ConnectError
from orchestrator.model.clean import quote

LINE = 255  # bytes of a version line (RFC 4253 4.2)


def named(failure: Exception) -> str:
    """What an exception says, or what it is called: some libraries' say nothing."""
    text = str(failure)
    return quote(text) if text.strip() else type(failure).__name__


def no_banner(said: list[str]) -> ConnectError:
    """The connection ended before the server named itself, having said so much.

    OpenSSH drops connections beyond MaxStartups like that, newer ones with a line of text;
    since 9.8 also addresses that failed before (PerSourcePenalties), for which time heals.
    """
    words = f" and said: {quote(' / '.join(said), LINE)}" if said else ""
    if said and "MaxStartups" not in words:
        if "Not allowed" in words:
            return ConnectError(
                "banner",
                "the server penalises our address for earlier failures" + words,
                "wait a while, or see PerSourcePenalties in its sshd_config",
            )
        return not_ssh(said)
    return ConnectError(
        "banner",
        "the server closed the connection before naming itself" + words,
        "its sshd may be at MaxStartups, or may not let this address in",
        transient=True,
    )


def not_ssh(said: list[str]) -> ConnectError:
    """What answered is something else."""
    return ConnectError(
        "banner",
        f"this is not an SSH server: it said {quote(said[0], 80)}",
        "is the port right? `connect: {port: …}`",
    )
