"""Completion of the names in a project, as the shells ask for it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.support.tmux_terminal import TmuxTerminal, wait_until

TASKS = {"deploy", "deploy:check", "deploy:publish", "motd"}


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    return project.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\n",
            "inventories/dev/hosts/a1.yml": "roles: [edge]\n",
            "inventories/dev/roles/web.yml": "hosts: [a1, 'b[1-2]', deploy@c1:2222]\n",
            "inventories/dev/apps/blog.yml": "roles: [web]\n",
            "inventories/common/apps/shop.yml": "roles: [web]\n",
            "inventories/common/apps/other.yml": "roles: [none]\n",
            "inventories/real/hosts.yml": "r1: {roles: [api]}\nr2:\n",
            "inventories/real/roles.yml": "db: [r2]\n",
            "tasks/deploy.yml": """\
                params:
                  keep: {type: int, help: "How many, at most"}
                tasks:
                  - deploy:check: {strict: true}
                  - name: release
                    tasks: [deploy:publish]
                """,
            "tasks/deploy/check.yml": """\
                params: {strict: {type: bool}, level: {choices: [low, high]}}
                steps: [{run: id, tags: [audit], name: Pull}]
                """,
            "tasks/deploy/publish.yml": """\
                params: {mode: {choices: [fast, safe]}, dry: {type: bool}}
                tags: publish
                steps:
                  - run: id
                    notify: restart
                  - block: [{run: id, tags: slow, name: Restart now}]
                    rescue: [{run: id, name: Warn}, motd]
                handlers: {restart: [{run: id}], reload: [{run: id}]}
                """,
            "tasks/motd.yml": "steps: [{run: id, tags: [text], name: Show}]\nhandlers: {greet: [{run: id}]}\n",
        }
    )


def completions(project: OrchProject, line: str, cwd: Path | None = None) -> set[str]:
    """Return what bash is given for the last word of the line."""
    count = len(line.split(" ")) - 1
    done = project.orch(
        _ORCH_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(count), cwd=cwd
    )
    assert done.err == ""
    return {text.partition(",")[2] for text in done.out.splitlines() if text}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("orch -s dev run deploy:publish ", {"mode=", "dry=", *TASKS}),
        ("orch -s real ssh ", {"r1", "r2"}),
        ("orch -s dev ssh b", {"b1", "b2"}),
        ("orch -s dev run deploy m", {"mode=", "motd"}),
        ("orch -s dev run deploy l", {"level="}),
        ("orch -s dev run deploy ser", {"service"}),
        ("orch -s dev run deploy:publish mode=", {"mode=fast", "mode=safe"}),
        ("orch -s dev run deploy:publish mode=f", {"mode=fast"}),
        ("orch -s dev run deploy:publish mode=fast dr", {"dry="}),
        ("orch -s dev plan deploy:publish dry=", {"dry=true", "dry=false"}),
        ("orch -s dev run deploy keep=", set[str]()),
        ("orch -s dev run deploy:publish motd mode", set[str]()),
        ("orch -s dev run pack", {"package"}),
        ("orch -s dev run package sta", {"state="}),
        ("orch -s dev run deploy -e m", {"mode="}),
        ("orch -s dev run deploy -e mode=", {"mode=fast", "mode=safe"}),
        ("orch -s dev run --extra x=1 deploy --extra dry=t", {"dry=true"}),
        ("orch -s dev run deploy:check --tags ", {"audit"}),
        ("orch -s dev run deploy -t ", {"audit", "publish", "slow", "text"}),
        ("orch -s dev run --tags ", {"audit", "publish", "slow", "text"}),
        ("orch -s dev run deploy --skip-tags audit,p", {"audit,publish"}),
        ("orch -s dev run deploy --handler re", {"restart", "reload"}),
        ("orch -s dev run motd --handler ", {"greet"}),
        ("orch -s dev run deploy --start-at ", {"deploy", "deploy:check", "deploy:publish", "release"}),
        ("orch -s dev run --start-at mo", {"motd"}),
        ("orch -s dev run deploy --start-step ", {"Pull", "Restart now", "Warn", "Show"}),
        ("orch -s dev run deploy motd --start-at motd --start-step ", {"Show"}),
        ("orch -s dev run deploy --app ", {"blog", "shop"}),
        ("orch -s dev run deploy -a blog,s", {"blog,shop"}),
        ("orch -s dev run deploy -l ", {"web", "edge", "a1", "b1", "b2", "c1"}),
        ("orch -s real hosts -l ", {"db", "api", "r1", "r2"}),
        ("orch -s dev doctor --limit web:!b", {"web:!b1", "web:!b2"}),
        ("orch -s real vars ", {"r1", "r2"}),
        ("orch lint -s ", {"dev", "real"}),
        ("orch new ", {"task", "module", "playbook", "host", "role", "app"}),
        ("orch -s dev new host h --role ", {"web", "edge"}),
        ("orch new app x -s r", {"real"}),
        ("orch init --add ", {"deploy"}),
        ("orch lock ", {"status", "release"}),
        ("orch -s dev facts --fact me", {"memory"}),
        ("orch -s dev facts ", {"a1", "b1", "b2", "c1"}),
        ("orch schema fa", {"fact"}),
        ("orch doc fac", {"facts", "facts-failed"}),
    ],
)  # fmt: skip
def test_names_of_the_project_are_completed(shop: OrchProject, line: str, found: set[str]) -> None:
    assert completions(shop, line) == found


@pytest.mark.parametrize(
    "line",
    [
        "orch -s dev run broken -e ",
        "orch -s dev run broken --tags ",
        "orch -s dev run broken a=",
        "orch -s dev run broken --handler ",
        "orch -s nope vars ",
        "orch vars ",
        "orch -C /nowhere run x -e ",
    ],
)
def test_what_cannot_be_read_completes_nothing_and_prints_nothing(
    shop: OrchProject, line: str
) -> None:
    shop.write({"tasks/broken.yml": "params: {a: [\n"})
    assert completions(shop, line) == set()


def test_a_file_with_an_error_does_not_take_the_names_of_the_others(shop: OrchProject) -> None:
    shop.write({"tasks/broken.yml": "steps: [", "inventories/dev/hosts/d1.yml": "vars: ["})
    assert completions(shop, "orch -s dev vars ") == {"a1", "b1", "b2", "c1", "d1"}
    assert completions(shop, "orch -s dev run -t a") == {"audit"}


def test_outside_a_project_there_are_only_modules(shop: OrchProject) -> None:
    outside = shop.root.parent
    assert completions(shop, "orch -s dev run x", cwd=outside) == set()
    assert completions(shop, "orch run x -l ", cwd=outside) == set()
    assert "copy" in completions(shop, "orch doc c", cwd=outside)


def test_tasks_that_call_each_other_in_a_cycle_are_completed(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/x.yml": "params: {p: {}}\ntasks: [y, x]\n",
            "tasks/y.yml": "params: {q: {}}\ntags: [t]\ntasks: [x]\n",
        }
    )
    assert completions(shop, "orch -s dev run x ") >= {"p=", "q="}
    assert completions(shop, "orch -s dev run x -t ") == {"t"}
    assert completions(shop, "orch -s dev run x --start-at ") == {"x", "y"}


@pytest.fixture
def path_with_orch(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "orch"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m orchestrator "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture(params=["bash", "zsh"])
def terminal(
    request: pytest.FixtureRequest, shop: OrchProject, path_with_orch: Path, tmp_path: Path
) -> Iterator[TmuxTerminal]:
    """Start a shell in the project that has loaded the completion script."""
    setup = {
        "bash": 'PS1="> "; source <(orch completion bash)',
        "zsh": 'PS1="> "; autoload -Uz compinit; compinit -u; source <(orch completion zsh)',
    }
    shell = {"bash": ["bash", "--norc", "--noprofile"], "zsh": ["zsh", "-f"]}[request.param]
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    root = Path(__file__).parents[3]
    words = [
        *("env", "-C", str(shop.root), f"HOME={home}", f"PYTHONPATH={root}"),
        *(f"PATH={path_with_orch}:/usr/local/bin:/usr/bin:/bin", *shell),
    ]
    screen = TmuxTerminal(tmp_path / "tmux", 120, 24, words)
    try:
        screen.type(f"{setup[request.param]}; echo is-{'ready'}", "Enter")
        wait_until("the shell", lambda: "is-ready" in screen.screen())
        screen.type("", "C-l")
        yield screen
    finally:
        screen.close()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("orch -s dev run deploy:pu", "> orch -s dev run deploy:publish"),
        ("orch -s dev run deploy:publish mod", "> orch -s dev run deploy:publish mode="),
        ("orch -s dev run deploy:publish mode=f", "> orch -s dev run deploy:publish mode=fast"),
        ("orch -s dev run deploy k", "> orch -s dev run deploy keep="),
        ("orch -s dev run deploy -e dry=t", "> orch -s dev run deploy -e dry=true"),
        ("orch -s real hosts -l db:r1,ap", "> orch -s real hosts -l db:r1,api"),
        (
            "orch -s dev run deploy --start-step Re",
            "> orch -s dev run deploy --start-step Restart\\ now",
        ),
    ],
)
def test_a_real_shell_completes_words_with_colons_and_equals_signs(
    terminal: TmuxTerminal, typed: str, line: str
) -> None:
    wait_until("an empty screen", lambda: terminal.screen()[0] == ">")
    terminal.type(typed, "Tab")
    wait_until(f"{line!r} on {terminal.screen()}", lambda: line in terminal.screen())
    terminal.type("x")  # behind a blank, unless a value has to follow
    expected = f"{line}x" if line.endswith("=") else f"{line} x"
    wait_until(f"{expected!r}", lambda: expected in terminal.screen())


def test_fish_completes_them_too(shop: OrchProject, path_with_orch: Path) -> None:
    lines = ("run deploy:pu", "run deploy:publish mod", "run deploy:publish mode=f")
    script = "; ".join(f'complete -C "orch -s dev {line}"' for line in lines)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"orch completion fish | source; {script}"],
        cwd=shop.root,
        env={
            **shop.environ({"PYTHONPATH": str(Path(__file__).parents[3])}),
            "PATH": f"{path_with_orch}:/usr/local/bin:/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert found == ["deploy:publish", "mode=", "mode=fast"]
