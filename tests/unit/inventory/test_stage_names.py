"""The names that completion reads are those of the loaded stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.inventory.stage_loader import load_stage
from orchestrator.inventory.stage_names import StageNames
from tests.projects import OrchProject

ROOT = Path(__file__).parents[3]


def check_names(root: Path, stage: str) -> None:
    loaded, names = load_stage(root, stage), StageNames(root, stage)
    assert set(names.hosts()) == set(loaded.hosts)
    assert set(names.roles()) == set(loaded.roles)
    assert set(names.apps()) == set(loaded.apps)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_those_of_the_example_project(stage: str) -> None:
    check_names(ROOT, stage)


def test_hosts_of_files_and_of_roles_are_one_whatever_their_case(project: OrchProject) -> None:
    project.write(
        {
            "inventories/dev/hosts/web[1-3].yml": "",
            "inventories/dev/hosts/Db1.yaml": "roles: claimed\n",
            "inventories/dev/hosts/.swap.yml": "",
            "inventories/dev/roles/web.yml": "[WEB1, 'n[01-02]', 'deploy@10.0.0.7:2222', '::1']\n",
            "inventories/dev/roles/outer.yml": "{hosts: [db1], roles: [web]}\n",
            "inventories/common/roles/all-web.yml": "roles: [web]\n",
            "inventories/common/hosts/shared.yml": "",
            "inventories/dev/apps/own.yml": "",
            "inventories/common/apps/of-claimed.yml": "roles: claimed\n",
            "inventories/common/apps/of-none.yml": "roles: [none]\n",
            "inventories/common/apps/of-all.yml": "",
        }
    )
    check_names(project.root, "dev")


def test_those_of_one_file_for_all_hosts_and_roles(project: OrchProject) -> None:
    project.write(
        {
            "inventories/dev/hosts.yml": "a: {roles: [x, y]}\n'b[1-2]':\n",
            "inventories/dev/roles.yaml": "web: [a, c]\ndb: {hosts: [d]}\n",
            "inventories/dev/apps.yml": "one: {roles: [web]}\n",
            "inventories/common/apps.yml": "one: {}\ntwo: {roles: [x]}\n",
        }
    )
    check_names(project.root, "dev")


def test_those_of_a_program(project: OrchProject) -> None:
    project.write({"inventories/dev/hosts": '#!/bin/sh\necho \'{"a": {}, "b": {}}\'\n'})
    (project.root / "inventories/dev/hosts").chmod(0o755)
    check_names(project.root, "dev")


def test_files_with_errors_are_left_out(project: OrchProject) -> None:
    project.write(
        {
            "inventories/dev/hosts/a.yml": "[",
            "inventories/dev/hosts/b c.yml": "",
            "inventories/dev/roles/web.yml": "hosts: [x, 1, [], '']\n",
            "inventories/dev/roles/db.yml": "[",
            "inventories/common/apps.yml": "- x\n",
        }
    )
    names = StageNames(project.root, "dev")
    assert names.hosts() == ("a", "x")
    assert names.roles() == ("db", "web")
    assert names.apps() == ()
