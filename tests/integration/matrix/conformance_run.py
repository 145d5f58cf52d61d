"""Run tests/integration/conformance on hosts of the matrix, with a pytest inside their machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.integration.matrix.matrix_ground import MatrixGround

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of a test on a case.

    ``failure_text`` is '' if it passed. ``replacement`` names the check of host_exceptions.py that
    ran instead, if there is one.
    """

    test: str
    case: str
    failure_text: str
    replacement: str


def run_conformance(
    ground: MatrixGround,
    cases: Sequence[tuple[str, str]],
    *,
    workers: int,
    timeout: float,
    only: str = "",
) -> list[CaseResult]:
    """Run the tests on each case, a host and a transport, for ``timeout`` seconds at most.

    ``only`` selects tests as pytest's -k does.
    """
    for path in {ROOT, Path(sys.prefix), Path(sys.base_prefix)}:
        ground.machine.share_folder(path)
    ground.machine.run_as_root("mkdir -p /srv; chmod 755 /srv")
    ground.machine.write_file("/etc/sudoers.d/all", "ALL ALL=(ALL) NOPASSWD: ALL\n").chmod(0o440)
    folder = ground.machine.folder
    file, report = folder / "cases.json", folder / "report.xml"
    report.unlink(missing_ok=True)
    file.write_text(
        json.dumps(
            {
                "project": str(ground.project.root),
                "cases": list(cases),
                "environ": dict(ground.environ),
                "answer": ground.answer,
            }
        )
    )
    words = [
        "-p",
        "tests.integration.matrix.conformance_plugin",
        "--cases",
        str(file),
        f"--junitxml={report}",
    ]
    words += ["-p", "no:cacheprovider", "--tb=short", "-n", str(workers), "-k", only]
    command_prefix = [*ground.machine.words, f"--wdns={ROOT}"]
    done = subprocess.run(
        [*command_prefix, sys.executable, "-m", "pytest", *words, "tests/integration/conformance"],
        check=False,
        env={**_clean_environ(), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/srv"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        text=True,
    )
    assert report.exists(), done.stdout
    return [_case_result(each) for each in ElementTree.parse(report).iter("testcase")]


def _clean_environ() -> dict[str, str]:
    """Return our environment without pytest's own variables."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}


def _case_result(case: ElementTree.Element) -> CaseResult:
    about = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
    bad = [each for kind in ("failure", "error", "skipped") for each in case.iter(kind)]
    failure_text = "\n".join(each.text or each.get("message", "") or each.tag for each in bad)
    return CaseResult(
        case.get("name", ""), about.get("case", ""), failure_text, about.get("instead", "")
    )
