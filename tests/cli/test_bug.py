"""What is printed where orch itself breaks."""

from __future__ import annotations

import pytest

from orchestrator.cli.root_command import _bug
from orchestrator.errors import Exit
from orchestrator.model.secret_masking import Masks


def test_a_bug_is_told_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    masks = Masks()
    masks.add("pw", "hunter'22")
    try:
        raise KeyError("hunter'22")
    except KeyError:
        assert _bug(masks) == Exit.BUG
    told = capsys.readouterr().err
    assert "KeyError" in told
    assert "‹pw›" in told.split("KeyError")[-1]
    assert "report it" in told
