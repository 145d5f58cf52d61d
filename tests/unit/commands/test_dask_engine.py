"""The choice of an engine, and the division of hosts among workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.commands.dask_engine import EngineChoice, _divide_hosts, parse_engine
from orchestrator.errors import UsageError
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.host import Stage
from orchestrator.planner.plan import Plan

HOSTS = ("eu1", "eu2", "us1", "any1", "any2")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("local", None),
        ("", None),
        ("dask=local:3", EngineChoice(processes=3)),
        ("dask=tls://10.0.0.1:8786", EngineChoice(address="tls://10.0.0.1:8786")),
    ],
)
def test_engines_are_read(text: str, choice: EngineChoice | None) -> None:
    assert parse_engine(text) == choice


@pytest.mark.parametrize(
    "text", ["dask=local", "dask=local:", "dask=local:-1", "dask=tls://", "ray", "dask:2"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="unknown engine"):
        parse_engine(text)


def stage_with(tmp_path: Path, regions: str) -> Stage:
    folder = tmp_path / "inventories" / "s"
    (folder / "roles").mkdir(parents=True)
    (folder / "hosts.yml").write_text("".join(f"{host}: {{}}\n" for host in HOSTS))
    (folder / "roles/eu.yml").write_text("[eu1, eu2]\n")
    (folder / "stage.yml").write_text(f"regions: {regions}\n")
    return load_stage(tmp_path, "s")


def plan_of(*hosts: str) -> Plan:
    return Plan("r", "s", ("one",), hosts, ())


def test_hosts_of_a_region_go_to_its_workers_and_the_others_to_all(tmp_path: Path) -> None:
    stage = stage_with(tmp_path, "{eu: [eu], us: [us1]}")
    workers = {"a": frozenset({"eu"}), "b": frozenset({"us"}), "c": frozenset[str]()}
    divided = _divide_hosts(plan_of(*HOSTS), stage, workers)
    assert divided == {"a": ["eu1", "eu2"], "b": ["us1", "any2"], "c": ["any1"]}


def test_workers_without_hosts_are_left_out(tmp_path: Path) -> None:
    stage = stage_with(tmp_path, "{}")
    workers = dict.fromkeys("abc", frozenset[str]())
    assert _divide_hosts(plan_of("any1", "any2"), stage, workers) == {"a": ["any1"], "b": ["any2"]}


def test_hosts_that_no_worker_reaches_are_named(tmp_path: Path) -> None:
    stage = stage_with(tmp_path, "{eu: [eu], us: [us1]}")
    with pytest.raises(UsageError, match=r"the region 'eu': eu\[1-2\]; 'us': us1"):
        _divide_hosts(plan_of(*HOSTS), stage, {"a": frozenset[str]()})


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("{eu: [eu], us: [eu1]}", "'eu1' is in two regions: 'eu' and 'us'"),
        ("{eu: [evil]}", "'evil' is not a role or host of stage 's'"),
    ],
)
def test_regions_that_cannot_be_are_refused(tmp_path: Path, regions: str, message: str) -> None:
    stage = stage_with(tmp_path, regions)
    with pytest.raises(UsageError, match=message):
        _divide_hosts(plan_of(*HOSTS), stage, {"a": frozenset({"eu", "us"})})
