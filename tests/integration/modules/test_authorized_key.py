"""``authorized_key``: what it finds, what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message
from tests.support.private_copy import run_in_copy

A = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnn ann@x"
B = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQBobBobBobBob+/= bob $(id) `id` 'b' \\n"
C = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCarCarCar"
A_ONLY = f'restrict,command="echo $HOME \\"x\\"",from="10.0.0.*" {A}'

HERE = f'command="x, from=\\"y\\" z",FROM="10.0.0.1,10.0.0.2" {A}'
PRESENT_KEY = f'from="10.1.0.1",no-pty\t{A}'
SAYS_A = f'command="echo \\"hi\\" {A}",no-pty {B}'


def key_step(text: str, **params: Any) -> dict[str, Any]:
    return {"authorized_key": {"user": "root", "key": text, **params}}


# the file before, what is asked for, what is said of it, the file after
TABLE: list[tuple[str | None, dict[str, Any], str | None, str]] = [
    (None, {"key": A}, "missing: ann@x", f"{A}\n"),
    ("", {"key": f"\n# all\n {A}\t\r\n{B}\n"}, None, f"{A}\n{B}\n"),
    (f"# it\n\n{B}", {"key": A}, "missing: ann@x", f"# it\n\n{B}\n{A}\n"),
    (f"{B}\n", {"key": C}, "missing: …BBBCarCarCar", f"{B}\n{C}\n"),
    (f"{A}\n{B}\n", {"key": A_ONLY}, "missing: ann@x in another form", f"{B}\n{A_ONLY}\n"),
    (f"{A_ONLY}\n{A}\n", {"key": A_ONLY}, "missing: ann@x in another form", f"{A_ONLY}\n"),
    (f"{B}\n{A}\n", {"key": f"{A}\n", "exclusive": True}, None, f"{A}\n"),
    (f"# x\n{C}\n", {"key": A, "exclusive": True}, None, f"# x\n{A}\n"),
    (f"{A}\n{B}\n{A_ONLY}\n", {"key": A, "state": "absent"}, "there: ann@x, ann@x", f"{B}\n"),
    (f"{A}\n", {"key": A_ONLY, "state": "absent"}, "there: ann@x", ""),
    # lines of one key are for the origins that they name
    (f"{HERE}\n", {"key": PRESENT_KEY}, "missing: ann@x", f"{HERE}\n{PRESENT_KEY}\n"),
    (f"{HERE}\n", {"key": f"no-pty,{HERE}"}, "missing: ann@x in another form", f"no-pty,{HERE}\n"),
    (f"{HERE}\n{PRESENT_KEY}\n", {"key": A}, None, f"{A}\n"),
    (f"{A}\n", {"key": f"{A_ONLY}\n{HERE}"}, None, f"{A_ONLY}\n{HERE}\n"),
    (f"{A}\n", {"key": f"{A}\n{A_ONLY}"}, "missing: ann@x", f"{A}\n{A_ONLY}\n"),
    (f"{HERE}\n{A_ONLY}\n{B}\n", {"key": A, "state": "absent"}, None, f"{B}\n"),
    # what is in an option's quotes is no key
    (f"{SAYS_A}\n", {"key": A}, "missing: ann@x", f"{SAYS_A}\n{A}\n"),
    (f"{SAYS_A}\n{A}\n", {"key": A, "state": "absent"}, "there: ann@x", f"{SAYS_A}\n"),
    (f"{SAYS_A}\n{A}\n", {"key": B, "exclusive": True}, None, f"{B}\n"),
    (
        f"{A}\n",
        {"key": SAYS_A, "state": "present"},
        "missing: bob $(id) `id` 'b' \\n",
        f"{A}\n{SAYS_A}\n",
    ),
    (f"{SAYS_A}\n", {"key": B}, None, f"{B}\n"),
]


def test_keys_are_let_in_and_kept_out(machine: ShellMachine) -> None:
    file = machine.root / "keys"
    for before, arguments, output, after in TABLE:
        file.unlink(missing_ok=True)
        if before is not None:
            file.write_text(before)
            file.chmod(0o600)
        outcome = machine.check_then_run(
            {"authorized_key": {"user": "root", "path": str(file), **arguments}}, "changed"
        )
        assert outcome.changes[0].key == "keys"
        assert output is None or outcome.changes[0].before == output
        assert file.read_text() == after
        assert file.stat().st_mode & 0o7777 == 0o600
        assert list(machine.root.iterdir()) == [file]


def test_what_is_as_asked_for_stays(machine: ShellMachine) -> None:
    file = machine.root / "keys"
    file.write_text(f"# it\n  {A} \n{B}\r\n")
    file.chmod(0o600)
    for arguments in ({}, {"exclusive": True}):
        machine.check_then_run(key_step(f"{B}\n{A}", path=str(file), **arguments), "ok")
    machine.check_then_run(key_step(C, path=str(file), state="absent"), "ok")
    machine.check_then_run(key_step(C, path=str(machine.root / "none" / "x"), state="absent"), "ok")


def test_a_mode_that_is_too_wide_is_mended(machine: ShellMachine) -> None:
    file = machine.root / "keys"
    file.write_text(f"{A}\n")
    file.chmod(0o664)
    outcome = machine.check_then_run(key_step(A, path=str(file)), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("mode", "0664", "0600")]
    assert file.read_text() == f"{A}\n"


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_the_file_may_have_any_name_and_no_folder(machine: ShellMachine, name: str) -> None:
    file = machine.root / name / name
    machine.check_then_run(key_step(B, path=str(file)), "changed")
    assert file.read_text() == f"{B}\n"


@pytest.mark.parametrize("text", ["", "# none", "x", f"{A}\nx", "-----BEGIN KEY-----\nAAAAC3"])
def test_what_is_no_key_is_refused(machine: ShellMachine, text: str) -> None:
    file = machine.root / "keys"
    outcome = machine.check_then_run(key_step(text, path=str(file), exclusive=True), "failed")
    assert "key" in outcome.stderr.text, result_message(outcome)
    assert not file.exists()


SSH = "/srv/orchtest/.ssh"


def test_a_users_own_file_is_made_as_sshd_wants_it(private: ShellMachine) -> None:
    run_in_copy(private, "useradd -m -d /srv/orchtest orchtest")
    outcome = private.check_then_run(key_step(A, user="orchtest"), "changed")
    assert [c.key for c in outcome.changes] == ["keys", "folder", "mode", "owner"]
    found = run_in_copy(private, f"stat -c '%a %U %G' {SSH} {SSH}/*; cat {SSH}/*; ls -A {SSH}")
    assert found == f"700 orchtest orchtest\n600 orchtest orchtest\n{A}\nauthorized_keys\n"
    run_in_copy(private, f"chmod 777 {SSH} {SSH}/*; chown -R root {SSH}")
    outcome = private.check_then_run(key_step(A, user="orchtest"), "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [
        ("folder", "0777 0"),
        ("mode", "0777"),
        ("owner", "0"),
    ]


def test_a_user_who_is_not_there_is_told_by_a_check_as_well(private: ShellMachine) -> None:
    for check in (True, False):
        outcome = private.run_step(key_step(A, user="orchtest"), check=check)
        assert outcome.status == "failed"
        assert "there is no user orchtest" in outcome.stderr.text, result_message(outcome)
    steps = [{"user": {"name": "orchtest"}}, key_step(A, user="orchtest")]
    assert private.run_steps(steps, check=True).statuses == ["would_change", "unknown"]
    run_in_copy(private, f"mkdir -p /.ssh; echo '{A}' >/.ssh/authorized_keys")
    private.check_then_run(key_step(A, user="orchtest", state="absent"), "ok")
    assert run_in_copy(private, "cat /.ssh/authorized_keys") == f"{A}\n"


def test_lines_of_one_key_in_a_loop_settle(machine: ShellMachine) -> None:
    file = machine.root / "keys"
    step = {**key_step("{{ item }}", path=str(file)), "loop": [HERE, PRESENT_KEY, SAYS_A]}
    assert machine.run_steps([step]).statuses == ["changed"] * 3
    assert machine.run_steps([step]).statuses == ["ok"] * 3
    assert file.read_text() == f"{HERE}\n{PRESENT_KEY}\n{SAYS_A}\n"


@pytest.mark.parametrize("link", [SSH, f"{SSH}/authorized_keys"])
def test_links_in_a_home_folder_are_not_followed(private: ShellMachine, link: str) -> None:
    run_in_copy(
        private,
        f"useradd -m -d /srv/orchtest orchtest; mkdir -m 700 -p /srv/x {link}; rmdir {link}",
    )
    run_in_copy(
        private, f"echo mine >/srv/x/authorized_keys; ln -s /srv/x{link[len(SSH) :]} {link}"
    )
    outcome = private.check_then_run(key_step(A, user="orchtest"), "failed")
    assert "is a link" in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "cat /srv/x/*; stat -c '%a %U' /srv/x") == "mine\n700 root\n"


@pytest.mark.parametrize("user", ["", "-n", "a/b", "a b", "a:b", "a\nb"])
def test_what_is_no_name_is_refused(machine: ShellMachine, user: str) -> None:
    outcome = machine.check_then_run(key_step(A, user=user), "failed")
    assert "not a valid user name" in outcome.stderr.text, result_message(outcome)


def _authorize(options: str, more: str = "") -> str:
    return f"- authorized_key: {{user: root, path: '{{{{ file }}}}', key: '{options} {A}'{more}}}\n"


_LOOP = _authorize("{{ item }}") + "  loop: [no-pty, restrict]\n"


def _check(project: OrchProject, steps: str, **environment: str) -> OrchResult:
    project.add_sandbox_stage("web1", "web2")
    project.write({"tasks/keys.yml": f"vars: {{file: /nowhere/keys}}\nsteps:\n{steps}"})
    return project.orch("-s", "dev", "run", "keys", "--check", **environment)


@pytest.mark.parametrize(
    ("steps", "other"),
    [
        (_LOOP, "that of the item 'no-pty'"),
        (_authorize("no-pty") + _authorize("restrict"), "the step at tasks/keys.yml:3:3"),
    ],
)
def test_two_sets_of_options_for_one_key_are_refused(
    project: OrchProject, steps: str, other: str
) -> None:
    done = _check(project, steps)
    assert done.code == 3, done.err
    assert f"this step and {other} set different values for key" in done.err
    assert ("(item 'restrict')" in done.err) == ("item" in steps)


def test_the_values_of_a_contradiction_are_not_quoted(project: OrchProject) -> None:
    """One may hold a secret, and the part of a secret in a shortened text cannot be masked."""
    role = "hosts: [web1, web2]\nvars: {pw: !secret {env: ORCH_PW}}\n"
    project.write({"inventories/dev/roles/web.yml": role})
    options = 'command="%s {{ pw }}"'
    steps = "".join(_authorize(options % (c * 180)) for c in "ab")
    done = _check(project, steps, ORCH_PW="correct-horse-battery")
    assert done.code == 3, done.err
    assert "set different values" in done.err
    assert "correct" not in done.err + done.out


@pytest.mark.parametrize(
    "steps",
    [
        _LOOP.replace("no-pty, restrict", "'from=\"10.0.0.1\"', 'from=\"10.0.0.2\"'"),
        _LOOP.replace("restrict", "no-pty"),
        _authorize("no-pty") + _authorize("restrict", ", state: absent"),
        _authorize("no-pty") + _authorize("restrict") + "  when: run.id == ''\n",
        _authorize("no-pty") + _authorize("restrict").replace("{{ file }}", "/nowhere/others"),
        _authorize("no-pty") + _authorize("restrict") + "  delegate_to: web2\n",
        _authorize("no-pty") + _authorize("restrict") + "  local: true\n",
        _authorize("no-pty") + f"- run: 'true'\n  notify: h\nhandlers:\n  h:\n"
        f"  {_authorize('restrict')}",
    ],
)
def test_options_of_one_key_that_do_not_contradict_are_let_through(
    project: OrchProject, steps: str
) -> None:
    done = _check(project, steps)
    assert done.code == 0, done.err
