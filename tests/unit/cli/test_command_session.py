"""What is typed in a session of `orch ssh`."""

from __future__ import annotations

import pytest

from orchestrator.cli.command_session import EscapeFilter


@pytest.mark.parametrize(
    ("typed", "sent", "ends"),
    [
        (b"ls\r", b"ls\r", False),
        (b"~.rest", b"", True),
        (b"ls\r~.", b"ls\r", True),
        (b"a~.\r", b"a~.\r", False),
        (b"~~.\r", b"~.\r", False),
        (b"\n~x~.\r", b"\n~x~.\r", False),
        (b"~\r~.", b"~\r", True),
    ],
)
def test_only_tilde_and_dot_at_the_beginning_of_a_line_end_a_session(
    typed: bytes, sent: bytes, ends: bool
) -> None:
    assert EscapeFilter().feed(typed) == (sent, ends)
    parts, one_by_one = EscapeFilter(), b""
    for number in typed:
        more, ended = parts.feed(bytes([number]))
        one_by_one += more
        if ended:
            break
    assert (one_by_one, ended) == (sent, ends)
