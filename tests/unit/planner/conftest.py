from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.planner.plan_project import PlanProject


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanProject:
    """Create a project with the stage ``dev`` and no task, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return PlanProject(tmp_path)
