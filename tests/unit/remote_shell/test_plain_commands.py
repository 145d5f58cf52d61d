"""What is told of a command from its text."""

from __future__ import annotations

import pytest

from orchestrator.remote_shell.plain_commands import leaves_no_process, single_command


@pytest.mark.parametrize(
    "text",
    [
        "",
        "date -u",
        "mkdir -p '/srv/a b' && ln -sfn /srv/a /srv/b\ntouch x",
        "ls -1dt /srv/releases/* | tail -n +6 | xargs -r rm -rf",
        "xargs -0 -n 20 rm",
        'cat "a b" >c 2>&1 || echo no >&2; true',
        "[ -e x ] || exit 3",
        "grep -q ^A= <environment",
    ],
)
def test_standard_utilities_leave_no_process(text: str) -> None:
    assert leaves_no_process(text)


@pytest.mark.parametrize(
    "text",
    [
        "sleep 60 &",
        "service app start",
        "./ls",
        "echo $(start)",
        "echo `start`",
        'echo "$x"',
        "cat <<E\nstart\nE",
        "cat <(start)",
        "LD_PRELOAD=x ls",
        "ls; nohup start",
        "ls | start",
        "ls && start",
        "ls || start",
        "ls\nstart",
        "xargs start",
        "xargs -r -n 1 start",
        "xargs sh -c start",
        "xargs",
        "xargs -I rm start",
        "find . -exec start {} +",
        "sed e",
        "sort --compress-program=start x",
        "sort x --comp start",
        "sort '-'-comp start",
        "xargs sort --comp start",
        "env start",
        "exec start",
        "eval start",
        "'ls'; start",
        "if ls; then start; fi",
        "{ ls; }",
        "(ls)",
        "! ls",
        "ls |",
        "| ls",
        "ls ||",
        "ls &&\n",
        "; ls",
        "ls >",
        "ls > > x",
        "ls 'a",
        "l\\s",
        "ls # comment",
        "ls é",
    ],
)
def test_anything_else_may_leave_one(text: str) -> None:
    assert not leaves_no_process(text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("uname -r", "uname -r"),
        ("\n cat  '/srv/a'/b 'c'd\n", "cat /srv/a/b cd"),
        ("echo '' a", "echo '' a"),
        ("test -d /srv", "test -d /srv"),
        ("/opt/bin/app --x=1,2", "/opt/bin/app --x=1,2"),
    ],
)
def test_single_command_is_its_words(text: str, command: str) -> None:
    assert single_command(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "'uname'",
        "a=1",
        "a=1 env",
        "if",
        "time ls",
        "!",
        "{",
        "[[ a ]]",
        "ls; ls",
        "ls\nls",
        "ls *",
        "ls ~",
        "ls ?",
        "echo 'a b'",
        'echo "a"',
        "echo $x",
        "ls | wc",
        "ls > x",
        "ls 2>&1",
        "ls &",
        "ls #",
        "3 x",
        "echo a\\ b",
        "function f",
    ],
)
def test_what_needs_the_shell_is_no_single_command(text: str) -> None:
    assert single_command(text) is None
