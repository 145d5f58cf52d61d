from __future__ import annotations

from pathlib import Path

from orchestrator.inventory.limit import select_hosts
from orchestrator.inventory.precedence import host_variables
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.inventory.stages import list_stages, read_default_stage

ROOT = Path(__file__).parents[3]


def test_the_shipped_project_has_a_sandboxed_and_a_protected_stage_and_no_default() -> None:
    found = list_stages(ROOT)
    assert found.names == ("dev", "prod")
    assert found.refused == ()
    assert read_default_stage(ROOT) is None


def test_nothing_in_the_dev_stage_leaves_this_machine() -> None:
    dev = load_stage(ROOT, "dev")
    assert {host.connect.transport for host in dev.hosts.values()} == {"sandbox"}
    assert dev.roles["appservers"].hosts == ("devserver1", "devserver2", "devserver3")
    assert not dev.protected
    assert dev.notes == ()


def test_the_prod_stage_is_protected_and_its_hosts_cannot_exist() -> None:
    prod = load_stage(ROOT, "prod")
    assert prod.protected
    assert all(host.connect.address.endswith(".example.net") for host in prod.hosts.values())
    assert prod.notes == ()
    assert prod.hosts["bastion1"].connect.user == "jump"
    assert [h.name for h in select_hosts(prod, "monitored:!dbservers")] == list(
        prod.roles["appservers"].hosts
    )


def test_the_stages_differ_in_values_only() -> None:
    for name, workers in (("dev", 2), ("prod", 8)):
        stage = load_stage(ROOT, name)
        host = stage.hosts[stage.roles["appservers"].hosts[0]]
        assert host_variables(host)["workers"].data == workers
        assert str(host_variables(host)["deploy_to"].data).startswith("~/")
