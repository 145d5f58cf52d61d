"""App locks: runs of one app exclude each other on every host, and the refusal names the owner."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import orchestrator
from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer, serve_sshd

HOSTS = ("a1", "a2", "a3")


@pytest.fixture
def apps(project: OrchProject, tmp_path: Path) -> Iterator[OrchProject]:
    with serve_sshd(tmp_path / "sshd") as sshd:
        yield with_apps(project, sshd)


def with_apps(project: OrchProject, sshd: SshdServer) -> OrchProject:
    project.add_sshd_stage(
        sshd, {name: f"127.0.7.{n}" for n, name in enumerate(HOSTS, 1)}, stage="dev"
    )
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


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_all_began(project: OrchProject) -> bool:
    began = project.root / "began"
    return began.exists() and len(began.read_text().split()) == len(HOSTS)


def held_locks(project: OrchProject) -> list[str]:
    return sorted(
        str(p.relative_to(project.root / "locks")) for p in (project.root / "locks").glob("*/*")
    )


def test_a_second_run_of_the_app_is_refused_and_told_who_and_why(apps: OrchProject) -> None:
    with apps.start_orch("-s", "dev", "run", "slow", "--app", "blog", "-m", "hot fix") as first:
        wait_until(lambda: wait_all_began(apps))
        assert held_locks(apps) == ["a1/blog", "a2/blog", "a3/blog"]
        second = apps.orch("-s", "dev", "run", "quick", "--app", "blog", "--json")
        assert second.code == 5
        row = second.host_rows["a1"]
        assert row["status"] == "not_started"
        assert "'blog' on a1 is locked by " in row["reason"]
        assert "hot fix" in row["reason"]
        assert "stale" not in row["reason"]
        assert second.host_steps("a1") == []
        shop = apps.orch("-s", "dev", "run", "quick", "--app", "shop", "--json")
        assert shop.code == 0
        assert apps.orch("-s", "dev", "run", "look", "--app", "blog").code == 0
        assert apps.orch("-s", "dev", "run", "quick", "--app", "blog", "--check").code == 0
        status = apps.orch("-s", "dev", "lock", "status", "--app", "blog", "--json")
        assert "held by" in status.host_steps("a1")[0]["stdout"]
        refused = apps.orch("-s", "dev", "lock", "release", "--app", "blog", "--json")
        assert refused.code == 1
        assert len(held_locks(apps)) == 3
        (apps.root / "go").touch()
        first.wait(60)
        assert first.returncode == 0
    assert held_locks(apps) == []


def test_who_waits_gets_it_when_it_is_free(apps: OrchProject) -> None:
    with apps.start_orch("-s", "dev", "run", "slow", "--app", "blog") as first:
        wait_until(lambda: wait_all_began(apps))
        with apps.start_orch(
            "-s", "dev", "run", "quick", "--app", "blog", "--lock-wait", "60", "--json"
        ) as second:
            (apps.root / "go").touch()
            assert first.wait(60) == 0
            assert second.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_locks_are_freed_when_a_run_is_interrupted(apps: OrchProject, number: int) -> None:
    with apps.start_orch("-s", "dev", "run", "slow", "--app", "blog") as first:
        wait_until(lambda: wait_all_began(apps))
        first.send_signal(number)
        assert first.wait(60) == 130
    assert held_locks(apps) == []


def test_locks_are_freed_when_a_run_fails(apps: OrchProject) -> None:
    assert apps.orch("-s", "dev", "run", "fails", "--app", "blog").code == 1
    assert held_locks(apps) == []


@pytest.mark.own_process  # workers that outlive it free the lock
def test_a_lock_whose_owner_died_is_stale_refused_and_can_be_released(apps: OrchProject) -> None:
    with apps.start_orch("-s", "dev", "run", "slow", "--app", "blog") as first:
        wait_until(lambda: wait_all_began(apps))
        first.kill()
        first.wait(60)

    def stale() -> bool:
        done = apps.orch("-s", "dev", "lock", "status", "--app", "blog", "--json")
        return all("stale by" in done.host_steps(h)[0]["stdout"] for h in HOSTS)

    wait_until(stale)
    done = apps.orch("-s", "dev", "run", "quick", "--app", "blog", "--json")
    assert done.code == 5
    assert "stale" in done.host_rows["a1"]["reason"]
    assert apps.orch("-s", "dev", "lock", "release", "--app", "blog").code == 0
    assert apps.orch("-s", "dev", "run", "quick", "--app", "blog").code == 0
    assert held_locks(apps) == []


def test_a_run_that_is_resumed_has_its_lock_again(apps: OrchProject) -> None:
    with apps.start_orch("-s", "dev", "run", "slow", "--app", "blog") as first:
        wait_until(lambda: wait_all_began(apps))
        first.kill()
        first.wait(60)
    (apps.root / "began").unlink()
    with apps.start_orch("resume", "--lost", "rerun", "--yes") as again:
        wait_until(lambda: wait_all_began(apps))
        status = apps.orch("-s", "dev", "lock", "status", "--app", "blog", "--json")
        told = [status.host_steps(host)[0]["stdout"] for host in HOSTS]
        assert all("held by" in text for text in told), told
        (apps.root / "go").touch()
        assert again.wait(60) == 0
    assert held_locks(apps) == []


@pytest.mark.own_process  # workers that outlive it free the lock
def test_a_run_that_was_killed_when_all_was_done_releases_its_lock_when_it_is_resumed(
    apps: OrchProject,
) -> None:
    program = ("tests.support.stopped_at_event", "kill", "TaskFinished:quick:1")
    words = ("-C", str(apps.root), "-s", "dev", "run", "quick", "--app", "blog")
    killed = subprocess.run(
        [sys.executable, "-m", *program, *words],
        env=apps.environ({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(held_locks(apps)) == len(HOSTS)
    done = apps.orch("resume")
    assert done.code == 0, done.err
    assert held_locks(apps) == []
    assert "is complete: nothing is left to do" in apps.orch("resume").err


def test_of_two_at_the_same_moment_one_goes_ahead(apps: OrchProject) -> None:
    for _ in range(3):
        Path(apps.root / "began").unlink(missing_ok=True)
        Path(apps.root / "go").unlink(missing_ok=True)
        with (
            apps.start_orch("-s", "dev", "run", "slow", "--app", "blog") as one,
            apps.start_orch("-s", "dev", "run", "slow", "--app", "blog", "-l", "a2:a3") as other,
        ):
            wait_until(lambda: one.poll() is not None or other.poll() is not None)
            (apps.root / "go").touch()
            assert sorted((one.wait(60), other.wait(60))) == [0, 5]
    assert held_locks(apps) == []


def test_a_run_without_app_takes_no_lock(apps: OrchProject) -> None:
    assert apps.orch("-s", "dev", "run", "quick").code == 0
    assert held_locks(apps) == []


@pytest.fixture
def shared(project: OrchProject, tmp_path: Path) -> Iterator[OrchProject]:
    """Create two hosts with a shared home folder and disk, and an app that is deployed to them."""
    with serve_sshd(tmp_path / "sshd") as sshd:
        project.add_sshd_stage(sshd, {"a1": "127.0.7.1", "a2": "127.0.7.2"}, stage="dev")
        yield sharing(project, f"deploy_to: '{project.root}/srv/{{{{ app.name }}}}'")


def sharing(project: OrchProject, *variables: str) -> OrchProject:
    return project.write(
        {
            "inventories/dev/apps/blog.yml": f"vars: {{{', '.join(variables)}}}\n",
            "tasks/quick.yml": "steps: [{run: 'true'}]\n",
            "tasks/fails.yml": "steps: [{run: 'false'}]\n",
            "tasks/see.yml": f"""
                steps:
                  - run: ls -A {project.root}/srv/blog; cat {project.root}/srv/blog/.orch-lock
            """,
        }
    )


BLOG = ("--app", "blog", "--json")


def test_it_is_beside_the_releases_and_two_hosts_of_one_run_share_it(shared: OrchProject) -> None:
    done = shared.orch("-s", "dev", "run", "see", *BLOG)
    assert done.code == 0, done.err
    for host in ("a1", "a2"):
        first, *lines = done.host_steps(host)[0]["stdout"].splitlines()
        assert first == ".orch-lock"
        assert f"run={done.events[0]['run']}" in lines
    # nothing was deployed, so the next run is not refused
    assert not (shared.root / "srv").exists()


@pytest.mark.parametrize("task", ["fails", "quick"])
def test_what_was_deployed_stays_where_the_lock_goes(shared: OrchProject, task: str) -> None:
    (shared.root / "srv/blog/releases").mkdir(parents=True)
    shared.orch("-s", "dev", "run", task, *BLOG)
    assert [p.name for p in (shared.root / "srv/blog").iterdir()] == ["releases"]


def test_others_meet_it_from_another_project_that_deploys_to_the_same_folder(
    shared: OrchProject, tmp_path: Path
) -> None:
    other = OrchProject(tmp_path / "other")
    shutil.copytree(shared.root, other.root)
    shared.write({"tasks/slow.yml": SLOW.format(root=shared.root)})
    with shared.start_orch("-s", "dev", "run", "slow", "--app", "blog", "-m", "big one") as first:
        wait_until((shared.root / "began").exists)
        done = other.orch("-s", "dev", "run", "quick", *BLOG)
        assert done.code == 5
        assert "'blog' on a1 is locked by " in done.host_rows["a1"]["reason"]
        assert "big one" in done.host_rows["a1"]["reason"]
        status = other.orch("-s", "dev", "lock", "status", *BLOG)
        assert all("held by " in status.host_steps(host)[0]["stdout"] for host in ("a1", "a2"))
        (shared.root / "go").touch()
        assert first.wait(60) == 0


SLOW = """
    steps:
      - run: |
          >{root}/began
          while [ ! -e {root}/go ]; do sleep .1; done
"""


def test_who_waits_is_told_for_whom(shared: OrchProject) -> None:
    shared.write({"tasks/slow.yml": SLOW.format(root=shared.root)})
    with shared.start_orch("-s", "dev", "run", "slow", "--app", "blog", "-m", "big one") as first:
        wait_until((shared.root / "began").exists)
        waits = ("--lock-wait", "60")
        with shared.start_orch("-s", "dev", "run", "quick", *BLOG, *waits) as second:
            assert second.stdout is not None
            output = next(line for line in second.stdout if '"warned"' in line)
            text = json.loads(output)["text"]
            assert text.startswith("waiting for at most 60 s: 'blog' on a1 is locked by ")
            assert text.endswith(": 'big one'")
            (shared.root / "go").touch()
            assert first.wait(60) == 0
            rest = second.communicate(timeout=60)[0]
            assert '"warned"' not in rest  # once for each lock that is waited for
            assert second.returncode == 0


def test_apps_of_one_name_in_two_projects_do_not_know_each_other(
    shared: OrchProject, tmp_path: Path
) -> None:
    """Neither app has a deploy_to, and both use the same account."""
    shared.write({"inventories/dev/apps/blog.yml": ""})
    other = OrchProject(tmp_path / "other project")
    shutil.copytree(shared.root, other.root)
    slow = SLOW.format(root=shared.root).replace(">", "(cd ~/.orch/locks && ls */*) >", 1)
    shared.write({"tasks/slow.yml": slow})
    with shared.start_orch("-s", "dev", "run", "slow", "--app", "blog", "-l", "a1") as first:
        wait_until(lambda: all_outputs(shared) == ["project/blog"])
        assert shared.orch("-s", "dev", "run", "quick", *BLOG).code == 5
        done = other.orch("-s", "dev", "run", "quick", *BLOG)
        assert done.code == 0, done.host_rows
        (shared.root / "go").touch()
        assert first.wait(60) == 0


def all_outputs(project: OrchProject) -> list[str]:
    began = project.root / "began"
    return began.read_text().splitlines() if began.exists() else []


ORCH = f"{shlex.quote(sys.executable)} -m orchestrator"
NESTED = """
    after: [quick]
    apps: [blog]
    steps:
      - run: {orch} -s dev run {task} --app blog --json
        local: true
        environment: {{PYTHONPATH: {path}}}
        register: inner
"""


@pytest.mark.parametrize(("task", "code"), [("inner", 0), ("within", 0), ("fails", 1)])
def test_a_hook_that_calls_orch_on_its_own_app_is_let_in(
    shared: OrchProject, task: str, code: int
) -> None:
    """The same applies to a hook of the inner run; and neither run releases the outer lock."""
    path = Path(orchestrator.__file__).parents[1]
    hook = NESTED.format(orch=ORCH, task=task, path=path)
    shared.write(
        {
            "tasks/hook.yml": hook,
            "tasks/inner.yml": f"steps: [{{run: 'echo $ORCH_RUN; cat {shared.root}/srv/blog/.orch-lock'}}]",
            "tasks/within.yml": hook.replace("after: [quick]", "").replace(
                "run within", "run inner"
            ),
            "tasks/last.yml": f"steps: [{{run: 'cat {shared.root}/srv/blog/.orch-lock'}}]\n",
            "tasks/all.yml": "tasks: [quick, last]\n",
        }
    )
    done = shared.orch("-s", "dev", "run", "all", "-l", "a1", *BLOG)
    assert done.code == code, done.host_steps("a1")
    if code:
        return
    run = done.events[0]["run"]
    hooked, last = done.host_steps("a1")[1:]
    inner = [json.loads(line) for line in hooked["stdout"].splitlines()]
    if task == "within":
        inner = [
            json.loads(line)
            for each in inner
            if each["event"] == "step_finished"
            for line in each["stdout"].splitlines()
        ]
    for each in (each for each in inner if each["event"] == "step_finished"):
        chain, *lines = each["stdout"].splitlines()
        assert chain.split("/")[0] == run
        assert len(chain.split("/")) == (3 if task == "within" else 2)
        assert f"run={run}" in lines
    assert inner[0]["within"][0] == run
    assert f"run={run}" in last["stdout"].splitlines()
    assert not (shared.root / "srv").exists()


def test_without_the_variable_it_is_refused_and_so_is_one_of_another_run(
    shared: OrchProject,
) -> None:
    path = Path(orchestrator.__file__).parents[1]
    hook = NESTED.format(orch=ORCH, task="inner", path=path).replace("inner --app", "see --app")
    for output in ("", "x; y/20260101000000-aaaa"):
        shared.write(
            {
                "tasks/hook.yml": f"{hook}        failed_when: false\n".replace(
                    "PYTHONPATH", f"ORCH_RUN: '{output}', PYTHONPATH"
                )
            }
        )
        done = shared.orch("-s", "dev", "run", "quick", "-l", "a1", *BLOG)
        assert done.host_steps("a1")[1]["exit_status"] == 5, output


def test_a_lock_that_may_not_be_there_is_told_with_what_to_do(shared: OrchProject) -> None:
    srv = shared.root / "srv"
    srv.write_text("a file\n")
    done = shared.orch("-s", "dev", "run", "quick", *BLOG)
    row = done.host_rows["a1"]
    assert (done.code, row["status"]) == (1, "failed")
    assert row["reason"].startswith("'blog' on a1 cannot be locked: ")
    assert f"cannot make the folder {srv}/blog" in row["reason"]
    assert row["reason"].endswith("deploy as the folder's owner (`become`), or set `lock_path`")
    assert done.host_steps("a1") == []


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """Create a folder of another user that everyone can enter."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o755)
    (above / "blog").mkdir()
    os.chown(above / "blog", pwd.getpwnam("nobody").pw_uid, -1)
    yield above / "blog"
    shutil.rmtree(above)


def test_it_is_made_by_who_deploys(shared: OrchProject, foreign_folder: Path) -> None:
    """If another user runs all steps of a task, that user creates the lock."""
    look = f"stat -c %U {foreign_folder}/.orch-lock"
    sharing(shared, f"deploy_to: {foreign_folder}").write(
        {
            "tasks/theirs.yml": f"become: nobody\nsteps: [{{run: '{look}'}}]\n",
            "tasks/mixed.yml": f"steps: [{{run: '{look}', become: nobody}}, {{run: id}}]\n",
        }
    )
    for task, owner in (("theirs", "nobody"), ("mixed", "root")):
        done = shared.orch("-s", "dev", "run", task, *BLOG)
        assert [done.host_steps(host)[0]["stdout"].strip() for host in ("a1", "a2")] == [owner] * 2
    assert list(foreign_folder.iterdir()) == []
    status = shared.orch("-s", "dev", "lock", "status", "--become", "nobody", *BLOG)
    assert status.host_steps("a1")[0]["stdout"].strip() == "free"


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("deploy_to: '/srv/{{ nowhere }}'", "'nowhere' is undefined"),
        ("deploy_to: '/srv/{{ facts.distro }}'", "set lock_path to a path that is known"),
    ],
)
def test_a_path_that_is_not_known_is_an_error_only_where_the_lock_is_needed(
    shared: OrchProject, variable: str, message: str
) -> None:
    sharing(shared, variable).write({"tasks/look.yml": "steps: [{run: id, readonly: true}]\n"})
    assert shared.orch("-s", "dev", "run", "look", "--app", "blog").code == 0
    for words in (("run", "quick"), ("lock", "status")):
        done = shared.orch("-s", "dev", *words, "--app", "blog")
        assert (done.code, message in done.err) == (3, True), done.err


def test_a_blank_path_is_none(shared: OrchProject) -> None:
    sharing(shared, "deploy_to: ", "lock_path: ''")
    assert shared.orch("-s", "dev", "run", "quick", "--app", "blog").code == 0


@pytest.mark.own_process
def test_where_the_logins_user_may_not_who_else_has_steps_there_makes_it(
    project: OrchProject, foreign_folder: Path
) -> None:
    """The other user is root without the right to write to other users' files."""
    project.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: local}\n",
            "inventories/dev/hosts/a1.yml": "",
        }
    )
    look = f"stat -c %U {foreign_folder}/.orch-lock"
    sharing(project, f"deploy_to: {foreign_folder}").write(
        {"tasks/mixed.yml": f"steps: [{{run: '{look}'}}, {{run: id, become: nobody}}]\n"}
    )
    capped = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]

    def run(task: str) -> OrchResult:
        words = project.command("-s", "dev", "run", task, *BLOG)
        environ = project.environ({})
        done = subprocess.run(
            [*capped, *words],
            cwd=project.root,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return OrchResult(done.returncode, done.stdout, done.stderr)

    done = run("mixed")
    assert done.code == 0, done.out
    assert done.host_steps("a1")[0]["stdout"].strip() == "nobody"
    assert list(foreign_folder.iterdir()) == []
    done = run("quick")
    assert done.code == 1
    assert f"root may not write to {foreign_folder} (drwxr-xr-x" in done.host_rows["a1"]["reason"]
