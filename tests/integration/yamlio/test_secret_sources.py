"""``!secret`` as files say it, and asking where it comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, Diagnostic, UsageError
from orchestrator.model.secret import Secret, SecretResolver
from orchestrator.yamlio.secret_sources import secret_fetcher
from orchestrator.yamlio.yaml_loader import parse_yaml


def load_secret(text: str, shown: str = "inventories/dev/stage.yml") -> Secret:
    value = parse_yaml(text, shown, secrets=True)
    while isinstance(value.data, dict):
        (value,) = value.data.values()
    assert isinstance(value.data, Secret)
    return value.data


def secret_problem(text: str) -> Diagnostic:
    with pytest.raises(DefinitionError) as error:
        parse_yaml(text, "f.yml", secrets=True)
    (problem,) = error.value.diagnostics
    return problem


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("vars:\n  pw: !secret {env: X}\n", "pw"),
        ("vars: {db: {pw: !secret {env: X}}}", "db.pw"),
        ("web1: {vars: {pw: !secret {env: X}}}", "pw"),
        ("environment: {PGPASSWORD: !secret {env: X}}", "PGPASSWORD"),
        ("pw: !secret {env: X}", "pw"),
    ],
)
def test_a_secret_has_the_name_of_its_variable(text: str, name: str) -> None:
    assert load_secret(text).name == name


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("a: !secret {env: DB}", "env", ("DB",)),
        ("a: !secret {command: [sops, -d, 1]}", "command", ("sops", "-d", "1")),
        ("a: !secret\n  file: pw.txt", "file", ("pw.txt",)),
        ('a: !secret {prompt: "DB password"}', "prompt", ("DB password",)),
    ],
)
def test_a_secret_says_where_it_comes_from(text: str, kind: str, words: tuple[str, ...]) -> None:
    secret = load_secret(text)
    assert (secret.kind, secret.words, secret.mark.line) == (kind, words, 1)
    assert secret.folder == ("inventories/dev" if kind in ("file", "command") else "")


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("a: !secret hunter2", 4, "!secret must be a mapping"),
        ("a: !secret [env, X]", 4, "!secret must be a mapping"),
        ("a: !secret {}", 4, "!secret must be a mapping"),
        ("a: !secret {vault: X}", 13, "unknown key 'vault'"),
        ("a: !secret {env: X, file: y}", 4, "!secret has both env and file"),
        ("a: !secret {env: }", 18, "must be text, found nothing"),
        ("a: !secret {env: [X]}", 18, "must be text, found a list"),
        ("a: !secret {env: ' '}", 18, "is blank"),
        ("a: !secret {command: cat x}", 22, "must be a list of words"),
        ("a: !secret {command: []}", 22, "must be a list of words"),
        ("a: !secret {command: [a, [b]]}", 26, "a word of command must be text"),
        ("a: !secret {env: '{{ x }}'}", 18, "is a template"),
    ],
)
def test_anything_else_is_wrong_at_its_place(text: str, column: int, what: str) -> None:
    problem = secret_problem(text)
    assert problem.mark is not None
    assert (problem.mark.column, problem.mark.line) == (column, 1)
    assert what in problem.message
    assert "hunter2" not in problem.message


def fetch_secret(text: str, tmp_path: Path, **environ: str) -> str:
    secret = load_secret(text, str(tmp_path / "stage.yml"))
    return secret_fetcher({"PATH": os.environ["PATH"], **environ})(secret)


def test_a_variable_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fetch_secret("a: !secret {env: X}", tmp_path, X="s3cret\n") == "s3cret\n"


@pytest.mark.parametrize("text", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_file_beside_the_one_that_names_it_loses_its_final_newline(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "pw").write_bytes(text.encode())
    assert fetch_secret("a: !secret {file: pw}", tmp_path) == "s3cret"


def test_a_command_runs_beside_the_file_with_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret\n\n")
    text = "a: !secret {command: [sh, -c, 'cat pw; cat']}"
    assert fetch_secret(text, tmp_path) == "s3cret\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{env: NONE}", "variable NONE, the source of 'a', is not set"),
        ("{file: none}", "no such file"),
        ("{file: .}", "is a directory"),
        ("{command: [no-such-program]}", "cannot be run: no such file"),
        ("{command: [sh, -c, 'echo no key >&2; exit 3']}", "failed: exit status 3\nno key"),
        ("{command: [sh, -c, 'kill -9 $$']}", "killed by signal 9"),
        ("{command: [printf, '\\377']}", "does not contain UTF-8"),
    ],
)
def test_what_cannot_be_fetched_is_told_at_the_secret(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(DefinitionError) as error:
        fetch_secret(f"a: !secret {text}", tmp_path)
    (problem,) = error.value.diagnostics
    assert what in problem.message
    assert problem.mark is not None
    assert problem.mark.line == 1


def test_a_failing_command_does_not_show_what_it_printed(tmp_path: Path) -> None:
    text = "a: !secret {command: [sh, -c, 'echo hunter22; echo bad: hunter22 >&2; exit 1']}"
    with pytest.raises(DefinitionError) as error:
        fetch_secret(text, tmp_path)
    assert error.value.diagnostics[0].message.endswith("exit status 1\nbad: ‹a›")


def test_a_source_is_asked_once_whoever_names_it(tmp_path: Path) -> None:
    asked = []

    def fetch(secret: Secret) -> str:
        asked.append(secret)
        if secret.words == ("BAD",):
            raise UsageError("no")
        return "s3cret"

    secrets = SecretResolver(fetch_secret=fetch)
    for text in ("a: !secret {env: X}", "b: !secret {env: X}"):
        assert secrets.resolve_secret(load_secret(text)) == "s3cret"
    for _ in range(2):
        with pytest.raises(UsageError):
            secrets.resolve_secret(load_secret("c: !secret {env: BAD}"))
    assert [secret.words for secret in asked] == [("X",), ("BAD",)]


@pytest.mark.parametrize("text", ["", "abc", " a \n"])
def test_what_cannot_be_hidden_is_refused(text: str) -> None:
    secrets = SecretResolver(fetch_secret=lambda _: text)
    with pytest.raises(DefinitionError, match="cannot be masked"):
        secrets.resolve_secret(load_secret("a: !secret {env: X}"))
