"""``text_block``: lines between two marks."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.sshd import make_separation_folder
from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import (
    check_nothing_left,
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)

BEGIN, END = "# BEGIN orch managed block\n", "# END orch managed block\n"
OURS = f"a\n{BEGIN}x\n{END}b\n"
WINDOWS = f"a\n{BEGIN}y\nz\n{END}b\n".replace("\n", "\r\n")

TABLE: list[tuple[str, dict[str, Any], str | None]] = [
    (OURS, {"block": "x\n"}, None),
    (OURS, {"block": "x"}, None),
    (OURS, {"block": "x", "before": "BOF"}, None),  # wherever it is
    (f"{BEGIN}{END}", {"block": ""}, None),
    (OURS.rstrip("\n"), {"block": "x"}, None),
    (f"{BEGIN}x\n{END}".rstrip("\n"), {"block": "x"}, None),
    ("", {"block": "x\ny"}, f"{BEGIN}x\ny\n{END}"),
    ("a", {"block": "x\n"}, f"a\n{BEGIN}x\n{END}"),
    ("a\nb\n", {"block": "x", "after": "a"}, f"a\n{BEGIN}x\n{END}b\n"),
    ("a\nb\n", {"block": "x", "before": "b"}, f"a\n{BEGIN}x\n{END}b\n"),
    ("a\nb", {"block": "x", "before": "BOF"}, f"{BEGIN}x\n{END}a\nb"),
    ("a\n", {"block": "x", "after": "nowhere"}, f"a\n{BEGIN}x\n{END}"),
    ("a\n", {"block": "", "after": "EOF"}, f"a\n{BEGIN}{END}"),
    ("a\n", {"block": "\n"}, f"a\n{BEGIN}\n{END}"),
    ("a\n", {"block": "\n\nx\n\n"}, f"a\n{BEGIN}\n\nx\n\n{END}"),
    (OURS, {"block": "y\nz\n"}, f"a\n{BEGIN}y\nz\n{END}b\n"),
    (OURS, {"block": ""}, f"a\n{BEGIN}{END}b\n"),
    (OURS, {"block": "x\n\n"}, f"a\n{BEGIN}x\n\n{END}b\n"),
    (f"{BEGIN}x\n\n{END}", {"block": "x\n"}, f"{BEGIN}x\n{END}"),
    (f"{BEGIN}\n{END}", {"block": ""}, f"{BEGIN}{END}"),
    (f"{BEGIN}{END}".rstrip("\n"), {"block": "x"}, f"{BEGIN}x\n{END}"),
    (OURS, {"block": "x", "name": "b"}, f"{OURS}# BEGIN b\nx\n# END b\n"),
    ("", {"block": "x", "marker": "<!-- {mark} -->"}, "<!-- BEGIN -->\nx\n<!-- END -->\n"),
    ("", {"block": "x", "marker": ";{name}{mark}", "name": "n"}, ";nBEGIN\nx\n;nEND\n"),
    (OURS, {"state": "absent"}, "a\nb\n"),
    (OURS, {"state": "absent", "block": "y"}, "a\nb\n"),
    (OURS, {"state": "absent", "name": "b"}, None),
    (f"{BEGIN}{END}", {"state": "absent"}, ""),
    (f"a\n{BEGIN}{END}b", {"state": "absent"}, "a\nb"),
    ("", {"state": "absent"}, None),
    # empty lines around it
    (
        "a\nb\n",
        {"block": "x", "after": "a", "blank_before": True, "blank_after": True},
        f"a\n\n{BEGIN}x\n{END}\nb\n",
    ),
    (f"a\n\n{BEGIN}x\n{END}\nb\n", {"block": "x", "blank_before": True, "blank_after": True}, None),
    (OURS, {"block": "x", "blank_before": True}, f"a\n\n{BEGIN}x\n{END}b\n"),
    (OURS, {"block": "y", "blank_after": True}, f"a\n{BEGIN}y\n{END}\nb\n"),
    ("a", {"block": "x", "blank_before": True, "blank_after": True}, f"a\n\n{BEGIN}x\n{END}"),
    ("", {"block": "x", "blank_before": True, "blank_after": True}, f"{BEGIN}x\n{END}"),
    ("a\r\n", {"block": "x", "blank_before": True}, f"a\n\n{BEGIN}x\n{END}".replace("\n", "\r\n")),
    (OURS, {"state": "absent", "blank_before": True}, "a\nb\n"),
    # where lines end in CR LF, its own do, too
    (OURS.replace("\n", "\r\n"), {"block": "x\n"}, None),
    (OURS.replace("\n", "\r\n"), {"block": "x\r\n"}, None),
    (OURS.replace("\n", "\r\n"), {"block": "y\nz"}, WINDOWS),
    ("a\r\nb\r\n", {"block": "y\nz", "after": "^a$"}, WINDOWS),
    ("a\r\nb\r\n", {"block": "y\r\nz\r\n", "before": "^b$"}, WINDOWS),
    ("a\r\nb", {"block": ""}, f"a\nb\n{BEGIN}{END}".replace("\n", "\r\n")),
    (WINDOWS, {"state": "absent"}, "a\r\nb\r\n"),
]


@pytest.mark.long
def test_texts_before_and_after(machine: ShellMachine) -> None:
    steps = []
    for n, (start, arguments, _) in enumerate(TABLE):
        path = machine.root / f"{n}"
        path.write_bytes(start.encode())
        path.chmod(0o604)
        steps.append({"text_block": {"path": str(path), **arguments}})
    asked, done = machine.run_steps(steps, check=True), machine.run_steps(steps)
    again = machine.run_steps(steps)
    for n, (start, arguments, after) in enumerate(TABLE):
        path = machine.root / f"{n}"
        about = f"{start!r} {arguments} {result_message(done.outcomes[n])}"
        assert path.read_bytes().decode() == (start if after is None else after), about
        assert done.statuses[n] == ("ok" if after is None else "changed"), about
        assert asked.statuses[n] == done.statuses[n].replace("changed", "would_change"), about
        assert asked.outcomes[n].changes == done.outcomes[n].changes, about
        assert again.statuses[n] == "ok", about
        assert file_mode(path) == "0604"
    assert len(folder_contents(machine.root)) == len(TABLE)


def test_blocks_of_any_name_and_text_stand_side_by_side(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("")
    names = [name for name in ODD_NAMES if "\n" not in name]
    steps = [
        {"text_block": {"path": str(path), "name": n, "block": f"{n} & \\1 /\n\n{n}\n"}}
        for n in names
    ]
    assert set(machine.run_steps(steps).statuses) == {"changed"}
    assert set(machine.run_steps(steps).statuses) == {"ok"}
    blocks = [f"# BEGIN {n}\n{n} & \\1 /\n\n{n}\n# END {n}\n" for n in names]
    assert path.read_text() == "".join(blocks)
    gone = [{"text_block": {"path": str(path), "name": n, "state": "absent"}} for n in names[1:]]
    assert set(machine.run_steps(gone).statuses) == {"changed"}
    assert path.read_text() == blocks[0]


def test_files_of_any_name_are_made_if_told_to(machine: ShellMachine) -> None:
    more = {"create": True, "block": "x", "mode": "0600", "group": 77}
    for path in odd_names(machine, lambda p: {"text_block": {"path": str(p), **more}}):
        assert (path.read_text(), file_mode(path)) == (f"{BEGIN}x\n{END}", "0600")
        assert path.stat().st_gid == 77
    step = {"path": str(machine.root / "it"), "block": "x"}
    check_refuses(machine, {"text_block": step}, "`create: true` makes it")
    machine.check_then_run({"text_block": {**step, "state": "absent"}}, "ok")


def test_the_block_before_and_after_and_the_whole_text_are_told(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text(OURS)
    outcome = machine.check_then_run(
        {"text_block": {"path": str(path), "block": "x\ny\n"}}, "changed"
    )
    assert outcome_changes(outcome) == {"block": ("x\n", "x\ny\n")}
    assert "+y" in outcome.diff.splitlines()
    outcome = machine.check_then_run(
        {"text_block": {"path": str(path), "state": "absent"}}, "changed"
    )
    assert outcome_changes(outcome) == {"state": ("present", "absent")}


@pytest.mark.parametrize(
    ("text", "params", "message"),
    [
        (BEGIN, {}, "must occur exactly once"),
        (END, {}, "must occur exactly once"),
        (f"{BEGIN}{BEGIN}{END}", {"state": "absent"}, "must occur exactly once"),
        (f"{BEGIN}{END}{BEGIN}{END}", {}, "must occur exactly once"),
        (f"{END}{BEGIN}", {}, "is before"),
        ("", {"marker": "# x"}, "must contain {mark}"),
        ("", {"name": "a\nb"}, "contains a newline"),
        ("", {"block": f"x\n{END}"}, "contains its own marker"),
        ("", {"block": BEGIN.rstrip("\n")}, "contains its own marker"),
        ("", {"after": "a", "before": "b"}, "exclude each other"),
        ("", {"after": "("}, "grep"),
        ("a\0", {}, "contains NUL bytes"),
    ],
)
def test_what_makes_no_sense_is_refused(
    machine: ShellMachine, text: str, params: dict[str, str], message: str
) -> None:
    (machine.root / "it").write_text(text)
    step = {"path": str(machine.root / "it"), "block": "new", **params}
    check_refuses(machine, {"text_block": step}, message)


def test_the_new_text_is_tried_and_the_old_one_kept(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("a\n")
    step = {"path": str(path), "block": "b", "backup": True}
    with check_nothing_left(machine.root.parent / "tmp", machine):
        bad = {"text_block": {**step, "validate": "! grep -q b %s"}}
        check_refuses(machine, bad, "not valid: ! grep -q b %s (exit status 1)")
        machine.check_then_run({"text_block": {**step, "validate": "grep -q b %s"}}, "changed")
    kept = next(p for p in machine.root.iterdir() if p != path)
    assert (path.read_text(), kept.read_text()) == (f"a\n{BEGIN}b\n{END}", "a\n")


@pytest.mark.parametrize(
    ("start", "params", "after"),
    [
        ("a\n", {"block": "b"}, f"a\n{BEGIN}b\n{END}"),
        ("a\nz\n", {"block": "b", "after": "^a"}, f"a\n{BEGIN}b\n{END}z\n"),
        (OURS, {"block": "y\nz"}, f"a\n{BEGIN}y\nz\n{END}b\n"),
        (OURS, {"state": "absent"}, "a\nb\n"),
    ],
)
def test_what_is_tried_is_the_new_text_as_a_whole(
    machine: ShellMachine, start: str, params: dict[str, str], after: str
) -> None:
    path, expected = machine.root / "it", machine.root / "wanted"
    path.write_text(start)
    expected.write_text(after)
    step = {"path": str(path), **params}
    check_refuses(
        machine, {"text_block": {**step, "validate": f"! cmp -s %s {expected}"}}, "not valid"
    )
    machine.check_then_run({"text_block": {**step, "validate": f"cmp %s {expected}"}}, "changed")
    assert path.read_text() == after


def test_sshd_tries_its_new_configuration(machine: ShellMachine) -> None:
    path = machine.root / "sshd_config"
    make_separation_folder()
    ssh_keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(machine.root / "key")]
    subprocess.run(ssh_keygen, check=True)
    start = f"HostKey {machine.root}/key\n"
    path.write_text(start)
    step = {"path": str(path), "validate": "sshd -t -f %s"}
    bad = {"text_block": {**step, "block": "Match Nobody\n"}}
    check_refuses(machine, bad, "not valid: sshd -t -f %s")
    good = {**step, "block": "Match User backup\nPermitTTY no"}
    machine.check_then_run({"text_block": good}, "changed")
    assert path.read_text() == f"{start}{BEGIN}Match User backup\nPermitTTY no\n{END}"
