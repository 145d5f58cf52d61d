"""``sysctl``: what it finds, what it makes of it."""

from __future__ import annotations

import pytest

from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.private_copy import run_in_copy

NAME = "net.ipv4.ip_local_port_range"  # of the private machine's own network
FILE = "/etc/sysctl.d/90-orch.conf"


def sysctl_step(**more: object) -> dict[str, object]:
    return {"sysctl": {"name": NAME, "value": "2000 3000", **more}}


BEFORE = {
    "": f"{NAME} = 2000 3000\n",
    "# all\n\nvm.swappiness=1": f"# all\n\nvm.swappiness=1\n{NAME} = 2000 3000\n",
    f"a=1\n {NAME}=1 2\n;b\n{NAME} = 3 4\n\\c\n": f"a=1\n{NAME} = 2000 3000\n;b\n\\c\n",
    f"-{NAME}=1 2\n#{NAME}=5\n": f"{NAME} = 2000 3000\n#{NAME}=5\n",
    f"a=1\n{NAME.replace('.', '/')}=1 2\n-{NAME.replace('.', '/')} = 5\n": (
        f"a=1\n{NAME} = 2000 3000\n"
    ),
    f"{NAME}\n{NAME}.x=1\n": f"{NAME}\n{NAME}.x=1\n{NAME} = 2000 3000\n",
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_parameter_is_kept_in_its_file_once(machine: ShellMachine, before: str) -> None:
    file = machine.root / "it.conf"
    file.write_text(before)
    file.chmod(0o640)
    machine.check_then_run(sysctl_step(file=str(file), apply=False), "changed")
    assert file.read_text() == BEFORE[before]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(machine.root.iterdir()) == [file]


def test_blanks_do_not_count(machine: ShellMachine) -> None:
    file = machine.root / "it.conf"
    file.write_text(f" {NAME}\t= 2000 \t 3000 \n")
    machine.check_then_run(sysctl_step(value=" 2000\t3000\n", file=str(file), apply=False), "ok")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_file_may_have_any_name_and_be_missing(machine: ShellMachine, name: str) -> None:
    file = machine.root / name / name
    outcome = machine.check_then_run(sysctl_step(file=str(file), apply=False), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("kept", None, "2000 3000")]
    assert file.read_text() == f"{NAME} = 2000 3000\n"


def test_behind_a_link_the_file_is_changed(machine: ShellMachine) -> None:
    file, link = machine.root / "it.conf", machine.root / "link"
    file.write_text("a=1\n")
    link.symlink_to("it.conf")
    machine.check_then_run(sysctl_step(file=str(link), apply=False), "changed")
    assert link.is_symlink()
    assert file.read_text() == f"a=1\n{NAME} = 2000 3000\n"


@pytest.mark.parametrize("name", [*ODD_NAMES[1:], "", "a..b", "/etc/x", "a/../../b", "vm."])
def test_what_is_no_parameter_is_refused(machine: ShellMachine, name: str) -> None:
    file = machine.root / "it.conf"
    outcome = machine.check_then_run(sysctl_step(name=name, file=str(file)), "failed")
    assert "is not a kernel parameter" in outcome.stderr.text, result_message(outcome)
    assert not file.exists()


@pytest.mark.parametrize("name", [NAME, NAME.replace(".", "/")])
def test_a_parameter_is_set_now_and_kept(private: ShellMachine, name: str) -> None:
    run_in_copy(private, f"sysctl -q -w {NAME}='1500 2500'; mkdir -p /etc/sysctl.d")
    outcome = private.check_then_run(sysctl_step(name=name), "changed")
    found = [(c.key, c.before) for c in outcome.changes]
    assert found == [("running", "1500 2500"), ("kept", None)]
    assert (
        run_in_copy(private, f"sysctl -n {NAME}; cat {FILE}") == f"2000\t3000\n{name} = 2000 3000\n"
    )
    assert run_in_copy(private, f"stat -c %a {FILE}") == "644\n"
    run_in_copy(private, f"sysctl -q -w {NAME}='1500 2500'")
    assert [c.key for c in private.check_then_run(sysctl_step(name=name), "changed").changes] == [
        "running"
    ]


@pytest.mark.parametrize(("name", "value"), [("net.ipv4.orch_none", "1"), (NAME, "some")])
def test_what_the_kernel_refuses_is_not_kept(private: ShellMachine, name: str, value: str) -> None:
    step = {"sysctl": {"name": name, "value": value}}
    foretold = private.run_step(step, check=True)
    if name != NAME:
        assert f"the kernel has no parameter {name}" in foretold.stderr.text, result_message(
            foretold
        )
    outcome = private.check_then_run(step, "failed")
    assert outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, f"cat {FILE} 2>/dev/null || :") == ""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("net.ipv4.x", "net/ipv4/x"),
        ("net/ipv4/x", "net.ipv4.x"),
        ("net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"),
        ("single", "single"),
    ],
)
def test_a_parameter_is_the_same_in_either_spelling(
    machine: ShellMachine, name: str, line: str
) -> None:
    file = machine.root / "it.conf"
    file.write_text(f"{line} = 1\n")
    step = {"sysctl": {"name": name, "value": "1", "file": str(file), "apply": False}}
    machine.check_then_run(step, "ok")
    step["sysctl"]["value"] = "2"
    machine.check_then_run(step, "changed")
    assert file.read_text() == f"{name} = 2\n"


def test_a_parameter_is_taken_out_of_its_file(machine: ShellMachine) -> None:
    file = machine.root / "it.conf"
    file.write_text(f"a=1\n{NAME}=1 2\n#{NAME}=5\n-{NAME.replace('.', '/')} = 5\n")
    step = {"sysctl": {"name": NAME, "state": "absent", "file": str(file)}}
    outcome = machine.check_then_run(step, "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("kept", "5", "")]
    assert file.read_text() == f"a=1\n#{NAME}=5\n"
    file.write_text(f"{NAME}=1\n")
    machine.check_then_run(step, "changed")
    assert not file.exists()
    outcome = machine.check_then_run({"sysctl": {"name": NAME}}, "failed")
    assert "`value` is missing" in outcome.stderr.text


def test_what_the_kernel_may_have_later_is_kept(machine: ShellMachine) -> None:
    file = machine.root / "it.conf"
    step = {"name": "net.orch_none", "value": " 1  2", "file": str(file), "ignore_unknown": True}
    machine.check_then_run({"sysctl": step}, "changed")
    assert file.read_text() == "net.orch_none = 1 2\n"
