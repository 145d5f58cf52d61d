"""`orch ssh`: a shell or a command on one host, on a terminal and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.transports.test_become_password import (
    BOBS,
    RIGHT,
    PrivateCopy,
    copy,
    run_in_machine,
)
from tests.projects import OrchProject
from tests.sshd import SSHD, SshdServer, child_processes, generate_key, serve_sshd, sshd
from tests.support.session_recording import wait_until
from tests.support.typed_terminal import TypedTerminal, on_terminal

__all__ = ["copy", "sshd"]

HOSTS = (
    "behind",
    "system",
    "box",
    *(pytest.param(h, marks=pytest.mark.long) for h in ("far", "here")),
)
SOME_HOSTS = (
    "far",
    "system",
    *(pytest.param(host, marks=pytest.mark.long) for host in ("behind", "box", "here")),
)
PROMPT = r"prompt% "
SECRET = "s3cret-text"


@pytest.fixture
def stage(project: OrchProject, sshd: SshdServer) -> OrchProject:
    """Return a stage with a host for each transport, and one behind a jump host."""
    project.add_sshd_stage(sshd, {})
    settings = json.loads((project.root / "inventories/real/stage.yml").read_text())
    settings["environment"] = {"GREETING": "it's $HOME", "TOKEN": "{{ token }}"}
    return project.write(
        {
            "inventories/common/token": SECRET,
            "inventories/real/stage.yml": json.dumps(settings),
            "inventories/common/stage.yml": "vars: {token: !secret {file: token}}\n",
            "inventories/real/hosts.yml": """\
                far: {address: 127.0.0.1}
                behind: {address: 127.0.0.2, connect: {jump: far}}
                system: {address: 127.0.0.3, connect: {transport: openssh}}
                box: {connect: {transport: sandbox}}
                here: {connect: {transport: local}}
                """,
            "inventories/real/roles.yml": "one: [far]\ntwo: [far, box]\n",
        }
    )


def ssh_words(project: OrchProject, *words: str) -> list[str]:
    return project.command("-s", "real", "ssh", "-F", "none", *words)


@contextmanager
def on_host(
    project: OrchProject, *words: str, stdout: int | None = None, **env: str
) -> Iterator[TypedTerminal]:
    """Start `orch ssh` on a terminal of 100 columns and 33 rows."""
    command, environment = ssh_words(project, *words), project.environ(env)
    with on_terminal(
        command, project.root, environment, columns=100, rows=33, stdout=stdout
    ) as terminal:
        yield terminal


def piped(
    project: OrchProject, *words: str, data: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `orch ssh` without a terminal, with these bytes as its stdin."""
    return subprocess.run(
        ssh_words(project, *words),
        cwd=project.root,
        env=project.environ(env),
        input=data,
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("host", HOSTS)
def test_a_shell_has_the_terminals_size_and_keys_and_its_status_is_the_exit_code(
    stage: OrchProject, host: str
) -> None:
    with on_host(stage, host) as terminal:
        before = terminal.modes()
        terminal.type("exec env PS1='prompt''% ' sh\r")
        terminal.wait_for(PROMPT)
        assert terminal.is_raw()
        terminal.type('stty size; echo $TERM; echo "$GREETING"; tty\r')
        terminal.wait_for("33 100\r\nxterm-256color\r\nit's \\$HOME\r\n/dev/")
        terminal.resize(60, 20)
        terminal.type("until [ \"$(stty size)\" = '20 60' ]; do :; done; echo re''sized\r")
        terminal.wait_for("resized")
        terminal.type("sh -c 'echo wait\"\"ing; exec sleep 60'\r")
        terminal.wait_for("waiting")
        terminal.type("\x03")
        terminal.wait_for(r"\^C[^$%]*[$%] ")
        terminal.type("echo inter''rupted $?\r")
        terminal.wait_for("interrupted 130\r\n")
        terminal.type("(exit 7)\r")
        terminal.type("\x04")
        assert terminal.wait_exit() == 7
        assert terminal.modes() == before
        assert SECRET.encode() not in terminal.output


@pytest.mark.parametrize("host", SOME_HOSTS)
def test_without_a_terminal_bytes_are_unchanged_both_ways_and_stderr_is_apart(
    stage: OrchProject, host: str
) -> None:
    data = os.urandom(300_000) + b"\r\n\x00~.\n\x04end"
    done = piped(stage, host, "--", "cat; echo error >&2; exit 3", data=data)
    assert (done.returncode, done.stderr) == (3, b"error\n")
    assert done.stdout == data


@pytest.mark.parametrize("host", SOME_HOSTS)
def test_a_command_gets_a_terminal_only_if_stdout_is_one_too(stage: OrchProject, host: str) -> None:
    command = ["sh", "-c", 'test -t 1 && echo "$0 terminal" || echo "$0 none"; kill $$', "it's"]
    with on_host(stage, host, "--", *command) as terminal:
        terminal.wait_for("it's terminal\r\n")
        assert terminal.wait_exit() == 143
    reading, writing = os.pipe()
    with on_host(stage, host, "--", *command, stdout=writing) as terminal:
        assert terminal.wait_exit() == 143
        assert os.read(reading, 100) == b"it's none\n"
    os.close(reading)
    os.close(writing)


def test_input_without_a_command_runs_in_a_shell(stage: OrchProject) -> None:
    done = piped(stage, "one", data=b'echo "$GREETING"\nexit 9\n')
    assert (done.returncode, done.stdout) == (9, b"it's $HOME\n")


def test_the_environment_is_in_no_process_list_and_the_folder_is_entered(
    stage: OrchProject,
) -> None:
    command = 'pwd; echo "$EXTRA ${#TOKEN}"; cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -c "^s3cre[t]-"'
    done = piped(stage, "far", "--chdir", "/usr", "--env", "EXTRA=a 'b'", "--", command)
    assert done.stdout.decode() == f"/usr\na 'b' {len(SECRET)}\n0\n"
    missing = piped(stage, "far", "--chdir", "/no/such", "--", "echo ran")
    assert missing.returncode != 0
    assert missing.stdout == b""
    assert b"/no/such" in missing.stderr


def test_several_hosts_and_a_missing_dash_are_errors_that_contact_nobody(
    stage: OrchProject,
) -> None:
    several = piped(stage, "two")
    assert several.returncode == 2
    assert b"'two' selects 2 hosts, and a shell runs on one: far,box" in several.stderr
    unknown = piped(stage, "fat")
    assert unknown.returncode == 3
    assert b"did you mean 'far'?" in unknown.stderr
    for words, message in (
        (["far", "uname"], b"write `--` before the command: orch ssh HOST [-- COMMAND]"),
        (["--", "uname"], b"name the host: orch ssh HOST [-- COMMAND]"),
        (["far", "--", " "], b"the command is empty"),
        (["ann@far"], b"write the user as an option: orch ssh far --user ann"),
    ):
        wrong = piped(stage, *words)
        assert wrong.returncode == 2
        assert message in wrong.stderr


def test_a_host_that_is_not_reached_gives_255(stage: OrchProject, sshd: SshdServer) -> None:
    other = generate_key(stage.root / "other")
    stage.write(
        {
            "inventories/real/hosts.yml": f"far: {{connect: {{identity: {other}}}, address: 127.0.0.1}}\n",
            "inventories/real/roles.yml": "",
        }
    )
    refused = piped(stage, "far", "--", "true")
    assert refused.returncode == 255
    assert f"{sshd.user}@127.0.0.1:{sshd.port}: ".encode() in refused.stderr


@pytest.mark.parametrize("host", ["far", "system"])
def test_a_lost_connection_gives_255_and_the_terminal_is_restored(
    stage: OrchProject, sshd: SshdServer, host: str
) -> None:
    with on_host(stage, host) as terminal:
        before = terminal.modes()
        terminal.type("echo rea''dy\r")
        terminal.wait_for("ready")
        assert terminal.is_raw()
        for connection in sshd.session_processes():  # first, as it would report the shell's end
            for process in (connection, *child_processes(connection)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        assert terminal.wait_exit() == 255
        assert terminal.modes() == before
        terminal.wait_for(f"disconnected from {host}: ")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.long)]
)
def test_a_signal_to_orch_restores_the_terminal_and_ends_the_command(
    stage: OrchProject, number: signal.Signals
) -> None:
    with on_host(stage, "far", "--", "echo $$ ready; exec sleep 600") as terminal:
        before = terminal.modes()
        remote = int(terminal.wait_for(r"(\d+) ready")[1])
        assert terminal.is_raw()
        terminal.process.send_signal(number)
        assert terminal.wait_exit() == 130
        assert terminal.modes() == before
    wait_until(lambda: not Path(f"/proc/{remote}").exists(), "the end of the remote command")


def test_ctrl_c_before_the_shell_has_started_ends_it_at_once(
    stage: OrchProject, tmp_path: Path
) -> None:
    """A host that accepts the login, and never starts a shell."""
    with serve_sshd(tmp_path / "mute", wrapper="#!/bin/sh\nexec cat >/dev/null\n") as mute:
        stage.add_sshd_stage(mute, {"far": "127.0.0.1"})
        settings = json.loads((stage.root / "inventories/real/stage.yml").read_text())
        settings["connect"]["timeout"] = "10m"
        stage.write({"inventories/real/stage.yml": json.dumps(settings)})

        def has_session() -> bool:
            return any(tuple(child_processes(pid)) for pid in mute.session_processes())

        with on_host(stage, "one", "--", "true") as terminal:
            wait_until(has_session, "the session")
            terminal.type("\x03")
            assert terminal.wait_exit() == 130
            terminal.wait_for("interrupted")
            assert not terminal.is_raw()


def test_tilde_and_dot_on_a_new_line_disconnect(stage: OrchProject) -> None:
    with on_host(stage, "far", "--", "echo rea''dy; cat") as terminal:
        before = terminal.modes()
        terminal.wait_for("ready\r\n")
        terminal.type("a~.\r")
        terminal.wait_for(r"a~\.\r\na~\.\r\n")
        terminal.type("~~x\r")
        terminal.wait_for("~x\r\n~x\r\n")
        terminal.type("~.")
        assert terminal.wait_exit() == 255
        assert terminal.modes() == before
        terminal.wait_for("disconnected from far: you typed ~.")


@pytest.mark.parametrize("host", SOME_HOSTS)
def test_ctrl_c_without_a_terminal_ends_the_remote_command(stage: OrchProject, host: str) -> None:
    process = subprocess.Popen(
        ssh_words(stage, host, "--", "sh -c 'echo $$; exec sleep 600'; :"),
        cwd=stage.root,
        env=stage.environ({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        remote = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        wait_until(lambda: not Path(f"/proc/{remote}").exists(), "the end of the remote command")
    finally:
        process.kill()
        process.communicate()


def test_a_reader_of_the_output_that_leaves_ends_the_session(stage: OrchProject) -> None:
    process = subprocess.Popen(
        ssh_words(stage, "far", "--", "yes"),
        cwd=stage.root,
        env=stage.environ({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    try:
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_protected_stage_asks_once_for_its_name(stage: OrchProject) -> None:
    with (stage.root / "inventories/common/stage.yml").open("a") as file:
        file.write("protected: true\n")
    refused = piped(stage, "box", "--", "echo ran")
    assert refused.returncode == 2
    assert b"stage 'real' is protected, and stdin is not a terminal" in refused.stderr
    assert piped(stage, "box", "--yes", "--", "echo ran").stdout == b"ran\n"
    with on_host(stage, "box", "--", "echo r''an") as terminal:
        terminal.wait_for("'real' is protected. This would run echo r''an\r\non 1 host: box")
        terminal.wait_for("Type the stage's name to continue: ")
        terminal.type("real\r")
        terminal.wait_for("\r\nran\r\n")
        assert terminal.wait_exit() == 0


def test_a_refused_terminal_says_what_forbids_it(
    tmp_path: Path, stage: OrchProject, sshd: SshdServer
) -> None:
    with (sshd.folder / "authorized_keys").open("a") as keys:
        key = generate_key(tmp_path / "restricted")
        keys.write(f"no-pty {Path(f'{key}.pub').read_text()}")
    hosts = (
        "far: {address: 127.0.0.1, connect: {identity: KEY}}\n"
        "system: {address: 127.0.0.2, connect: {identity: KEY, transport: openssh}}\n"
    )
    stage.write(
        {
            "inventories/real/hosts.yml": hosts.replace("KEY", str(key)),
            "inventories/real/roles.yml": "",
        }
    )
    for host in ("far", "system"):
        with on_host(stage, host) as terminal:
            terminal.wait_for("the host refuses a terminal")
            assert terminal.wait_exit() == 255


def test_a_passphrase_is_asked_for_before_the_shell(
    tmp_path: Path, stage: OrchProject, sshd: SshdServer
) -> None:
    key = generate_key(tmp_path / "locked", passphrase="open sesame")
    with (sshd.folder / "authorized_keys").open("a") as keys:
        keys.write(Path(f"{key}.pub").read_text())
    stage.write(
        {
            "inventories/real/hosts.yml": f"far: {{address: 127.0.0.1, connect: {{identity: {key}}}}}\n",
            "inventories/real/roles.yml": "",
        }
    )
    with on_host(stage, "far", "--", "echo in''side") as terminal:
        terminal.wait_for("Passphrase of ")
        terminal.type("open sesame\r")
        terminal.wait_for("inside")
        assert terminal.wait_exit() == 0
        assert b"sesame" not in terminal.output


@pytest.fixture
def private_stage(copy: PrivateCopy, project: OrchProject, tmp_path: Path) -> OrchProject:
    """Return hosts of the private machine: alice needs a password for sudo, su and doas."""
    host_key, key = generate_key(tmp_path / "host_key"), generate_key(tmp_path / "key")
    run_in_machine(
        copy,
        f"mkdir -p /run/sshd; echo '{key.with_suffix('.pub').read_text().strip()}' >/etc/keys;"
        f"umask 077; echo '{host_key.read_text()}' >/etc/host_key;"
        "echo 'permit alice as bob' >/etc/doas.conf; cp /etc/pam.d/sudo /etc/pam.d/doas;"
        f"echo 'free:{RIGHT}' | chpasswd; usermod -s /usr/sbin/nologin remote; usermod -s /bin/bash bob; usermod -s /bin/bash alice",
    )
    words = "-o HostKey=/etc/host_key -o AuthorizedKeysFile=/etc/keys -o UsePAM=no"
    proxy = f"ProxyCommand {' '.join(copy.words)} {SSHD} -i {words}"
    (tmp_path / "config").write_text(f"Host *\n{proxy}\nStrictHostKeyChecking no\n")
    connect = {"user": "alice", "identity": str(key), "known_hosts": str(tmp_path / "known")}
    connect |= {"host_keys": "accept-new", "ssh_config": str(tmp_path / "config")}
    methods = {method: {"connect": {"become_method": method}} for method in ("sudo", "su", "doas")}
    stage = {"connect": connect, "environment": {"TOKEN": "{{ token }}"}}
    return project.write(
        {
            "inventories/common/token": SECRET,
            "inventories/common/stage.yml": "vars: {token: !secret {file: token}}\n",
            "inventories/real/stage.yml": json.dumps(stage),
            "inventories/real/hosts.yml": json.dumps(methods),
        }
    )


@pytest.mark.parametrize(
    ("method", "question", "password"),
    [
        ("sudo", "sudo password of alice: ", RIGHT),
        ("su", "su password of bob: ", BOBS),
        pytest.param("doas", "doas password of alice: ", RIGHT, marks=pytest.mark.long),
    ],
)
def test_become_on_a_terminal_asks_for_the_password_and_gives_the_users_shell(
    private_stage: OrchProject, method: str, question: str, password: str
) -> None:
    with on_host(private_stage, method, "--become-user", "bob") as terminal:
        before = terminal.modes()
        terminal.wait_for(question)
        terminal.type(f"{password}\r")
        terminal.wait_for("bob@")
        terminal.type("echo $0 $(id -un) ${#TOKEN} $(stty size) $HOME; tty\r")
        terminal.wait_for(rf"bash bob {len(SECRET)} 33 100 /home/bob\r\n/dev/pts/")
        terminal.type("sh -c 'echo wait\"\"ing; exec sleep 60'\r")
        terminal.wait_for("waiting")
        terminal.type("\x03")
        terminal.wait_for(r"\^C[^$%]*[$%] ")
        terminal.type("echo inter''rupted $?\r")
        terminal.wait_for("interrupted 130\r\n")
        terminal.type("exit 5\r")
        assert terminal.wait_exit() == 5
        assert terminal.modes() == before
        assert password.encode() not in terminal.output
        assert SECRET.encode() not in terminal.output


def test_the_hosts_shell_setting_runs_commands_and_is_the_shell(stage: OrchProject) -> None:
    stage.write(
        {"inventories/real/hosts.yml": "box: {connect: {transport: sandbox, shell: bash}}\n"}
    )
    (stage.root / "inventories/real/roles.yml").unlink()
    shown = "tr '\\0' ' ' < /proc/$$/cmdline; echo"
    assert piped(stage, "box", "--", f"{shown}; :").stdout.startswith(b"bash -c ")
    assert piped(stage, "box", data=shown.encode()).stdout == b"bash \n"


def test_become_takes_the_password_from_a_file_and_says_if_it_is_wrong(
    private_stage: OrchProject, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(f"{RIGHT}\n")
    file = {"ORCH_BECOME_PASSWORD_FILE": str(password)}
    words = ("sudo", "--become-user", "bob", "--", "id -un; cat")
    done = piped(private_stage, *words, data=b"\0bytes\n", **file)
    assert (done.returncode, done.stdout) == (0, b"bob\n\0bytes\n")
    with on_host(private_stage, *words, **file) as terminal:
        terminal.wait_for("bob\r\n")
        terminal.type("\x04")
        assert terminal.wait_exit() == 0
        assert b"assword" not in terminal.output
    password.write_text("mistaken\n")
    with on_host(private_stage, *words, **file) as terminal:
        before = terminal.modes()
        terminal.wait_for("become: alice@sudo:22: sudo to bob failed: wrong sudo password of alice")
        assert terminal.wait_exit() == 255
        assert terminal.modes() == before


def test_an_account_without_a_login_shell_gets_sh(private_stage: OrchProject) -> None:
    with on_host(private_stage, "sudo", "--user", "free", "--become-user", "remote") as terminal:
        terminal.type("echo $0 $(id -un)\r")
        terminal.wait_for("/bin/sh remote\r\n")
        terminal.type("\x04")
        assert terminal.wait_exit() == 0
