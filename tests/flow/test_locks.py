"""Locks: one app's runs exclude each other on every host, and whoever is refused is told who."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.projects import Project
from tests.sshd import Sshd, serve

HOSTS = ("a1", "a2", "a3")


@pytest.fixture
def apps(project: Project, tmp_path: Path) -> Iterator[Project]:
    with serve(tmp_path / "sshd") as sshd:
        yield with_apps(project, sshd)


def with_apps(project: Project, sshd: Sshd) -> Project:
    project.over(sshd, {name: f"127.0.7.{n}" for n, name in enumerate(HOSTS, 1)}, stage="dev")
    lock = project.root / "locks"
    return project.write(
        {
            "inventories/dev/apps/blog.yml": f"vars: {{lock_path: '{lock}/{{{{ host.name }}}}/blog'}}\n",
            "inventories/dev/apps/shop.yml": f"vars: {{lock_path: '{lock}/{{{{ host.name }}}}/shop'}}\n",
            "tasks/quick.yml": "steps: [{run: 'true'}]\n",
            "tasks/look.yml": "steps: [{run: 'true', readonly: true}]\n",
            "tasks/slow.yml": f"""
                steps:
                  - run: |
                      echo {{{{ host.name }}}} >>{project.root}/began
                      while [ ! -e {project.root}/go ]; do sleep .1; done
            """,
            "tasks/fails.yml": "steps: [{run: 'false'}]\nrollback: [{run: 'true'}]\n",
        }
    )


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def all_began(project: Project) -> bool:
    began = project.root / "began"
    return began.exists() and len(began.read_text().split()) == len(HOSTS)


def locks(project: Project) -> list[str]:
    return sorted(
        str(p.relative_to(project.root / "locks")) for p in (project.root / "locks").glob("*/*")
    )


def test_a_second_run_of_the_app_is_refused_and_told_who_and_why(apps: Project) -> None:
    with apps.started("-s", "dev", "run", "slow", "--app", "blog", "-m", "hot fix") as first:
        until(lambda: all_began(apps))
        assert locks(apps) == ["a1/blog", "a2/blog", "a3/blog"]
        second = apps.orch("-s", "dev", "run", "quick", "--app", "blog", "--json")
        assert second.code == 5
        row = second.rows["a1"]
        assert row["status"] == "not_started"
        assert "'blog' on a1 is locked by " in row["reason"]
        assert "hot fix" in row["reason"]
        assert "stale" not in row["reason"]
        assert second.steps("a1") == []
        shop = apps.orch("-s", "dev", "run", "quick", "--app", "shop", "--json")
        assert shop.code == 0
        assert apps.orch("-s", "dev", "run", "look", "--app", "blog").code == 0
        assert apps.orch("-s", "dev", "run", "quick", "--app", "blog", "--check").code == 0
        status = apps.orch("-s", "dev", "lock", "status", "--app", "blog", "--json")
        assert "held by" in status.steps("a1")[0]["stdout"]
        refused = apps.orch("-s", "dev", "lock", "release", "--app", "blog", "--json")
        assert refused.code == 1
        assert len(locks(apps)) == 3
        (apps.root / "go").touch()
        first.wait(60)
        assert first.returncode == 0
    assert locks(apps) == []


def test_who_waits_gets_it_when_it_is_free(apps: Project) -> None:
    with apps.started("-s", "dev", "run", "slow", "--app", "blog") as first:
        until(lambda: all_began(apps))
        with apps.started(
            "-s", "dev", "run", "quick", "--app", "blog", "--lock-wait", "60", "--json"
        ) as second:
            (apps.root / "go").touch()
            assert first.wait(60) == 0
            assert second.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_locks_are_freed_when_a_run_is_interrupted(apps: Project, number: int) -> None:
    with apps.started("-s", "dev", "run", "slow", "--app", "blog") as first:
        until(lambda: all_began(apps))
        first.send_signal(number)
        assert first.wait(60) == 130
    assert locks(apps) == []


def test_locks_are_freed_when_a_run_fails(apps: Project) -> None:
    assert apps.orch("-s", "dev", "run", "fails", "--app", "blog").code == 1
    assert locks(apps) == []


def test_a_lock_whose_owner_died_is_stale_refused_and_can_be_released(apps: Project) -> None:
    with apps.started("-s", "dev", "run", "slow", "--app", "blog") as first:
        until(lambda: all_began(apps))
        first.kill()
        first.wait(60)

    def stale() -> bool:
        done = apps.orch("-s", "dev", "lock", "status", "--app", "blog", "--json")
        return all("stale by" in done.steps(h)[0]["stdout"] for h in HOSTS)

    until(stale)
    done = apps.orch("-s", "dev", "run", "quick", "--app", "blog", "--json")
    assert done.code == 5
    assert "stale" in done.rows["a1"]["reason"]
    assert apps.orch("-s", "dev", "lock", "release", "--app", "blog").code == 0
    assert apps.orch("-s", "dev", "run", "quick", "--app", "blog").code == 0
    assert locks(apps) == []


def test_of_two_at_the_same_moment_one_goes_ahead(apps: Project) -> None:
    for _ in range(3):
        Path(apps.root / "began").unlink(missing_ok=True)
        Path(apps.root / "go").unlink(missing_ok=True)
        with (
            apps.started("-s", "dev", "run", "slow", "--app", "blog") as one,
            apps.started("-s", "dev", "run", "slow", "--app", "blog", "-l", "a2:a3") as other,
        ):
            until(lambda: one.poll() is not None or other.poll() is not None)
            (apps.root / "go").touch()
            assert sorted((one.wait(60), other.wait(60))) == [0, 5]
    assert locks(apps) == []


def test_a_run_without_app_takes_no_lock(apps: Project) -> None:
    assert apps.orch("-s", "dev", "run", "quick").code == 0
    assert locks(apps) == []
