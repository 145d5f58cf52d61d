"""Output after a bug in orch."""

from __future__ import annotations

import pytest

from orchestrator.cli.root_command import _print_bug
from orchestrator.errors import ExitCode
from orchestrator.model.secret_masking import SecretMasker


def test_a_bug_is_told_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    masks = SecretMasker()
    masks.add_secret("pw", "hunter'22")
    try:
        raise KeyError("hunter'22")
    except KeyError:
        assert _print_bug(masks) == ExitCode.BUG
    message = capsys.readouterr().err
    assert "KeyError" in message
    assert "‹pw›" in message.split("KeyError")[-1]
    assert "report it" in message
