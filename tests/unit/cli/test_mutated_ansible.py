"""No mutated inventory of Ansible, and no mutated vault, causes a traceback or exit code 70."""

from __future__ import annotations

import textwrap
from pathlib import Path
from random import Random

import pytest

from orchestrator.cli.root_command import run_command_line
from orchestrator.errors import ExitCode
from orchestrator.yamlio.vault_format import encrypt_text
from tests.support.file_mutations import mutate_file

FINE = {ExitCode.OK, ExitCode.USAGE, ExitCode.DEFINITION}
STAGE = "inventories/prod"
FILES = {
    f"{STAGE}/hosts.ini": """\
        lonely ansible_host=10.0.0.1 note='a # b' list="[1, 'two', None]"
        [web]
        web[01:03:2].example.net:2222 weight=0x1f
        web1 ansible_user=deploy ansible_ssh_common_args='-o ProxyJump=lonely -C'
        [web:vars]
        port=80
        map={'a': 1, 'b': [True]}
        [db]
        db-[a:c] ansible_connection=local
        [site:children]
        web
        db
        [site:vars]
        ansible_group_priority=10
    """,
    f"{STAGE}/more.yml": """\
        all:
          vars: {zone: eu, mode: 0644, at: 1:30}
          children:
            cache:
              hosts:
                cache[1:2]: {ansible_port: 6379}
                "[::1]:22":
              vars: &shared
                size: 1e3
            queue:
              hosts: {q1: *shared}
    """,
    f"{STAGE}/group_vars/all/main.yml": """\
        greeting: "{{ inventory_hostname }} in {{ zone }} with {{ groups['db'] | length }}"
        enabled: yes
        when: 2026-01-01
        raw: !unsafe "{{ x }}"
        my-var: 1
        secret: !vault |
    """,
    f"{STAGE}/group_vars/web.json": '{"workers": 4, "env": "prod", "deep": {"a": [1, null]}}',
    f"{STAGE}/host_vars/web1": "rack: a1\nansible_become: true\n",
    "tasks/show.yml": """\
        roles: [web]
        steps:
          - run: echo {{ greeting }} {{ secret }} {{ hidden }} {{ vars['env'] }}
    """,
}
VAULT = f"{STAGE}/group_vars/all/vault.yml"
CALLS = (
    ("-s", "prod", "plan", "show", "--reveal"),
    ("-s", "prod", "hosts"),
    ("-s", "prod", "vars", "web1", "--origin"),
    ("-s", "prod", "lint"),
    ("-i", STAGE, "hosts", "-l", "site:&web"),
    ("vault", "view", VAULT),
)
SALT = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Write the unchanged files to the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("ORCH_VAULT_PASSWORD_FILE", "password")
    for name in ("ORCH_STAGE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    Path("password").write_text("open sesame\n")
    found = {name: textwrap.dedent(text).encode() for name, text in FILES.items()}
    value = encrypt_text(b"the value", b"open sesame", "prod", SALT)
    found[f"{STAGE}/group_vars/all/main.yml"] += textwrap.indent(value, "  ").encode()
    whole = encrypt_text(b"hidden: in the file\n", b"open sesame", salt=SALT)
    found[VAULT] = whole.encode()
    for name, data in found.items():
        write_file(name, data)
    return found


def write_file(name: str, data: bytes) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_files_are_valid(files: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    assert files
    for args in CALLS:
        code = run_command_line(args)
        assert (code, capsys.readouterr().err) == (0, "")


def try_mutations(
    files: dict[str, bytes], seeds: range, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mutate one file for each seed, and read it in one of the ways."""
    for seed in seeds:
        random = Random(seed)
        name = random.choice(list(files))
        args = random.choice(CALLS) if name != VAULT else random.choice((CALLS[0], CALLS[-1]))
        data = mutate_file(files[name], list(files.values()), random)
        write_file(name, data)
        print(f"seed {seed}: {name}: orch {' '.join(args)}")  # shown if the test hangs
        code = run_command_line(args)
        message = capsys.readouterr()
        location = (
            f"seed {seed}: {name}: orch {' '.join(args)}\n{data[:2000]!r}\n{message.err[-3000:]}"
        )
        assert code in FINE, location
        assert "Traceback" not in message.err, location
        assert code == ExitCode.OK or message.err.strip(), location
        write_file(name, files[name])


def test_some_mutated_files(files: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    try_mutations(files, range(60), capsys)


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
def test_thousands_of_mutated_files(
    part: int, files: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    try_mutations(files, range(1000 + part * 2000, 3000 + part * 2000), capsys)
