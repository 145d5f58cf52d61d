from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import settings

from tests.projects import ENGINE, OrchProject
from tests.sshd import sshd

__all__ = ["sshd"]

LONG_TOO = "long or not long"
"""The expression of markers with which `tests/run long` selects tests."""

SHELLS = ("dash", "bash", "busybox")

_LONGEST = (
    "modules/test_module_examples",
    "faults/test_random_faults",
    "conformance/test_step_endings",
    "modules/test_package_module",
    "transports/test_broker",
    "conformance/test_transfer_conformance",
    "docs/test_docs_examples",
    "modules/test_module_scripts",
    "conformance/test_step_execution",
    "cli/test_hostile_input",
    "conformance/test_markers",
    "modules/test_check_predicts_run",
    "modules/test_user_module",
    "modules/test_git_module",
    "flow/test_resume",
    "modules/test_unarchive",
    "modules/test_postgres_modules",
    "executor/test_worker_processes",
)
"""The files that take longest begin first: at the end, all processes have something to do."""

# How long an example takes says more of what else runs than of orch. The examples of a short run
# are the same each time: what fails has to do with what changed. Long runs look for new ones.
settings.register_profile("orch", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None)

# SIGINT is ignored under nohup, or in the background of a script; a shell cannot trap a signal that
# is ignored when it starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Select how examples are made, before the modules of tests are imported."""
    settings.load_profile("long" if config.option.markexpr == LONG_TOO else "orch")


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have orch keep its caches in a temp folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def project(tmp_path: Path) -> OrchProject:
    """Create an empty project; all home folders, also the tester's, are in its temp folder."""
    root = tmp_path / "project"
    (root / "inventories").mkdir(parents=True)
    return OrchProject(root)


@pytest.hookimpl(tryfirst=True)  # before `long` tests are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; in a short run, select one shell for tests with equal variants.

    Another shell is selected for each test and each of its other parameters. A test marked
    ``every_shell`` runs with all shells.
    """
    ranks = {name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(f"{item.path.parent.name}/{item.path.stem}", len(ranks)))
    same: dict[tuple[object, ...], list[pytest.Item]] = {}
    for item in items:
        call = getattr(item, "callspec", None)
        if call is None or item.get_closest_marker("every_shell"):
            continue
        if (shell := next((v for v in call.params.values() if v in SHELLS), None)) is not None:
            function, _, rest = item.name.partition("[")
            others = re.sub(rf"(?<![a-z]){shell}(?![a-z])", "*", rest, count=1)
            same.setdefault((item.path, function, others), []).append(item)
    for (_, *name), group in same.items():
        kept = crc32("".join(map(str, name)).encode()) % len(group)
        for item in (*group[:kept], *group[kept + 1 :]):
            item.add_marker("long")
    for item in items if ENGINE else ():
        if item.get_closest_marker("own_process"):
            item.add_marker(pytest.mark.skip(reason="workers drive the hosts"))
