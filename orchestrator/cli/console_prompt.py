"""The prompt of a console: its text, its history and its completion (prompt_toolkit)."""

from __future__ import annotations

import json
import os
import termios
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from orchestrator.cli.prompt_input import PromptInput, is_hangup
from orchestrator.commands.console_line import DIRECTIVES
from orchestrator.commands.remote_paths import RemotePaths
from orchestrator.errors import ExitCode
from orchestrator.journal import private_state_file
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_result import Status
from orchestrator.output.console import supports_live_output
from orchestrator.output.text_width import display_width

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from orchestrator.commands.console import HostConsole
    from orchestrator.model.secret_masking import SecretMasker

_HISTORY_FILE = "console_history"
_KEPT_LINES = 2000
_MAX_FOLDER_WIDTH = 24
_CANCELLED = (Status.CANCELLED, Status.STOPPED, Status.NOT_STARTED)
_STYLE = Style.from_dict({"bad": "ansired", "become": "ansiyellow", "folder": "ansicyan"})
_PLAIN = Style.from_dict({})


class ConsolePrompt:
    """Reads lines from the terminal."""

    def __init__(self, console: HostConsole, environ: Mapping[str, str]) -> None:
        """Open the history of the project; lines are completed from the console's hosts."""
        import sys

        self._console = console
        self._paths = RemotePaths(console.connections)
        masker = console.context.secrets.masker
        history = private_state_file(console.context.root, environ, _HISTORY_FILE)
        on_stdout = sys.stdout.isatty()
        stream = sys.stdout if on_stdout else sys.stderr
        self._input = PromptInput(sys.stdin)
        self._session: PromptSession[str] = PromptSession(
            history=LineHistory(history, masker),
            completer=ThreadedCompleter(LineCompleter(console, self._paths)),
            complete_while_typing=False,
            complete_style=CompleteStyle.MULTI_COLUMN,
            enable_history_search=True,
            enable_suspend=True,
            key_bindings=_key_bindings(),
            style=_STYLE if supports_live_output(stream, environ) else _PLAIN,
            input=self._input,
            output=None if on_stdout else create_output(stream),
        )

    def read_line(self) -> str | None:
        """Return the line that is typed, or None at Ctrl-D.

        Raises KeyboardInterrupt at Ctrl-C, and SystemExit (130) if SIGTERM or SIGHUP arrives or the
        terminal is gone.
        """
        line = None
        try:
            with self._input.handle_signals():
                line = self._session.prompt(
                    FormattedText(prompt_text(self._console)), handle_sigint=False
                )
        except EOFError:
            pass
        except (OSError, termios.error) as error:
            if not is_hangup(error):
                raise
            self._input.end()
        if self._input.closed:
            raise SystemExit(int(ExitCode.INTERRUPTED))
        return line

    def close(self) -> None:
        """Close the session that completes paths."""
        self._paths.close()


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("tab")
    def complete(event: KeyPressEvent) -> None:
        """Complete; of several completions, go to the next one."""
        buffer = event.current_buffer
        if buffer.complete_state and len(buffer.complete_state.completions) > 1:
            buffer.complete_next()
        else:  # the only completion was inserted: complete what follows it
            buffer.complete_state = None
            buffer.start_completion(insert_common_part=True)

    return bindings


def prompt_text(console: HostConsole) -> list[tuple[str, str]]:
    """Return the prompt as styled parts: stage, hosts, failures, folder, become user."""
    hosts = console.hosts
    statuses = [
        Status.LOST if host.name in console.lost else console.statuses.get(host.name, Status.OK)
        for host in hosts
    ]
    counts = {
        "lost": statuses.count(Status.LOST),
        "cancelled": sum(statuses.count(status) for status in _CANCELLED),
    }
    failed = sum(status.is_failure for status in statuses) - sum(counts.values())
    shown = hosts[0].name if len(hosts) == 1 else f"{len(hosts)} hosts"
    parts = [("", to_one_line(f"{console.context.stage.name} {shown}"))]
    bad = [f"{count} {what}" for what, count in {"failed": failed, **counts}.items() if count]
    if bad:
        parts += [("", " ("), ("class:bad", ", ".join(bad)), ("", ")")]
    if folder := console.context.secrets.masker.mask_text(console.shared_folder()):
        parts += [("", " "), ("class:folder", _short_folder(to_one_line(folder)))]
    if console.become_user:
        parts += [("", " as "), ("class:become", to_one_line(console.become_user))]
    return [*parts, ("", "> ")]


def _short_folder(folder: str) -> str:
    """Return the end of a long path, from one of its slashes on if possible."""
    if display_width(folder) <= _MAX_FOLDER_WIDTH:
        return folder
    end = folder[-_MAX_FOLDER_WIDTH + 1 :]
    return "…" + (end[end.find("/") :] if "/" in end else end)


class LineHistory(History):
    """The lines typed so far, in a private file: one JSON string per line.

    Lines that begin with a space are not recorded at all, and lines that contain a known secret not
    in the file. ``path`` is None if no folder is writable.
    """

    def __init__(self, path: Path | None, masker: SecretMasker) -> None:
        super().__init__()
        self._path, self._masker = path, masker

    def append_string(self, string: str) -> None:
        """Record a line."""
        if string.strip() and not string[0].isspace():
            super().append_string(string)

    def load_history_strings(self) -> Iterable[str]:
        """Return the recorded lines, the newest first; shorten a file that has become long."""
        lines = self._read_lines()
        if len(lines) > 2 * _KEPT_LINES:
            lines = lines[-_KEPT_LINES:]
            self._rewrite(lines)
        return reversed(lines)

    def store_string(self, string: str) -> None:
        """Write a line to the file. A file that cannot be written records nothing."""
        if self._path is None or self._masker.mask_text(string) != string:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            file = os.open(self._path, flags, 0o600)
        except OSError:
            return  # the history is a convenience: the line runs without it
        try:
            os.fchmod(file, 0o600)
            os.write(file, f"{json.dumps(string)}\n".encode())
        finally:
            os.close(file)

    def _read_lines(self) -> list[str]:
        try:
            data = self._path.read_bytes() if self._path else b""
        except OSError:
            return []
        lines = []
        for record in data.splitlines():
            try:
                line = json.loads(record)
            except ValueError:
                continue  # cut by a full disk
            if isinstance(line, str):
                lines.append(line)
        return lines

    def _rewrite(self, lines: Sequence[str]) -> None:
        if self._path is None:
            return
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(line)}\n" for line in lines)
            new.replace(self._path)
        except OSError:
            return  # the long file is kept


class LineCompleter(Completer):
    """Completes directives, hosts and roles, tasks with their params, and paths on a host.

    It is called in a thread of its own. What cannot be read or reached completes nothing.
    """

    def __init__(self, console: HostConsole, paths: RemotePaths) -> None:
        self._console, self._paths = console, paths

    def get_completions(
        self, document: Document, _complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Yield the completions of the text before the cursor."""
        text = document.text_before_cursor.lstrip()
        if text.startswith(":"):
            yield from self._complete_directive(text)
            return
        selector = ""
        if text.startswith("@"):
            selector, space, text = text.partition(" ")
            if not space:
                yield from self._complete_hosts(selector[1:], ("ok", "failed"))
                return
        yield from self._complete_path(text.lstrip(), selector[1:])

    def _complete_directive(self, text: str) -> Iterator[Completion]:
        name, space, argument = text[1:].partition(" ")
        if not space:
            for each, (_, meaning) in DIRECTIVES.items():
                if each.startswith(name):
                    yield Completion(f":{each}", -len(text), display_meta=meaning)
        elif name == "limit":
            yield from self._complete_hosts(argument.lstrip())
        elif name == "become":
            for user in ("root", "off"):
                if user.startswith(argument.lstrip()):
                    yield Completion(user, -len(argument.lstrip()))
        elif name == "run":
            *words, last = argument.split(" ")
            yield from _completions(self._click_items("run", [w for w in words if w], last), last)

    def _complete_hosts(self, limit: str, more: Sequence[str] = ()) -> Iterator[Completion]:
        for name in more:
            if name.startswith(limit):
                yield Completion(name, -len(limit))
        yield from _completions(self._click_items("exec", ["-l"], limit), limit)

    def _click_items(self, command: str, words: list[str], last: str) -> list[CompletionItem]:
        """Return what the shell completion of `orch` finds for a command."""
        from click.shell_completion import ShellComplete

        from orchestrator.cli.root_command import orch

        context = self._console.context
        before = ["-C", str(context.root), "-s", context.stage.name, *words]
        complete = ShellComplete(orch, {}, "orch", "_ORCH_COMPLETE")
        return complete.get_completions([command, *before], last)

    def _complete_path(self, line: str, selector: str) -> Iterator[Completion]:
        from orchestrator.commands.remote_paths import last_word
        from orchestrator.errors import OrchError

        try:
            hosts = self._console.targets(selector)
        except OrchError:
            return
        connected = self._console.connections.connected_hosts()
        host = next((host for host in hosts if host.name in connected), None)
        word = last_word(line)
        if host is None or word is None:
            return
        folder = self._console.start_folder(host.name).path
        user = self._console.become_user
        for found in self._paths.complete(line, host, user, folder):
            yield Completion(found.text, word.start - len(line), display=to_one_line(found.shown))


def _completions(items: Iterable[CompletionItem], last: str) -> Iterator[Completion]:
    for item in items:
        if item.type == "plain":
            yield Completion(item.value, -len(last), display_meta=to_one_line(item.help or ""))
