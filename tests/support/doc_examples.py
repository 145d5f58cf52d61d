"""Run the examples of the documentation: its files are written, its commands are executed.

A page is read from top to bottom. Comments (`<!-- … -->`) above a block are instructions:

- ``project: NAME``: start a new project (see ``PROJECTS``) for the blocks that follow;
- ``sh: COMMAND``: run a shell command in the project, without showing it;
- ``file: PATH``: the whole block is this file of the project, such as a template;
- ``not run: REASON``: the block is not an example of orch, or cannot be run here;
- ``order: any``: the lines of the output may be in any order.

Blocks are recognised by their info string and first line:

- ``yaml`` with a first line ``# PATH``: a file of the project; it is written;
- ``yaml`` with ``# in PATH``: a part of a file that exists, as it is written there;
- ``yaml`` with ``# steps`` or ``# playbook items``: written as a task file of that;
- another language with a file's name in a comment in its first line (the second one after
  ``#!/bin/sh``): a file as well;
- ``console``: every line ``$ COMMAND`` is run; what follows is its output, in which a line ``…``
  stands for any number of lines;
- ``{code-block} LANGUAGE``: an example of another tool; YAML is parsed;
- ``{include}``, ``{toctree}`` and other directives of the site are not examples.

Times, ports, run IDs, commits and the project's path differ between runs; they are normalised.
`python -m tests.support.doc_examples PAGE…` replaces the outputs in pages by those of a run.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.sshd import SshdServer, free_port, generate_key, serve_sshd

ROOT = Path(__file__).resolve().parents[2]
SHOWN_ROOT = "/home/ann/demo"
SHOWN_KERNEL = "Linux laptop 6.1.0-28-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22) x86_64 GNU/Linux"
WIDTH = 98
TIMEOUT = 60.0
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,})(?P<info>[^`]*)$")
_COMMENT = re.compile(r"<!-- (project|sh|file|not run|order): (.*?) -->")
_FILE_NAME = re.compile(r"^(?:#|//|<!--|--|%|;)!? *(in )?([\w.@{}/~-]+[\w}])(?: *-->)?$")
SITE_DIRECTIVES = frozenset(("{toctree}", "{include}", "{image}", "{note}", "{warning}", "{tip}"))


@dataclass(frozen=True, slots=True)
class ExampleBlock:
    """A fenced block: its first line's number, info string, text, and the comments above it."""

    page: Path
    line: int
    indent: int
    info: str
    text: str
    comments: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def options(self, kind: str) -> list[str]:
        return [text for name, text in self.comments if name == kind]


@dataclass(frozen=True, slots=True)
class ExampleCommand:
    """A command of a console block, with the output that the page shows."""

    line: str
    output: tuple[str, ...]


def read_blocks(page: Path) -> Iterator[ExampleBlock]:
    """Yield the fenced blocks of a page, with the comments since the block before."""
    comments: list[tuple[str, str]] = []
    opened: tuple[re.Match[str], int] | None = None
    lines: list[str] = []
    blank = True
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        found = _FENCE.match(line)
        if opened is None:
            indented = blank and line.startswith("    ")
            assert not indented, f"{page}:{number}: write code in a fenced block, which is run"
            blank = not line.strip()
            comments += [(m[1], m[2]) for m in _COMMENT.finditer(line)]
            if found:
                opened, lines = (found, number), []
        elif found and found["fence"] == opened[0]["fence"] and not found["info"].strip():
            match, start = opened
            text = textwrap.dedent("\n".join(lines)) + "\n"
            indent = len(match["indent"])
            yield ExampleBlock(
                page, start + 1, indent, match["info"].strip(), text, tuple(comments)
            )
            opened, comments = None, []
        else:
            lines.append(line)
    assert opened is None, f"{page}: a block is not closed"
    assert not comments, f"{page}: instructions without a block: {comments}"


def parse_console(block: ExampleBlock) -> list[ExampleCommand]:
    """Return the commands of a console block; a line that ends in a backslash continues."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in block.text.rstrip("\n").split("\n"):
        if continued:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
            continued = line.endswith("\\")
        elif line.startswith("$ "):
            found.append((line[2:], []))
            continued = line.endswith("\\")
        else:
            assert found, f"{block.label}: the block does not begin with `$ COMMAND`"
            found[-1][1].append(line)
    return [ExampleCommand(line, tuple(output)) for line, output in found]


@dataclass(slots=True)
class ExampleRunner:
    """The project of a page, and what its examples did."""

    folder: Path
    page: Path
    servers: dict[str, SshdServer] = field(default_factory=dict)
    root: Path = Path()
    cwd: Path = Path()
    count: int = 0
    shown: list[tuple[str, str]] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)
    runtime: str = ""
    replaced: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[tuple[ExampleBlock, list[tuple[ExampleCommand, list[str]]]]] = field(
        default_factory=list
    )

    def run_page(self) -> list[str]:
        """Run all blocks, and return what differs from the page."""
        wrong: list[str] = []
        try:
            for block in read_blocks(self.page):
                wrong += self.run_block(block)
            if self.root != Path():
                wrong += self.check_project(str(self.page.relative_to(ROOT)))
        finally:
            self.end_servers()
        return wrong

    def run_block(self, block: ExampleBlock) -> list[str]:
        """Run one block, and return what is wrong with it."""
        wrong: list[str] = []
        for kind, text in block.comments:
            if kind == "project":
                if self.root != Path():
                    wrong += self.check_project(block.label)
                self.start_project(text)
            elif kind == "sh":
                code, output = self.execute(text)
                if code:
                    wrong.append(f"{block.label}: `{text}` failed: {output}")
        if block.options("not run"):
            return wrong
        kind, _, rest = block.info.partition(" ")
        if kind == "{code-block}":
            if rest.startswith("yaml"):
                text = re.sub(r"^:\w.*\n", "", block.text, flags=re.MULTILINE)
                list(yaml.compose_all(text, yaml.SafeLoader))
        elif kind in SITE_DIRECTIVES or kind.startswith("{"):
            if kind not in SITE_DIRECTIVES:
                wrong.append(f"{block.label}: unknown directive {kind}")
        elif kind == "console":
            wrong += self.run_console(block)
        else:
            wrong += self.write_file(block)
        return wrong

    def write_file(self, block: ExampleBlock) -> list[str]:
        """Write the block as a file of the project, or look for it in that file."""
        first, _, rest = block.text.partition("\n")
        if self.root == Path():
            return [f"{block.label}: the page has no project: <!-- project: … --> names one"]
        if names := block.options("file"):
            self.write(names[0], block.text)
            return []
        if block.info == "yaml" and first in ("# steps", "# playbook items"):
            self.count += 1
            key = "steps" if first == "# steps" else "tasks"
            name = f"tasks/example{self.count}.yml"
            self.write(name, f"{key}:\n{textwrap.indent(rest, '  ')}")
            return []
        if first.startswith("#!"):
            first = rest.partition("\n")[0]
        match = _FILE_NAME.match(first)
        if match is None:
            return [f"{block.label}: a block that the test does not recognise: {block.info}"]
        path = self.cwd / match[2]
        if match[1]:
            shown = [line.strip() for line in rest.split("\n") if line.strip()]
            there = [line.strip() for line in path.read_text("utf-8").split("\n") if line.strip()]
            pattern = "\n".join(".*" if s == "# …" else re.escape(s) for s in shown)
            if not re.search(f"^{pattern}$", "\n".join(there), re.MULTILINE | re.DOTALL):
                return [f"{block.label}: {match[2]} does not contain this"]
        else:
            self.write(match[2], block.text)
        return []

    def write(self, name: str, text: str) -> None:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for real, shown in self.replaced:
            text = text.replace(shown, real)
        path.write_text(text, "utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)

    def run_console(self, block: ExampleBlock) -> list[str]:
        """Run the commands of the block and compare their output."""
        if self.root == Path():
            return [f"{block.label}: the page has no project: <!-- project: … --> names one"]
        wrong: list[str] = []
        ran: list[tuple[ExampleCommand, list[str]]] = []
        for command in parse_console(block):
            code, text = self.execute(command.line)
            output = self.show(text)
            ran.append((command, output))
            if "Traceback" in text:
                wrong.append(f"{block.label}: {text}")
            if not command.output:
                if code:
                    wrong.append(f"{block.label}: `{command.line}` exits with {code}:\n{text}")
            elif not same_output(command.output, output, any_order=bool(block.options("order"))):
                page, now = "\n".join(command.output), "\n".join(output)
                wrong.append(f"{block.label}: `{command.line}` shows\n{now}\nthe page has\n{page}")
        self.outputs.append((block, ran))
        return wrong

    def execute(self, line: str) -> tuple[int, str]:
        """Run a line in a shell on a terminal; return its exit status and the final screen.

        `cd` counts for later lines, too.
        """
        for real, shown in self.replaced:
            line = line.replace(shown, real)
        place = self.folder / "cwd"
        script = f"{line}\nstatus=$?\npwd >'{place}'\nexit $status"
        code, screen = run_on_terminal(["sh", "-c", script], self.cwd, self.environ())
        if place.exists():
            self.cwd = Path(place.read_text().strip())
        return code, screen

    def environ(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        bin_folder = str(Path(sys.executable).parent)
        if not self.runtime:  # not in the folder: the path of a socket has about 100 bytes
            self.runtime = self.stack.enter_context(tempfile.TemporaryDirectory())
        return {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": self.runtime,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "COLUMNS": str(WIDTH),
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def show(self, text: str) -> list[str]:
        """Return the output as a page shows it: with the paths and names of the examples."""
        for real, shown in (*self.replaced, *self.shown):
            text = text.replace(real, shown)
        text = re.sub(r"Linux \S+ \d.*GNU/Linux", SHOWN_KERNEL, text)
        user, machine = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname()
        text = text.replace(f"{user}@{machine}", "ann@laptop")
        text = re.sub(rf"\bby {user}\b", "by ann", text)
        lines = [line.rstrip() for line in text.split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        while lines and not lines[0]:
            lines.pop(0)
        return lines

    def check_project(self, label: str) -> list[str]:
        """Lint the project, if it has stages; a page may have an intended error last."""
        if not (self.cwd / "inventories").is_dir():
            return []
        code, output = self.execute("orch lint")
        if code:
            return [f"{label}: the files of the page have errors:\n{output}"]
        return []

    def start_project(self, name: str) -> None:
        """Create the project that the page names."""
        self.end_servers()
        self.count = 0
        self.root = self.cwd = Path(tempfile.mkdtemp(dir=self.folder)) / "demo"
        self.replaced = [(str(self.root), SHOWN_ROOT), (str(self.folder / "home"), "/home/ann")]
        self.replaced += [(str(ROOT / "orchestrator"), "/opt/orch/orchestrator")]
        kind, *words = name.split()
        getattr(self, f"_start_{kind}")(*words)

    def _start_empty(self) -> None:
        """Begin in an empty folder, not in a project."""
        self.root = self.cwd = self.root.parent
        self.replaced = [(str(self.root), "/home/ann"), *self.replaced[1:]]

    def _start_example(self) -> None:
        """Copy the example project of the repository."""
        for top in ("inventories", "tasks"):
            shutil.copytree(ROOT / top, self.root / top)

    def _start_init(self) -> None:
        """Have `orch init` make a project."""
        self.cwd = self.root.parent
        code, output = self.execute("orch init demo -s dev -s prod")
        assert not code, output
        self.cwd = self.root

    def _start_sandbox(self) -> None:
        """Add sandbox hosts: web1, web2 (role web) and db1 (role db)."""
        self.root.mkdir()
        self.write("inventories/dev/stage.yml", "connect: {transport: sandbox}\n")
        self.write("inventories/dev/roles/web.yml", "- web1\n- web2\n")
        self.write("inventories/dev/roles/db.yml", "- db1\n")
        (self.root / "tasks").mkdir()

    def _start_servers(self, *faults: str) -> None:
        """Give names to real servers on this machine, by an ssh_config.

        Faults are further hosts: ``closed`` (nothing listens), ``silent`` (never answers),
        ``unknown`` and ``changed`` (its host key), ``refused`` (its login), ``keyless`` (no key, and no
        agent), ``nologin`` (its shell), ``notty`` (its sudo wants a terminal).
        """
        self.root.mkdir()
        server = self.servers["sshd"]
        config = self.folder / "home/.ssh/config"
        config.parent.mkdir(parents=True, exist_ok=True)
        blocks = [
            f"Host {name}.example.net\n    HostName 127.0.0.{number}\n    Port {server.port}\n"
            for number, name in enumerate(("web1", "web2", "db1", "bastion"), 11)
        ]
        blocks += [
            self._faulty_host(fault, f"127.0.0.{number}", server)
            for number, fault in enumerate(faults, 21)
        ]
        known = "".join(blocks) + (
            "Host * !refused.example.net !keyless.example.net\n"
            f"    IdentityFile {server.key}\n    IdentitiesOnly yes\n"
            f"    UserKnownHostsFile {server.known_hosts}\n"
        )
        config.write_text(known)
        self.replaced += [
            (f"user: {server.user}", "user: deploy"),
            (f"{server.user}@", "deploy@"),
            (f": {server.user}\n", ": deploy\n"),
            (f":{server.port}", ":22"),
            (str(server.known_hosts), "/home/ann/.ssh/known_hosts"),
            (str(server.key), "/home/ann/.ssh/id_ed25519"),
        ]
        self.shown += [
            ("127.0.0.", "192.0.2."),
            (f"denied for {server.user}", "denied for deploy"),
            (f'user: "{server.user}"', 'user: "deploy"'),
        ]

    def _faulty_host(self, fault: str, address: str, server: SshdServer) -> str:
        """Return the lines of ssh_config for a host `FAULT.example.net` with this fault."""
        port, lines = server.port, ""
        if fault == "closed":
            port = free_port()
        elif fault == "silent":
            listener = self.stack.enter_context(socket.create_server((address, 0)))
            port = listener.getsockname()[1]
        elif fault == "unknown":
            known = self.folder / "home/.ssh/known_hosts"
            known.touch()
            lines = f"    UserKnownHostsFile {known}\n"
        elif fault == "changed":
            other = generate_key(self.folder / "other_key").with_suffix(".pub").read_text()
            known = self.folder / "home/.ssh/known_hosts"
            known.write_text(f"[{address}]:{port} {' '.join(other.split()[:2])}\n")
            lines = f"    UserKnownHostsFile {known}\n"
        elif fault == "refused":
            key = generate_key(self.folder / "home/.ssh/id_old")
            lines = f"    IdentityFile {key}\n    IdentitiesOnly yes\n"
            lines += f"    UserKnownHostsFile {server.known_hosts}\n"
        elif fault == "keyless":
            lines = f"    UserKnownHostsFile {server.known_hosts}\n"
        elif fault == "notty":
            sudo = self.folder / "notty/bin/sudo"
            sudo.parent.mkdir(parents=True)
            sudo.write_text(
                "#!/bin/sh\necho 'sudo: sorry, you must have a tty to run sudo' >&2\nexit 1\n"
            )
            sudo.chmod(0o755)
            path = f"{sudo.parent}:/usr/bin:/bin"
            broken = self.stack.enter_context(
                serve_sshd(self.folder / "notty/sshd", environment={"PATH": path})
            )
            port = broken.port
            lines = f"    IdentityFile {broken.key}\n    UserKnownHostsFile {broken.known_hosts}\n"
        elif fault == "nologin":
            wrapper = "#!/bin/sh\necho 'This account is currently not available.'\nexit 1\n"
            folder = self.folder / "nologin"
            broken = self.stack.enter_context(serve_sshd(folder, wrapper=wrapper))
            port = broken.port
            lines = f"    IdentityFile {broken.key}\n    UserKnownHostsFile {broken.known_hosts}\n"
        self.replaced += [(f":{port}", ":22")]
        self.shown += [(f" -p {port}", ""), (str(port), "22")]
        return f"Host {fault}.example.net\n    HostName {address}\n    Port {port}\n{lines}"

    def end_servers(self) -> None:
        """End the servers of the project, and the web servers that examples started."""
        self.stack.close()
        self.runtime = ""
        if self.root == Path():
            return
        for path in self.root.rglob("server.pid"):
            text = path.read_text().strip()
            if text.isdigit():
                try:
                    os.kill(int(text), signal.SIGTERM)
                except OSError:
                    continue


def same_output(shown: tuple[str, ...], output: list[str], *, any_order: bool) -> bool:
    """Return True if the page shows this output, apart from what differs between runs."""
    expected = [normalise(line) for line in shown]
    actual = [normalise(line) for line in output]
    while expected and not expected[-1]:
        expected.pop()
    if any_order:
        return sorted(expected) == sorted(actual)
    if "…" not in expected:
        return expected == actual or _words(expected) == _words(actual)
    pattern = "\n".join("(.*\n)*?.*" if line == "…" else re.escape(line) for line in expected)
    pattern = pattern.replace("\n(.*\n)*?.*", "(\n.*)*?")
    return re.fullmatch(pattern, "\n".join(actual)) is not None


def _words(lines: list[str]) -> list[str]:
    """Return the words in some order: a column that is wrapped at another width has the same."""
    return sorted(" ".join(lines).split())


_NORMAL = [
    (re.compile(r"\b[0-9a-f]{40}\b"), "COMMIT"),
    (re.compile(r"\b20\d{12}(-[0-9a-f]{4})?\b"), "RUN"),
    (re.compile(r"\b20\d\d-\d\d-\d\d"), "DATE"),
    (re.compile(r"(?<!\d)\d\d:\d\d:\d\d(\.\d+)?Z?\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms|min)\b"), "SECONDS"),
    (re.compile(r"(?<=\s)\d+\.\d\d\b"), "SECONDS"),
    (re.compile(r'"(time|seconds|started|elapsed)": ?[\d.]+'), r'"\1": NUMBER'),
    (re.compile(r"(?<=127\.0\.0\.1:)\d+"), "PORT"),
    (re.compile(r"(?<=\bprocess )\d+, \d+ MB"), "PROCESS"),
    (re.compile(r"(?<![\d:.])\d{1,2}:\d\d(?![\d:.])"), "SECONDS"),
    (re.compile(r"\b\d{5}\b"), "PORT"),
    (re.compile(r"SHA256:[\w+/]{43}"), "FINGERPRINT"),
    (re.compile(r"Linux \S+ \d.*GNU/Linux"), "KERNEL"),
    (re.compile(r"\b\d+(\.\d+)?[KMGT]\b"), "SIZE"),
    (re.compile(r"\b(dash|bash|busybox)\b"), "SHELL"),
    (re.compile(r"(?<=(?:  ok|warn|fail) )\s*\d+(-\d+)?$"), "MS"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,39}\b"), "COMMIT"),
    (re.compile(r"[─━-]{2,}"), "--"),
    (re.compile(r"\s+"), " "),
]


def normalise(line: str) -> str:
    """Return the line with the parts replaced that differ from run to run."""
    for pattern, text in _NORMAL:
        line = pattern.sub(text, line)
    return line.strip()


def run_on_terminal(
    command: list[str], cwd: Path, environ: dict[str, str], width: int = WIDTH
) -> tuple[int, str]:
    """Run a command with its output on a terminal; return its exit status and the final screen."""
    code, raw = capture_terminal(command, cwd, environ, width)
    return code, render_screen(raw)


def capture_terminal(
    command: list[str], cwd: Path, environ: dict[str, str], width: int = WIDTH
) -> tuple[int, str]:
    """Run a command with its output on a terminal; return its exit status and the bytes."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts: list[str] = []
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            data = os.read(master, 65536)
        except OSError:  # the last process that has the terminal open is gone
            break
        if not data:
            break
        parts.append(decoder.decode(data))
    os.close(master)
    return process.wait(TIMEOUT), "".join(parts)


def render_screen(raw: str) -> str:
    """Return the text that a terminal shows in the end: cleared lines are gone."""
    lines: list[str] = [""]
    row = column = 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+|\x1b.?", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part.startswith("\x1b["):
            if part.endswith("A"):
                row = max(0, row - int(part[2:-1] or 1))
            elif part.endswith("K"):
                lines[row] = ""
            elif part.endswith("J"):
                del lines[row + 1 :]
        elif not part.startswith("\x1b"):
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return "\n".join(lines)


_DIFFERS = re.compile("the page has$|` exits with ", re.MULTILINE)


def write_outputs(runner: ExampleRunner) -> None:
    """Replace the outputs in the page by those of the run; outputs with `…` stay."""
    lines = runner.page.read_text("utf-8").splitlines()
    for block, ran in reversed(runner.outputs):
        new: list[str] = []
        for command, output in ran:
            kept = "…" in command.output or command.line.endswith("# no output")
            new += f"$ {command.line}".split("\n")
            new += command.output if kept else output
        old = block.text.rstrip("\n").count("\n") + 1
        lines[block.line - 1 : block.line - 1 + old] = [
            (" " * block.indent + line).rstrip() for line in new
        ]
    runner.page.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> int:
    """Run pages, and write the outputs into them."""
    failed = False
    with tempfile.TemporaryDirectory() as folder, serve_sshd(Path(folder) / "sshd") as sshd:
        for number, name in enumerate(sys.argv[1:]):
            place = Path(folder) / str(number)
            place.mkdir()
            runner = ExampleRunner(place, Path(name).resolve(), {"sshd": sshd})
            started = time.monotonic()
            wrong = [text for text in runner.run_page() if not _DIFFERS.search(text)]
            write_outputs(runner)
            print(f"{name}: {time.monotonic() - started:.1f} s")
            print("\n".join(wrong))
            failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
