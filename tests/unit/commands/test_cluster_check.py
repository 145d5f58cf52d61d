"""The report of a cluster's host, which is text that anyone may have written."""

from __future__ import annotations

import json

import pytest

from orchestrator.commands.cluster_check import (
    ClusterFinding,
    NodeReport,
    _check_python,
    exit_code_of,
)
from orchestrator.commands.worker_process import code_versions
from orchestrator.errors import ExitCode

HERE = code_versions()


def test_a_report_is_read() -> None:
    text = "python 3.12.1\nlacks 2\nclosed 0 Connection refused\nclosed 3 No route to host\nend\n"
    report = NodeReport.parse(text)
    assert report.values == {"python": "3.12.1", "end": ""}
    assert report.missing_keys == [2]
    assert report.closed == {0: "Connection refused", 3: "No route to host"}


@pytest.mark.parametrize(
    "text", ["lacks", "lacks x", "lacks -1", f"closed {'9' * 5000} x", "closed \u0663 x", "\0", ""]
)
def test_lines_that_are_not_of_a_report_are_ignored(text: str) -> None:
    report = NodeReport.parse(text)
    assert (report.missing_keys, report.closed) == ([], {})


@pytest.mark.parametrize(
    "versions", ["", "[]", "{", "[" * 100_000, json.dumps({"orch": ["x"]}), json.dumps({})]
)
def test_versions_that_cannot_be_read_are_not_those_of_here(versions: str) -> None:
    values = {"python": HERE["Python"], "versions": versions}
    found = list(_check_python("h", values, installs=False))
    assert [finding.state for finding in found] == ["ok", "fail"]


def test_equal_versions_are_fine() -> None:
    values = {"python": HERE["Python"], "venv": "yes", "versions": json.dumps(HERE)}
    assert [finding.state for finding in _check_python("h", values, installs=True)] == ["ok"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "there is no Python"),
        ({"python": "3.9"}, f"it has Python 3.9, and orch runs here with {HERE['Python']}"),
        ({"python": HERE["Python"]}, "its Python cannot make environments"),
        (
            {
                "python": HERE["Python"],
                "venv": "yes",
                "versions": json.dumps({**HERE, "orch": "9"}),
            },
            f"it has orch 9 instead of {HERE['orch']}",
        ),
    ],
)
def test_what_a_python_lacks_is_named(values: dict[str, str], message: str) -> None:
    found = list(_check_python("h", values, installs=True))
    assert message in [finding.message for finding in found if finding.state == "fail"]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((), ExitCode.OK),
        (("ok", "warn"), ExitCode.OK),
        (("ok", "unreachable"), ExitCode.UNREACHABLE),
        (("unreachable", "fail"), ExitCode.FAILED),
    ],
)
def test_the_exit_code_is_that_of_the_worst(states: tuple[str, ...], code: ExitCode) -> None:
    assert exit_code_of(ClusterFinding("", "", "", state=state) for state in states) is code
