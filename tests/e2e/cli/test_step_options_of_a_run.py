"""Options of the command line for the steps: user, become, timeout, folder, environment."""

from __future__ import annotations

import getpass
from textwrap import dedent

import pytest

from tests.projects import OrchProject


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    assert getpass.getuser() == "root", "these tests become other users, which root may"
    return project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/apps/blog.yml": "environment: {APP: blog}\n",
            "tasks/t.yml": dedent("""\
                environment: {B: task}
                steps:
                - run: echo "$A|$B|$(pwd)|$(id -un)"
                - {run: 'echo "$A|$B|$(pwd)|$(id -un)"', become: daemon, chdir: /usr, environment: {A: step}}
                """),
        }
    )


def outputs(project: OrchProject, *words: str) -> list[str]:
    done = project.orch("-s", "dev", "--json", *words)
    assert done.code == 0, done.err
    return [step["stdout"] for step in done.host_steps("a1")]


def test_exec_takes_user_folder_and_environment_as_they_are(one: OrchProject) -> None:
    options = ("--become-user", "nobody", "--chdir", "/tmp", "--env", "A=$(id) {{ x }} 'q")
    (shown,) = outputs(one, "exec", *options, "--", 'id -un; pwd; echo "$A"')
    assert shown.split("\n") == ["nobody", "/tmp", "$(id) {{ x }} 'q"]


def test_become_is_root(one: OrchProject) -> None:
    for option in ("-b", "--become"):
        done = one.orch("-s", "dev", "plan", "t", option, "--json")
        assert '"become":"root"' in done.out.replace(" ", "")


def test_what_a_task_or_step_says_comes_first(one: OrchProject) -> None:
    options = ("--env", "A=cli", "--env", "B=cli", "--chdir", "/tmp", "--become-user", "nobody")
    assert outputs(one, "run", "t", *options) == [
        "cli|task|/tmp|nobody",
        "step|task|/usr|daemon",
    ]


def test_a_step_that_takes_longer_is_timed_out(one: OrchProject) -> None:
    done = one.orch("-s", "dev", "exec", "--timeout", "50ms", "--json", "--", "sleep 60")
    assert done.host_rows["a1"]["status"] == "timed_out"


def test_exec_for_an_app_has_its_environment(one: OrchProject) -> None:
    assert outputs(one, "exec", "--app", "blog", "--", 'echo "$APP"') == ["blog"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--timeout", "soon"), "timeout must be a duration"),
        (("--timeout", "0"), "timeout must be more than 0"),
        (("--env", "A"), "write --env NAME=VALUE"),
        (("--env", "1A=x"), "cannot name an environment variable"),
        (("--become-user", " "), "--become-user is empty"),
        (("--chdir", ""), "--chdir is empty"),
        (("--user", "a b"), "'a b' is not a user name"),
    ],
)
def test_wrong_values_are_refused_before_any_host_is_contacted(
    one: OrchProject, words: tuple[str, ...], message: str
) -> None:
    done = one.orch("-s", "dev", "exec", *words, "--", "id")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_the_command_that_runs_a_kept_handler_has_the_options(one: OrchProject) -> None:
    one.write(
        {
            "tasks/h.yml": dedent("""\
                steps:
                - {run: id, notify: again}
                - run: exit 1
                handlers:
                  again: [{run: id}]
                """)
        }
    )
    done = one.orch("-s", "dev", "run", "h", "--env", "A=b c", "--become-user", "nobody")
    assert done.code == 1
    assert "--become-user nobody --env 'A=b c'" in done.err + done.out


def test_another_login_user_is_used_for_the_selected_hosts(one: OrchProject) -> None:
    one.write(
        {
            "inventories/far/stage.yml": "connect: {user: deploy, timeout: 1s, retries: 0}\n",
            "inventories/far/hosts/h1.yml": "address: 127.0.0.1\nconnect: {port: 1}\n",
        }
    )
    for words, user in (((), "deploy"), (("-u", "admin"), "admin")):
        done = one.orch("-s", "far", "exec", *words, "--", "id")
        assert done.code == 4
        assert f"{user}@127.0.0.1" in done.err + done.out
