"""No secret of a run is in its record or in the index, in any form that is masked."""

from __future__ import annotations

import base64
import shlex
import sqlite3
import urllib.parse
from pathlib import Path

from tests.projects import OrchProject

CANARY = "Zq7xVj9wKp2u$'YbQz8"
FORMS = (
    CANARY,
    CANARY.upper(),
    CANARY.lower(),
    base64.b64encode(CANARY.encode()).decode(),
    shlex.quote(CANARY),
    urllib.parse.quote(CANARY),
)
TASK = """
params: {word: {secret: true}, public: {default: not a secret}}
environment: {TOKEN: "{{ token }}"}
steps:
- {name: 'with {{ token }}', run: 'echo {{ token }} {{ word }} {{ public }}; printf "<%s>" "$TOKEN"'}
- {name: encoded, run: 'printf %s "$TOKEN" | base64; printf %s {{ word }} | base64 -w0'}
- {name: quoted, run: 'echo {{ token | upper }} {{ word | lower }} >&2'}
- {name: written, copy: {path: f, content: 'a {{ token }}'}}
- {name: failing, run: 'echo "$TOKEN" >&2; false'}
"""


def index_terms(root: Path) -> set[str]:
    """Return the trigrams in the index."""
    query = "SELECT name FROM sqlite_master WHERE sql LIKE '%USING fts5%'"
    terms: set[str] = set()
    with sqlite3.connect(root / ".orch" / "history.db") as database:
        for (table,) in database.execute(query).fetchall():
            database.execute(f"CREATE VIRTUAL TABLE temp.t USING fts5vocab(main, {table}, row)")
            terms |= {term for (term,) in database.execute("SELECT term FROM t")}
            database.execute("DROP TABLE temp.t")
    return terms


def test_no_secret_is_in_the_records_or_the_index(project: OrchProject) -> None:
    project.write(
        {
            "inventories/dev/stage.yml": """
                connect: {transport: sandbox}
                vars: {token: !secret {env: TOKEN_OF_TEST}}
                """,
            "inventories/dev/hosts/a1.yml": "",
            "tasks/t.yml": TASK,
        }
    )
    done = project.orch("-s", "dev", "run", "t", f"word={CANARY}", TOKEN_OF_TEST=CANARY)
    assert done.code == 1
    assert "‹" in done.out
    assert project.orch("search", "not a secret").code == 0
    assert project.orch("search", CANARY).code == 1
    files = [
        path
        for path in (project.root / ".orch").rglob("*")
        if path.is_file() and "sandbox" not in path.parts
    ]
    assert {"history.db", "run.json", "events.jsonl", "a1.log"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes().lower()
        assert not any(form.encode().lower() in data for form in FORMS), path
    terms = index_terms(project.root)
    assert "a s" in terms
    for form in FORMS:
        text = form.casefold()
        assert not terms & {text[n : n + 3] for n in range(len(text) - 2)}, form
