from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.inventory.programs import InventoryAccess, ProgramRunner
from tests.projects import OrchProject
from tests.sshd import wait_until
from tests.unit.inventory.inventory_project import load_files, only_problem, write_inventory


def test_an_executable_prints_the_hosts_as_json(tmp_path: Path) -> None:
    script = """#!/bin/sh
cat <<END
{"web1": {"address": "10.0.0.5", "roles": ["app"], "vars": {"s": "$ORCH_STAGE"}}, "u@web2:23": null}
END
"""
    got = load_files(tmp_path, {"dev/hosts": script})
    assert list(got.hosts) == ["web1", "web2"]
    assert got.hosts["web1"].layers[0].vars["s"].data == "dev"
    assert got.roles["app"].hosts == ("web1",)
    assert got.hosts["web2"].connect.user == "u"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\necho no cloud today >&2; exit 3", ["exited with 3", "no cloud today"]),
        ("#!/bin/sh\necho hello", ["not valid JSON", "hello"]),
        ("#!/bin/sh\nkill -9 $$", ["was killed"]),
        ("#!/no/such/interpreter\n", ["cannot run"]),
        ("#!/bin/sh\necho '[1]'", ["mapping"]),
        ("#!/bin/sh\necho '{\"a\": 1}'", ["host 'a'", "mapping"]),
        ("#!/bin/sh\nprintf '\\377'", ["UTF-8"]),
    ],
)
def test_a_program_that_fails_is_told_with_what_it_said(
    tmp_path: Path, script: str, words: list[str]
) -> None:
    found = only_problem(tmp_path, {"dev/hosts": script})
    assert str(found.mark).partition(":")[0].endswith("dev/hosts")
    for word in words:
        assert word in found.message


def test_a_bom_before_the_json_is_fine(tmp_path: Path) -> None:
    script = "#!/bin/sh\nprintf '\\357\\273\\277{\"a\": null}'"
    assert list(load_files(tmp_path, {"dev/hosts": script}).hosts) == ["a"]


def test_a_hosts_file_that_is_not_executable_says_what_to_do(tmp_path: Path) -> None:
    found = only_problem(tmp_path, {"dev/hosts": "web1\nweb2\n"})
    assert "not executable" in found.message
    assert "chmod +x" in found.hint


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"#!/bin/sh\nsleep 300 & echo $! $$ >{pids}; echo waiting >&2; wait\n"
    write_inventory(tmp_path, {"dev/hosts": script})
    with pytest.raises(DefinitionError, match=r"did not finish within 0\.5 seconds: waiting"):
        ProgramRunner(InventoryAccess(), tmp_path, "dev", timeout=0.5).run_hosts(
            tmp_path / "inventories/dev/hosts", "hosts"
        )
    deadline = time.monotonic() + 20
    while any(map(_alive, pids.read_text().split())):  # a kill is on its way for a moment
        assert time.monotonic() < deadline, "a child outlives the program"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_is_ended_with_its_children_by_a_signal(
    project: OrchProject, number: signal.Signals
) -> None:
    pids = project.root / "pids"
    hosts = f"#!/bin/sh\ntrap '' INT TERM\nsleep 300 & echo $! $$ >{pids}; wait\n"
    file = project.write({"inventories/dev/hosts": hosts}).root / "inventories/dev/hosts"
    file.chmod(0o755)
    with project.start_orch("-s", "dev", "hosts") as process:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the program")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    wait_until(lambda: not any(map(_alive, pids.read_text().split())), "the program's end")


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False


def test_the_program_reads_nothing_and_stands_in_the_project(tmp_path: Path) -> None:
    script = '#!/bin/sh\ncat\nprintf \'{"h": {"vars": {"pwd": "%s"}}}\' "$PWD"'
    got = load_files(tmp_path, {"dev/hosts": script})
    assert got.hosts["h"].layers[0].vars["pwd"].data == str(tmp_path)


def test_output_is_kept_as_long_as_the_stage_says(project: OrchProject) -> None:
    folder = project.root / "inventories/dev"
    script = "#!/bin/sh\necho run >> program.log\necho '{\"web1\": null}'\n"
    write_inventory(project.root, {"dev/hosts": script, "dev/stage.yml": "inventory_cache: 10m\n"})
    log = project.root / "program.log"
    first = project.orch("-s", "dev", "hosts")
    assert "web1" in first.out
    assert "as it was" not in first.err
    second = project.orch("-s", "dev", "hosts")
    assert second.out == first.out
    assert re.search(
        "inventories/dev/hosts: as it was [0-9]+s ago; --refresh runs it again", second.err
    )
    assert log.read_text() == "run\n"
    kept = list(project.root.glob(".orch/inventory-*.json"))
    assert [path.stat().st_mode & 0o777 for path in kept] == [0o600]
    refreshed = project.orch("--refresh", "-s", "dev", "hosts")
    assert "as it was" not in refreshed.err
    assert log.read_text() == "run\nrun\n"
    (folder / "hosts").write_text(script.replace("web1", "web2"))
    assert "web2" in project.orch("-s", "dev", "hosts").out


def test_a_stage_says_how_long_a_program_may_take(project: OrchProject) -> None:
    files = {
        "dev/hosts": "#!/bin/sh\nexec sleep 60\n",
        "dev/stage.yml": "inventory_timeout: 50ms\n",
    }
    write_inventory(project.root, files)
    done = project.orch("-s", "dev", "hosts")
    assert done.code == 3
    assert "inventories/dev/hosts did not finish within 0.05 seconds" in done.err
    assert "`inventory_timeout`" in done.err
