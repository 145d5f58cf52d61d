from __future__ import annotations

import pytest

from orchestrator.yamlio.naming_rules import (
    RESERVED_NAMES,
    is_ignored,
    variable_name_error,
    yaml_stem,
)


@pytest.mark.parametrize(
    "name",
    [
        ".web.yml.swp",
        ".git",
        "web.yml~",
        "web.yml.swo",
        "web.yml.bak",
        "web.yml.orig",
        "web.yml.rej",
        "web.yml.rpmsave",
        "web.yml.rpmnew",
        "web.yml.dpkg-old",
        "web.yml.dpkg-dist",
        "README.md",
        "deploy.retry",
        "x.tmp",
        "x.pyc",
        "#web.yml#",
        ".#web.yml",
        "__pycache__",
    ],
)
def test_what_editors_and_packagers_leave_is_ignored(name: str) -> None:
    assert is_ignored(name)


@pytest.mark.parametrize("name", ["web.yml", "web.yaml", "md", "web.example.net.yml", "bak.yml"])
def test_definitions_are_not_ignored(name: str) -> None:
    assert not is_ignored(name)


def test_the_stem_is_the_name_without_its_last_suffix() -> None:
    assert yaml_stem("web.example.net.yml") == "web.example.net"
    assert yaml_stem("web.yaml") == "web"
    assert yaml_stem(".yml") is None
    assert yaml_stem("web.json") is None


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_the_tools_own_objects_name_no_variable(name: str) -> None:
    assert variable_name_error(name)[0]


def test_a_dash_in_a_variable_is_told_to_be_an_underscore() -> None:
    assert variable_name_error("deploy-to")[1] == "write 'deploy_to'"
    assert variable_name_error("1x")[1] == "write '_1x'"
    assert variable_name_error("not")[0]
    assert variable_name_error("deploy_to") == ("", "")
