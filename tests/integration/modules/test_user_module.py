"""``user_step``: what it finds, what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy

HASH = "$6$salt$pK9$(id)`id`'"
REFUSED = ["with space", 'say "hi"', "a\nb", "-n", "--help", "~", "#x"]


def user_step(**params: Any) -> dict[str, Any]:
    return {"user": {"name": "orchtest", **params}}


def passwd_entry(machine: ShellMachine) -> str:
    return run_in_copy(machine, "getent passwd orchtest || :").rstrip("\n")


def user_groups(machine: ShellMachine) -> set[str]:
    return set(run_in_copy(machine, "id -Gn orchtest").split())


def test_a_user_is_made_as_asked_for(private: ShellMachine) -> None:
    run_in_copy(private, "groupadd -g 7000 orchtestg; groupadd orchtesth")
    arguments = {
        "uid": 7001,
        "group": "orchtestg",
        "groups": ["orchtesth", "games"],
        "home": "/srv/the home",
        "shell": "/bin/bash",
        "comment": "über $(id) 'x'",
        "password_hash": HASH,
    }
    outcome = private.check_then_run(user_step(**arguments), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("state", "absent", "present"),
        ("uid", None, "7001"),
        ("group", None, "orchtestg"),
        ("home", None, "/srv/the home"),
        ("shell", None, "/bin/bash"),
        ("comment", None, "über $(id) 'x'"),
        ("groups", None, "orchtesth games"),
        ("password", None, "as given"),
    ]
    assert passwd_entry(private) == "orchtest:x:7001:7000:über $(id) 'x':/srv/the home:/bin/bash"
    assert user_groups(private) == {"orchtestg", "orchtesth", "games"}
    assert f"\northtest:{HASH}:".replace("orth", "orch") in run_in_copy(private, "cat /etc/shadow")
    assert run_in_copy(private, "stat -c %U '/srv/the home'") == "orchtest\n"


def test_a_user_is_made_with_what_the_host_gives(private: ShellMachine) -> None:
    private.check_then_run(user_step(), "changed")
    assert user_groups(private) == {"orchtest"}
    home = passwd_entry(private).split(":")[5]
    assert run_in_copy(private, f"stat -c %U {home}") == "orchtest\n"
    assert int(passwd_entry(private).split(":")[2]) >= 1000


def test_a_system_user_without_a_home_folder_joins_the_group_of_its_name(
    private: ShellMachine,
) -> None:
    run_in_copy(private, "groupadd -g 7000 orchtest")
    private.check_then_run(user_step(system=True, create_home=False), "changed")
    fields = passwd_entry(private).split(":")
    assert int(fields[2]) < 1000
    assert fields[3] == "7000"
    assert run_in_copy(private, f"[ -e '{fields[5]}' ] || echo none") == "none\n"


CHANGES: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"uid": 7002}, "uid", "7001", "7002"),
    ({"group": "games"}, "group", "orchtest", "games"),
    ({"group": "60"}, "group", "orchtest", "60"),
    ({"home": "/tmp/x"}, "home", "/srv/orchtest", "/tmp/x"),
    ({"shell": "/bin/bash"}, "shell", "/bin/sh", "/bin/bash"),
    ({"comment": "neu"}, "comment", "old", "neu"),
    ({"comment": ""}, "comment", "old", ""),
    ({"groups": ["mail"]}, "groups", "games", "mail"),
    ({"groups": ["mail", "games"]}, "groups", "games", "mail games"),
    ({"groups": []}, "groups", "games", ""),
    ({"groups": [8]}, "groups", "games", "8"),
    ({"groups": ["8", "games"]}, "groups", "games", "8 games"),
    ({"groups": [8], "append": True}, "groups", "", "8"),
    ({"groups": ["mail"], "append": True}, "groups", "", "mail"),
    ({"password_hash": HASH}, "password", "different", "as given"),
    ({"state": "absent"}, "state", "present", "absent"),
]
SAME: list[dict[str, Any]] = [
    {},
    {"uid": 7001, "group": "orchtest", "home": "/srv/orchtest", "comment": "old"},
    {"group": "7001"},
    {"groups": ["games"]},
    {"groups": [60]},
    {"groups": ["60", "games"]},
    {"groups": ["games", "orchtest"]},
    {"groups": ["games"], "append": True},
    {"groups": [], "append": True},
    {"system": True, "create_home": False},
]
START = (
    "groupadd -g 7001 orchtest; "
    "useradd -u 7001 -g 7001 -m -d /srv/orchtest -s /bin/sh -c old -G games orchtest"
)
END = "userdel -r orchtest 2>/dev/null || :; groupdel orchtest 2>/dev/null || :"


def test_of_a_user_that_is_there_what_differs_is_changed(private: ShellMachine) -> None:
    for arguments, key, before, after in CHANGES:
        run_in_copy(private, START)
        outcome = private.check_then_run(user_step(**arguments), "changed")
        assert [(c.key, c.before, c.after) for c in outcome.changes] == [(key, before, after)]
        run_in_copy(private, END)


def test_of_a_user_that_is_as_asked_for_nothing_is_changed(private: ShellMachine) -> None:
    run_in_copy(private, START)
    for arguments in SAME:
        private.check_then_run(user_step(**arguments), "ok")


def test_more_groups_than_asked_for_are_left_with_append_only(private: ShellMachine) -> None:
    run_in_copy(private, START)
    private.check_then_run(user_step(groups=["mail"], append=True), "changed")
    assert user_groups(private) == {"orchtest", "games", "mail"}
    private.check_then_run(user_step(groups=["mail"]), "changed")
    assert user_groups(private) == {"orchtest", "mail"}


@pytest.mark.parametrize("remove", [True, False])
def test_a_home_folder_stays_unless_it_is_to_be_removed(
    private: ShellMachine, remove: bool
) -> None:
    run_in_copy(private, START)
    private.check_then_run(user_step(state="absent", remove=remove), "changed")
    assert passwd_entry(private) == ""
    found = run_in_copy(private, "[ -e /srv/orchtest ] && echo there || echo gone")
    assert found == ("gone\n" if remove else "there\n")
    private.check_then_run(
        user_step(state="absent", remove=remove, password_hash=HASH, uid=7), "ok"
    )


@pytest.mark.parametrize("name", [*REFUSED, "", "a:b", "a,b"])
def test_what_is_no_name_makes_no_user(private: ShellMachine, name: str) -> None:
    before = run_in_copy(private, "cat /etc/passwd /etc/group")
    outcome = private.check_then_run({"user": {"name": name}}, "failed")
    assert outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "cat /etc/passwd /etc/group") == before


def test_what_the_tool_takes_as_a_name_is_that_name(private: ShellMachine) -> None:
    for name in ("it's", "$(id)", "über", "back\\slash"):
        private.check_then_run(
            {"user": {"name": name, "create_home": False, "password_hash": HASH}}, "changed"
        )
        assert f"\n{name}:x:" in run_in_copy(private, "cat /etc/passwd")
        private.check_then_run({"user": {"name": name, "state": "absent"}}, "changed")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"group": "orchnone"}, "there is no group orchnone"),
        ({"group": "64123"}, "there is no group 64123"),
        ({"groups": ["games", "orchnone"]}, "there is no group orchnone"),
        ({"groups": [64123]}, "there is no group 64123"),
        ({"uid": 0}, "0 is root's number"),
    ],
)
def test_what_the_host_does_not_have_is_found_by_a_check(
    private: ShellMachine, params: dict[str, Any], message: str
) -> None:
    for start in ("", START):
        run_in_copy(private, start)
        for check in (True, False):
            outcome = private.run_step(user_step(**params), check=check)
            assert outcome.status == "failed"
            assert message in outcome.stderr.text, result_message(outcome)


def test_a_path_may_begin_with_the_own_home(private: ShellMachine) -> None:
    run_in_copy(private, START)
    private.check_then_run(user_step(shell="~/sh", home="~/of others"), "changed")
    assert passwd_entry(private).endswith(f":{private.home}/of others:{private.home}/sh")


def test_that_root_is_needed_is_said_by_a_check_as_well(private: ShellMachine) -> None:
    run_in_copy(private, f"{START}; chown nobody '{private.home}'")
    private.wrapper = (*private.wrapper, "/usr/bin/setpriv", "--reuid=nobody", "--clear-groups")
    steps: list[dict[str, Any]] = [
        user_step(shell="/bin/bash"),
        user_step(state="absent"),
        user_step(password_hash=HASH),
        {"group": {"name": "orchnone"}},
        {"package": {"name": "dash", "state": "absent"}},
        {"hostname": {"name": "orchtest"}},
        {"sysctl": {"name": "net.ipv4.ip_local_port_range", "value": "2000 3000"}},
    ]
    for step in steps:
        for check in (True, False):
            outcome = private.run_step(step, check=check)
            assert outcome.status == "failed"
            assert "this needs root: `become: true`" in outcome.stderr.text, result_message(outcome)
    for same in (user_step(shell="/bin/sh"), {"package": {"name": "dash"}}):
        private.check_then_run(same, "ok")


def test_a_host_without_the_tools_is_told_by_a_check_as_well(private: ShellMachine) -> None:
    tools = "useradd usermod userdel adduser deluser groupadd groupmod groupdel addgroup delgroup"
    run_in_copy(
        private, f"{START}; groupadd orchtesth; for each in {tools}; do rm -f /usr/sbin/$each; done"
    )
    steps = [user_step(uid=7002), user_step(state="absent")]
    steps += [{"group": {"name": "orchnone"}}, {"group": {"name": "orchtesth", "state": "absent"}}]
    for step in steps:
        for check in (True, False):
            outcome = private.run_step(step, check=check)
            assert outcome.status == "failed"
            assert "this host has no " in outcome.stderr.text, result_message(outcome)


@pytest.mark.parametrize("params", [{"shell": "a:b"}, {"comment": "a:b"}])
def test_what_the_tool_refuses_is_a_failure(private: ShellMachine, params: dict[str, Any]) -> None:
    run_in_copy(private, START)
    before = run_in_copy(private, "cat /etc/passwd /etc/group")
    outcome = private.check_then_run(user_step(**params), "failed")
    assert outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "cat /etc/passwd /etc/group") == before


@pytest.mark.parametrize("params", ["x\nroot:x", "a:b", " "])
def test_a_hash_cannot_be_the_password_of_another(private: ShellMachine, params: str) -> None:
    before = run_in_copy(private, "cat /etc/shadow")
    outcome = private.check_then_run(user_step(password_hash=params), "failed")
    assert "hash" in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "cat /etc/shadow") == before


def test_of_a_password_that_differs_neither_hash_is_told(private: ShellMachine) -> None:
    run_in_copy(private, f"{START}; usermod -p oldhash orchtest")
    outcome = private.check_then_run(user_step(password_hash="$y$new"), "changed")
    everything = f"{outcome.changes} {outcome.stdout.text} {outcome.stderr.text} {outcome.diff}"
    assert "oldhash" not in everything
    assert "$y$new" not in everything


def test_a_password_is_locked_and_set_once(private: ShellMachine) -> None:
    step = user_step(password_hash=HASH, locked=True, update_password="on_create")
    outcome = private.check_then_run(step, "changed")
    assert [c.key for c in outcome.changes] == ["state", "password", "locked"]
    shadow = "getent shadow orchtest | cut -d: -f2"
    assert run_in_copy(private, shadow) == f"!{HASH}\n"
    other = user_step(password_hash="$6$other", locked=True, update_password="on_create")
    private.check_then_run(other, "ok")
    outcome = private.check_then_run(user_step(password_hash="$6$other", locked=False), "changed")
    assert [c.key for c in outcome.changes] == ["password", "locked"]
    assert run_in_copy(private, shadow) == "$6$other\n"
    private.check_then_run(user_step(locked=True), "changed")
    private.check_then_run(user_step(locked=False), "changed")
    run_in_copy(private, "usermod -p '!' orchtest")
    for locked in (True, False):  # without a password
        private.check_then_run(user_step(locked=locked), "ok")


def test_an_account_expires(private: ShellMachine) -> None:
    private.check_then_run(user_step(expires="2027-01-31"), "changed")
    private.check_then_run(user_step(expires=1801353600), "ok")  # in the same day
    outcome = private.check_then_run(user_step(expires="2028-02-29"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("expires", "2027-01-31", "2028-02-29")
    ]
    assert run_in_copy(private, "getent shadow orchtest | cut -d: -f8") == "21243\n"
    private.check_then_run(user_step(expires="-1"), "changed")
    private.check_then_run(user_step(expires="never"), "ok")
    for day in ("soon", "2027-1-31", "-2", ""):
        if day:
            outcome = private.check_then_run(user_step(expires=day), "failed")
            assert "must be like 2027-01-31" in outcome.stderr.text, result_message(outcome)


def test_a_user_gets_a_key(private: ShellMachine) -> None:
    step = user_step(ssh_key=True, ssh_key_type="ed25519", ssh_key_comment="it's $(id)")
    outcome = private.check_then_run(step, "changed")
    assert [c.key for c in outcome.changes] == ["state", "ssh_key"]
    folder = "~orchtest/.ssh"
    assert run_in_copy(private, f"stat -c '%U %a' {folder} {folder}/id_ed25519") == (
        "orchtest 700\northtest 600\n".replace("orth", "orch")
    )
    assert run_in_copy(private, f"cut -d' ' -f3- {folder}/id_ed25519.pub") == "it's $(id)\n"
    private.check_then_run(
        user_step(ssh_key=True, ssh_key_bits=1024, ssh_key_file="a key"), "changed"
    )
    assert "1024" in run_in_copy(private, "ssh-keygen -lf ~orchtest/'a key'")


def test_files_come_along(private: ShellMachine) -> None:
    run_in_copy(private, "mkdir '/srv/a skel'; echo it >'/srv/a skel/file'")
    private.check_then_run(user_step(skeleton="/srv/a skel", uid=7001), "changed")
    assert run_in_copy(private, "cat ~orchtest/file") == "it\n"
    private.check_then_run(user_step(home="/srv/new", move_home=True), "changed")
    assert run_in_copy(private, "cat /srv/new/file") == "it\n"
    step = {"user": {"name": "orchother", "uid": 7001}}
    assert "is orchtest's number" in private.check_then_run(step, "failed").stderr.text
    step["user"]["non_unique"] = True
    private.check_then_run(step, "changed")
