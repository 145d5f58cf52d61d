"""``nginx_site``: sites of a real nginx, whose new configuration is tested before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message
from tests.support.module_files import check_refuses
from tests.support.watched_commands import watch_commands

SITE = "server { listen 127.0.0.1:8099; server_name %s; access_log off; }\n"
CONF = """\
error_log {log};
pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
  include mime.types;
  include {folder}/sites-enabled/*;
}}
"""


@pytest.fixture
def nginx(machine: ShellMachine) -> Path:
    """Create the folder of a configuration, as Debian's packages do."""
    folder = machine.root / "nginx"
    for name in ("sites-available", "sites-enabled"):
        (folder / name).mkdir(parents=True)
    log = machine.root.parent / "error.log"
    (folder / "nginx.conf").write_text(CONF.format(folder=folder, log=log))
    (folder / "mime.types").write_text("types { text/html html; }\n")
    return folder


def site(nginx: Path, **params: Any) -> dict[str, dict[str, Any]]:
    return {"nginx_site": {"name": "shop", "root": str(nginx), **params}}


def test_a_site_is_made_changed_disabled_and_removed(machine: ShellMachine, nginx: Path) -> None:
    file, link = nginx / "sites-available" / "shop", nginx / "sites-enabled" / "shop"
    outcome = machine.check_then_run(site(nginx, content=SITE % "a"), "changed")
    assert {each.key for each in outcome.changes} == {"contents", "enabled"}
    assert (file.read_text(), link.readlink()) == (SITE % "a", file)
    template = {"src": "shop.j2"}
    files = {"shop.j2": SITE % "{{ host.name }}"}
    outcome = machine.check_then_run(site(nginx, **template), "changed", files=files)
    assert f"+{SITE % 'one'}" in outcome.diff
    machine.check_then_run(site(nginx), "ok")
    machine.check_then_run(site(nginx, enabled=False), "changed")
    assert (file.read_text(), link.is_symlink()) == (SITE % "one", False)
    link.symlink_to("../sites-available/shop")
    machine.check_then_run(site(nginx), "ok")
    link.unlink()
    link.symlink_to("nowhere")
    machine.check_then_run(site(nginx), "changed")
    machine.check_then_run(site(nginx, state="absent"), "changed")
    assert [*nginx.glob("sites-*/*")] == []
    assert sorted(each.name for each in nginx.iterdir()) == [
        "mime.types", "nginx.conf", "sites-available", "sites-enabled",
    ]  # fmt: skip


def test_what_nginx_refuses_is_not_written(machine: ShellMachine, nginx: Path) -> None:
    outcome = check_refuses(machine, site(nginx, content="server { lissten 80; }\n"), "lissten")
    assert f"{nginx}/sites-enabled/shop:1" in outcome.stderr.text
    assert "would refuse" in outcome.stderr.text
    machine.check_then_run(site(nginx, content="server { nonsense }\n", enabled=False), "changed")
    check_refuses(machine, site(nginx), "unexpected")
    # a long one is on the host only when it is tested
    long = "server { " + "# a comment\n" * 4000 + "lissten 80; }\n"
    check_refuses(machine, site(nginx, content=long), "lissten")
    machine.run_step(site(nginx, content=SITE % "a"))
    (nginx / "sites-available" / "other").write_text("include /nonexistent;\n")
    (nginx / "sites-enabled" / "other").symlink_to(nginx / "sites-available" / "other")
    check_refuses(machine, site(nginx, content=SITE % "b"), "/nonexistent")


def test_what_is_in_the_way_is_refused(machine: ShellMachine, nginx: Path) -> None:
    check_refuses(machine, site(nginx), "give `src` or `content`")
    (nginx / "sites-enabled" / "shop").write_text("x")
    check_refuses(machine, site(nginx, content=SITE % "a"), "is not a link")
    (nginx / "sites-available").rmdir()
    check_refuses(machine, site(nginx, content="x"), "sites-available")


@pytest.mark.parametrize("name", [each for each in ODD_NAME_CASES if each != "a\nb"])
def test_sites_have_any_name(machine: ShellMachine, nginx: Path, name: str) -> None:
    step = site(nginx, name=name, content=SITE % "a")
    outcome = machine.run_step(step)
    assert outcome.status == "changed", result_message(outcome)
    assert machine.run_step(step).status == "ok"
    assert (nginx / "sites-enabled" / name).readlink() == nginx / "sites-available" / name
    assert machine.run_step(site(nginx, name=name, state="absent")).status == "changed"


def test_nobody_sees_the_configuration(machine: ShellMachine, nginx: Path, tmp_path: Path) -> None:
    with watch_commands(machine, tmp_path / "watched", ["c5nx"]) as watched:
        assert machine.run_step(site(nginx, content=SITE % "c5nxname")).status == "changed"
        assert any(word.endswith("/nginx") for word in watched.all_words)
        assert not watched.exposures("c5nx")
