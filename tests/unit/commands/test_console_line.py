import pytest

from orchestrator.commands.console_line import DIRECTIVES, ConsoleLine, help_rows, parse_line
from orchestrator.errors import UsageError


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("uname -a", ConsoleLine(command="uname -a")),
        ("  echo ' @ok :run'  ", ConsoleLine(command="echo ' @ok :run'")),
        ("@ok uptime", ConsoleLine(selector="ok", command="uptime")),
        ("@web1,db[1-3]:!db2 a\nb", ConsoleLine(selector="web1,db[1-3]:!db2", command="a\nb")),
        ("@@hosts.txt id", ConsoleLine(selector="@hosts.txt", command="id")),
        (": >file", ConsoleLine(command=": >file")),
        (":>file", ConsoleLine(command=":>file")),
        (":limit", ConsoleLine("limit")),
        (":limit  web, db ", ConsoleLine("limit", "web, db")),
        (":run t name='a b'", ConsoleLine("run", "t name='a b'")),
        ("exit", ConsoleLine("quit")),
        ("exit 1", ConsoleLine(command="exit 1")),
        ("", None),
        ("   ", None),
        ("# why", None),
    ],
)
def test_a_line_is_a_command_for_hosts_or_one_of_the_console(
    text: str, line: ConsoleLine | None
) -> None:
    assert parse_line(text) == line


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (":reconect", "no such command ':reconect'", "did you mean ':reconnect'?"),
        (":xyz;", "no such command ':xyz;'", "`:help` lists the commands of the console"),
        (":quit now", ":quit takes no argument: now", ""),
        ("@", "the hosts are missing: @", "write @ok"),
        ("@web", "the command is missing: @web", "write @ok"),
        ("echo \0", "a command cannot contain a NUL character", ""),
    ],
)
def test_an_invalid_line_says_what_is_wrong(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_line(text)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == message
    assert diagnostic.hint.startswith(hint)


def test_help_lists_every_command_of_the_console() -> None:
    shown = {line.split()[0] for line, _ in help_rows()}
    assert {f":{name}" for name in DIRECTIVES} < shown
