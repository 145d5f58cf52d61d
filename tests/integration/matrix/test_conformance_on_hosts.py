"""tests/integration/conformance on hosts of the matrix that differ in what a session depends on.

`python -m tests.integration.matrix` runs it on all hosts.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import tests.integration.conformance
from tests.integration.matrix.account_cases import make_accounts
from tests.integration.matrix.conformance_run import run_conformance
from tests.integration.matrix.host_exceptions import EXCEPTIONS
from tests.integration.matrix.matrix_ground import PartFactory
from tests.integration.matrix.server_cases import make_servers

SUITE = Path(tests.integration.conformance.__file__).parent
WORKERS = 4  # which wait most of the time
PARTS: dict[PartFactory, list[tuple[str, str]]] = {
    make_accounts: [
        *((name, "ssh") for name in ("bash", "zsh", "fish", "tcsh", "ash")),
        *((name, "ssh") for name in ("few", "busybox", "one", "notty", "banner", "narrow")),
        ("tcsh", "openssh"),
    ],
    make_servers: [("ahead", "ssh")],
}


def test_exceptions_are_of_tests_that_there_are() -> None:
    modules = [
        import_module(f"tests.integration.conformance.{path.stem}")
        for path in SUITE.glob("test_*.py")
    ]
    known = {name for module in modules for name in dir(module)}
    assert {test for instead in EXCEPTIONS.values() for test in instead} <= known


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_conformance_holds(part: PartFactory, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("matrix") / "place"
    cases = PARTS[part]
    with part(folder) as ground:
        results = run_conformance(ground, cases, workers=WORKERS, timeout=800)
    bad = [f"{each.case} {each.test}\n{each.failure_text}" for each in results if each.failure_text]
    assert not bad, "\n\n".join(bad)
    counts = Counter(each.case for each in results)
    assert {*counts} == {"-".join(case) for case in cases}
    (count,) = {*counts.values()}
    assert count > 100
