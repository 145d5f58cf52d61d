"""The `cluster` of a stage: its settings, and errors at their positions."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.commands.cluster_plan import resolve_cluster, uncovered_regions
from orchestrator.commands.project_lint import lint_project
from orchestrator.errors import DefinitionError, OrchError, UsageError
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.host import Stage

HOSTS = "c1: {address: 10.0.0.1}\nc2: {}\nweb1: {}\nweb2: {}\n"


def stage_with(tmp_path: Path, cluster: str, regions: str = "{eu: [web1], us: [web2]}") -> Stage:
    folder = tmp_path / "inventories" / "s"
    (folder / "roles").mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    (folder / "roles/control.yml").write_text("[c1, c2]\n")
    (folder / "stage.yml").write_text(f"regions: {regions}\ncluster: {cluster}\n")
    return load_stage(tmp_path, "s")


def test_hosts_run_what_the_settings_say(tmp_path: Path) -> None:
    stage = stage_with(tmp_path, "{workers: {eu: [control], us: [c2, web2]}, processes: 2}")
    cluster = resolve_cluster(stage)
    assert cluster.address == "tls://10.0.0.1:8786"
    assert [(n.host.name, n.is_scheduler, n.worker_names, n.regions) for n in cluster.nodes] == [
        ("c1", True, ("c1/1", "c1/2"), ("eu",)),
        ("c2", False, ("c2/1", "c2/2"), ("eu", "us")),
        ("web2", False, ("web2/1", "web2/2"), ("us",)),
    ]


def test_a_scheduler_may_be_a_host_without_workers(tmp_path: Path) -> None:
    text = "{scheduler: c1, workers: c2, address: '::1', port: 9000}"
    cluster = resolve_cluster(stage_with(tmp_path, text))
    assert cluster.address == "tls://[::1]:9000"
    assert [(node.host.name, node.workers) for node in cluster.nodes] == [("c1", 0), ("c2", 1)]
    assert cluster.host_names == {"c1": ("10.0.0.1", "::1"), "c2": ("c2",)}


def test_regions_without_workers_are_named(tmp_path: Path) -> None:
    stage = stage_with(tmp_path, "{workers: {eu: c1}}")
    assert uncovered_regions(resolve_cluster(stage), stage) == ["us"]


@pytest.mark.parametrize(
    ("cluster", "message", "column"),
    [
        ("", "cluster must be a mapping, found nothing", 9),
        ("{scheduler: c1}", "cluster needs `workers`", 10),
        ("{workers: []}", "cluster.workers is empty", 20),
        ("{workers: c1, process: 2}", "unknown key 'process' in cluster", 24),
        ("{workers: c1, processes: 0}", "cluster.processes must be between 1 and 256", 35),
        ("{workers: c1, port: 70000}", "cluster.port must be between 1 and 65535", 30),
        ("{workers: {'e u': c1}}", "'e u' cannot be a region of a cluster", 21),
        ("{workers: c1, listen: localhost}", "cluster.listen must be an IP address", 32),
        ("{workers: c1, address: 'x:1'}", "cluster.address must be one name or IP address", 33),
        ("{workers: c1, folder: orch}", "cluster.folder must be a path that begins with", 32),
        ("{workers: c1, folder: /a/../b}", "cluster.folder must be a path that begins with", 32),
        ("{workers: c1, pip_options: x}", "'x' is not an option of pip", 37),
        ("{workers: c1, install: maybe}", "cluster.install must be true or false", 33),
    ],
)
def test_errors_are_at_their_positions(
    tmp_path: Path, cluster: str, message: str, column: int
) -> None:
    with pytest.raises(DefinitionError) as raised:
        stage_with(tmp_path, cluster)
    (first, *_) = raised.value.diagnostics
    assert message in first.message
    assert first.mark is not None
    assert (first.mark.line, first.mark.column) == (2, column)


@pytest.mark.parametrize(
    ("cluster", "message", "column"),
    [
        ("{workers: c9}", "'c9' is not a role or host of stage 's'", 20),
        ("{workers: {asia: c1}}", "'asia' is not one of the `regions` of stage 's'", 21),
        ("{workers: c1, scheduler: control}", "'control' is not a host of stage 's'", 35),
    ],
)
def test_unknown_names_are_at_their_positions(
    tmp_path: Path, cluster: str, message: str, column: int
) -> None:
    stage = stage_with(tmp_path, cluster)
    with pytest.raises(UsageError) as raised:
        resolve_cluster(stage)
    (first,) = raised.value.diagnostics
    assert first in lint_project(str(tmp_path), ())[0]
    assert first.message == message
    assert first.mark is not None
    assert (first.mark.line, first.mark.column) == (2, column)


def test_a_stage_without_a_cluster_says_how_to_add_one(tmp_path: Path) -> None:
    folder = tmp_path / "inventories" / "s"
    folder.mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    with pytest.raises(OrchError) as raised:
        resolve_cluster(load_stage(tmp_path, "s"))
    assert "add `cluster: {workers: [HOST, …]}`" in raised.value.diagnostics[0].hint
    assert str(raised.value.diagnostics[0].mark).endswith("inventories/s")
