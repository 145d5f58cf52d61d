"""The modules of PostgreSQL, on a real server of PostgreSQL."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.planner.returned_values import parse_values
from orchestrator.remote_shell import module_protocol
from tests.integration.modules.test_process_arguments import load_module
from tests.support.database_servers import PostgresServer, serve_postgres
from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import check_refuses
from tests.support.watched_commands import watch_commands


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serve_postgres() as server:
        yield server


@pytest.fixture
def postgres(server: PostgresServer) -> Iterator[PostgresServer]:
    """Yield the server; the databases and roles that a test makes are removed."""
    yield server
    found = server.query(
        "SELECT format('DROP DATABASE %I WITH (FORCE);', datname) FROM pg_database "
        "WHERE datname <> 'postgres' AND NOT datistemplate"
    )
    roles = server.query(
        "SELECT format('DROP ROLE %I;', rolname) FROM pg_roles "
        "WHERE rolname NOT IN ('postgres', 'locked') AND rolname !~ '^pg_'"
    )
    server.query(f"{found}\n{roles}")


LONG_NAMES = [
    pytest.param(name, marks=pytest.mark.long) for name in (*ODD_NAMES, "\\", "'\\'' || '")
]


def database(postgres: PostgresServer, **params: Any) -> dict[str, dict[str, Any]]:
    return {"postgres_db": {"name": "shop", **postgres.login, **params}}


def states(outcome: Any) -> dict[str, tuple[str | None, str]]:
    return {each.key: (each.before, each.after) for each in outcome.changes}


def test_a_database_is_made_changed_and_removed(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    postgres.query('CREATE ROLE ann; CREATE ROLE "b%o\nb"')
    made = {"encoding": "utf-8", "lc_collate": "C", "lc_ctype": "C.utf8", "template": "template0"}
    step = database(postgres, owner="ann", **made)
    outcome = machine.check_then_run(step, "changed")
    assert states(outcome)["state"] == ("absent", "present")
    row = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datconnlimit"
    row += " FROM pg_database WHERE datname = 'shop'"
    assert postgres.query(row) == "ann|UTF8|C|-1"
    step = database(postgres, owner="b%o\nb", conn_limit=7, lc_ctype="C.UTF-8")
    outcome = machine.check_then_run(step, "changed")
    assert states(outcome) == {"owner": ("ann", "b%o\nb"), "conn_limit": ("-1", "7")}
    assert postgres.query(row) == "b%o\nb|UTF8|C|7"
    machine.check_then_run(database(postgres, state="absent"), "changed")
    assert postgres.query(row) == ""


@pytest.mark.parametrize("name", ['it\'s \\ "x" $(id)', "a\nb", *LONG_NAMES])
def test_names_are_data(machine: ShellMachine, postgres: PostgresServer, name: str) -> None:
    postgres.query("CREATE ROLE ann")
    role = {"postgres_user": {"name": name, "attributes": "login", **postgres.login}}
    machine.check_then_run(role, "changed")
    machine.check_then_run(database(postgres, name=name, owner=name), "changed")
    named = (
        "SELECT count(*) FROM pg_database WHERE datname = pg_get_userbyid(datdba) AND datdba <> 10"
    )
    assert postgres.query(named) == "1"
    assert postgres.query("SELECT 1", database=name) == "1"
    machine.check_then_run(database(postgres, name=name, state="absent"), "changed")
    role["postgres_user"] = {"name": name, "state": "absent", **postgres.login}
    machine.check_then_run(role, "changed")
    assert postgres.query("SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'") == "3"


def test_what_cannot_be_is_refused_in_a_check(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    postgres.query("CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8'")
    check_refuses(machine, database(postgres, encoding="LATIN1"), "keeps its encoding")
    check_refuses(machine, database(postgres, name="x" * 64), "longer than 63 bytes")
    check_refuses(machine, database(postgres, owner="x'y"), "there is no role x'y")
    check_refuses(machine, database(postgres, name=""), "a name is empty")
    check_refuses(machine, database(postgres, login_user="nobody"), 'role "nobody" does not exist')
    check_refuses(machine, database(postgres, login_host="/nonexistent"), "No such file")


@pytest.mark.long  # the server waits for 5 s
def test_a_database_in_use_is_removed_by_force(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    postgres.query("CREATE DATABASE shop")
    with postgres.connection("shop"):
        step = database(postgres, state="absent")
        assert "is being accessed by other users" in machine.run_step(step).stderr.text
        machine.check_then_run(database(postgres, state="absent", force=True), "changed")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text(
    "'\"\\\n$`%{}:;- a", max_size=8
)


@pytest.mark.parametrize("conforming", ["on", "off"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=20))
def test_texts_and_names_are_quoted(
    machine: ShellMachine, postgres: PostgresServer, conforming: str, texts: list[str]
) -> None:
    texts = [each for each in texts if 0 < len(each.encode()) < 64]
    lines = [f"postgres_login {postgres.sockets} '' postgres '' postgres ''"]
    lines.append(f"sql='SET standard_conforming_strings TO {conforming};'")
    for text in texts:
        word = shlex.quote(text)
        lines.append(f"postgres_text {word}; one=$f_sql; postgres_name {word}; two=$f_sql")
        lines.append("sql=\"$sql SELECT encode(convert_to($one, 'UTF8'), 'hex');\"")
        lines.append("sql=\"$sql SELECT encode(convert_to(key, 'UTF8'), 'hex')")
        lines.append('FROM (SELECT 1 AS $two) AS t, json_object_keys(row_to_json(t)) AS key;"')
    lines.append('postgres_run "$sql"')
    script = module_protocol.with_functions("\n".join(lines))
    done = subprocess.run(
        ["sh"], input=script, env=machine.environment, capture_output=True, text=True, check=True
    )
    expected = [text.encode().hex() for text in texts for _ in range(2)]
    assert done.stdout.split() == expected


def role(postgres: PostgresServer, **params: Any) -> dict[str, dict[str, Any]]:
    return {"postgres_user": {"name": "ann", **postgres.login, **params}}


def test_a_role_is_made_changed_and_removed(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    outcome = machine.check_then_run(role(postgres), "changed")
    assert states(outcome) == {"state": ("absent", "present")}
    row = "SELECT rolcanlogin, rolcreatedb, rolsuper, rolconnlimit, rolvaliduntil FROM pg_roles"
    row += " WHERE rolname = 'ann'"
    assert postgres.query(row) == "t|f|f|-1|"
    changed = {"attributes": ["CREATEDB", "nologin"], "conn_limit": 3, "expires": "2030-01-31 UTC"}
    outcome = machine.check_then_run(role(postgres, **changed), "changed")
    assert states(outcome)["attributes"] == ("nocreatedb login", "createdb nologin")
    assert postgres.query(f"SET timezone TO 'UTC'; {row}") == "f|t|f|3|2030-01-31 00:00:00+00"
    machine.check_then_run(role(postgres, expires="2030-01-30 19:00-05"), "ok")
    machine.check_then_run(role(postgres, expires="infinity", attributes="createdb"), "changed")
    machine.check_then_run(role(postgres, state="absent"), "changed")
    machine.check_then_run(role(postgres, attributes=["nologin", "superuser"]), "changed")
    assert postgres.query(row) == "f|f|t|-1|"


@pytest.mark.parametrize(
    ("password", "encryption"),
    [
        ('it\'s \\ "x" $(id)\n%', "scram-sha-256"),
        pytest.param('it\'s \\ "x" $(id)\n%', "md5", marks=pytest.mark.long),
        pytest.param("x" * 100, "scram-sha-256", marks=pytest.mark.long),
        pytest.param("ﬁñé \u00a0x", "scram-sha-256", marks=pytest.mark.long),
    ],
)
def test_a_password_is_set_once(
    machine: ShellMachine, postgres: PostgresServer, password: str, encryption: str
) -> None:
    postgres.query(
        f"ALTER SYSTEM SET password_encryption TO '{encryption}'; SELECT pg_reload_conf()"
    )
    outcome = machine.check_then_run(role(postgres, password=password), "changed")
    postgres.query("GRANT locked TO ann")
    if encryption != "md5":
        assert postgres.can_log_in("ann", password)
    assert not postgres.can_log_in("ann", "other")
    outcome = machine.check_then_run(role(postgres, password=f"{password}2"), "changed")
    assert states(outcome) == {"password": ("different", "as given")}
    machine.check_then_run(role(postgres, password=password, update_password="on_create"), "ok")
    hashed = postgres.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'")
    machine.check_then_run(role(postgres, password=hashed), "ok")
    machine.check_then_run(role(postgres, state="absent"), "changed")
    machine.check_then_run(role(postgres, password=hashed, update_password="on_create"), "changed")
    machine.check_then_run(role(postgres, password=f"{password}2"), "ok")


def test_what_a_role_cannot_have_is_refused(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    check_refuses(machine, role(postgres, attributes=["root"]), "'root' is not superuser")
    check_refuses(machine, role(postgres, attributes=["login", "nologin"]), "login is given twice")
    check_refuses(machine, role(postgres, attributes="x; DROP ROLE ann"), "is not superuser")
    check_refuses(machine, role(postgres, expires="soon"), "invalid input syntax")
    postgres.query("CREATE ROLE plain LOGIN; CREATE ROLE ann")
    step = role(postgres, password="long", login_user="plain")
    check_refuses(machine, step, "only a superuser can compare passwords")


def test_nobody_sees_what_databases_are_given(
    machine: ShellMachine, postgres: PostgresServer, tmp_path: Any
) -> None:
    given = {"name": "c5pgname", "password": "c5pgpassword", "login_password": "c5pglogin"}
    steps = [
        {"postgres_user": {**postgres.login, **given}},
        {"postgres_db": {**postgres.login, "name": "c5pgname", "owner": "c5pgname"}},
    ]
    with watch_commands(machine, tmp_path / "watched", ["c5pg"]) as watched:
        done = machine.run_steps(steps)
        assert done.statuses == ["changed", "changed"], [*map(result_message, done.outcomes)]
        texts = {each: f"c5pg{each}" for each in ("encoding", "lc_collate", "lc_ctype", "template")}
        machine.run_step({"postgres_db": {**postgres.login, "name": "c5pgnew", **texts}})
        texts = {each: f"c5pg{each}" for each in ("login_db", "login_user", "login_host")}
        machine.run_step({"postgres_db": {"name": "c5pgnew", **texts}})
        machine.run_step({"postgres_user": {**given, **texts, "expires": "c5pgexpires"}})
        step = {
            "postgres_query": {**postgres.login, "query": "SELECT 'c5pg'", "args": {"a": "c5pga"}}
        }
        assert machine.run_step(step).status == "ok"
        texts = {each: f"c5pg{each}" for each in ("objs", "schema", "target_roles")}
        step = {
            "postgres_privileges": {
                **postgres.login,
                **texts,
                "database": "postgres",
                "role": ["c5pgname"],
                "privs": ["SELECT"],
            }
        }
        assert "there is no table c5pgobjs" in machine.run_step(step).stderr.text
        step = {"postgres_user": {**given, **postgres.login, "attributes": ["c5pgattribute"]}}
        assert "c5pgattribute" in machine.run_step(step).stderr.text
        assert any(word.endswith("/psql") for word in watched.all_words)
        assert not watched.exposures("c5pg")


def rows_of(machine: ShellMachine, postgres: PostgresServer, **params: Any) -> dict[str, Any]:
    outcome = machine.run_step({"postgres_query": {**postgres.login, **params}})
    assert outcome.status == "ok", result_message(outcome)
    module = load_module("postgres_query").module
    assert module is not None
    return parse_values(module.returns, outcome.stdout.text)


def test_a_query_returns_rows(machine: ShellMachine, postgres: PostgresServer) -> None:
    value = 'it\'s \\ "x" %41 :y\n$(id)'
    query = "SELECT :'x' AS text, n, NULL AS none, n > 1 AS more, '{\n}'::json AS j\n"
    found = rows_of(
        machine, postgres, query=f"{query}FROM generate_series(1, 2) n;\n", args={"x": value}
    )
    assert found["count"] == 2
    assert found["rows"][1] == {"text": value, "n": 2, "none": None, "more": True, "j": {}}
    found = rows_of(machine, postgres, query="SELECT 1 WHERE :'n' = '2'", args={"n": 1})
    assert found == {"rows": [], "count": 0}


def test_a_query_that_would_change_something_fails(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    postgres.query("CREATE SEQUENCE numbers")
    step = {**postgres.login, "query": "SELECT nextval('numbers')"}
    check_refuses(machine, {"postgres_query": step}, "in a read-only transaction")
    postgres.query("DROP SEQUENCE numbers")
    check_refuses(
        machine, {"postgres_query": {**step, "query": "DROP ROLE locked"}}, "syntax error"
    )
    check_refuses(machine, {"postgres_query": {**step, "args": {"a b": 1}}}, "is not a name")


@pytest.mark.parametrize(
    "name",
    [
        *("it's.sql", "a b.dump", "a.tar.bz2"),
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("a.sql.gz", "a.sql.xz", "a.pgc.zst", "a.tar")
        ),
    ],
)
def test_a_database_is_dumped_and_restored(
    machine: ShellMachine, postgres: PostgresServer, name: str
) -> None:
    postgres.query("CREATE DATABASE shop; CREATE ROLE ann")
    made = "CREATE TABLE t (a text, b bytea); CREATE VIEW v AS SELECT a FROM t; CREATE SEQUENCE s;"
    made += "INSERT INTO t VALUES (E'it''s\\n\\\\.\\t', '\\x00ff'), (NULL, NULL)"
    postgres.query(made, database="shop")
    target = machine.root / name
    step = database(postgres, state="dump", target=str(target))
    if (machine.shell, target.suffix) == ("busybox", ".xz"):
        check_refuses(machine, step, "this host has no xz that compresses")
        return
    assert machine.run_step(step, check=True).status == "would_change"
    assert not target.exists()
    for _ in range(2):
        outcome = machine.run_step(step)
        assert outcome.status == "changed", result_message(outcome)
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in machine.root.iterdir()] == [name]
    step = database(postgres, state="restore", target=str(target), owner="ann")
    postgres.query("ALTER DATABASE shop OWNER TO ann")
    machine.check_then_run(step, "ok")
    rows = postgres.query("SELECT md5(t::text) FROM t; SELECT * FROM v", database="shop")
    postgres.query("DROP DATABASE shop")
    outcome = machine.check_then_run(step, "changed")
    assert states(outcome)["contents"] == (None, "restored")
    assert postgres.query("SELECT md5(t::text) FROM t; SELECT * FROM v", database="shop") == rows


def test_a_restore_that_fails_leaves_nothing(
    machine: ShellMachine, postgres: PostgresServer
) -> None:
    target = machine.root / "dump.sql"
    target.write_text("CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\nnonsense;\n")
    step = database(postgres, state="restore", target=str(target))
    outcome = machine.run_step(step)
    assert outcome.status == "failed" and "syntax" in outcome.stderr.text
    assert postgres.query("SELECT count(*) FROM pg_tables WHERE tablename = 't'", "shop") == "0"
    target.write_text("CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n")
    outcome = machine.check_then_run(step, "changed")
    assert states(outcome) == {"contents": ("none", "restored")}
    target.write_text("INSERT INTO t VALUES (2);\n")
    machine.check_then_run(step, "ok")
    step["postgres_db"]["force"] = True
    assert machine.run_step(step).status == "changed"
    assert postgres.query("SELECT count(*) FROM t", "shop") == "2"


def test_dumps_that_cannot_be_are_refused(machine: ShellMachine, postgres: PostgresServer) -> None:
    path = str(machine.root / "none.sql")
    check_refuses(machine, database(postgres, state="restore"), "`restore` requires `target`")
    check_refuses(machine, database(postgres, state="restore", target=path), "to restore")
    check_refuses(
        machine, database(postgres, state="dump", target=path), "there is no database shop"
    )
    broken = machine.root / "broken.sql.gz"
    broken.write_bytes(b"\x1f\x8b\x08\x00nothing")
    outcome = machine.run_step(database(postgres, state="restore", target=str(broken)))
    assert "is damaged, or not complete" in outcome.stderr.text, result_message(outcome)
    for options in ({"target": path}, {"target": f"{path}.gz"}):
        step = database(postgres, state="dump", target_options=["--nonsense"], **options)
        outcome = machine.run_step(step)
        assert "nonsense" in outcome.stderr.text and "disk" not in outcome.stderr.text
    assert [each.name for each in machine.root.iterdir()] == ["broken.sql.gz"]


def privileges(postgres: PostgresServer, **params: Any) -> dict[str, dict[str, Any]]:
    login = {"database": "shop", "role": ["ann"], **postgres.login}
    return {"postgres_privileges": {**login, **params}}


@pytest.fixture
def shop(postgres: PostgresServer) -> PostgresServer:
    postgres.query('CREATE DATABASE shop; CREATE ROLE ann; CREATE ROLE "b\'o"" b"; CREATE ROLE g')
    made = 'CREATE TABLE t (a int); CREATE TABLE "x ""y" (a int); CREATE VIEW v AS SELECT 1;'
    postgres.query(f"{made} CREATE SEQUENCE s; CREATE SCHEMA own", database="shop")
    return postgres


def can(postgres: PostgresServer, what: str, role: str = "ann") -> str:
    """Return t or f: has_table_privilege and so on."""
    kind, _, rest = what.partition(" ")
    return postgres.query(f"SELECT has_{kind}_privilege('{role}', {rest})", database="shop")


def test_privileges_are_granted_and_revoked(machine: ShellMachine, shop: PostgresServer) -> None:
    step = privileges(shop, objs=["t", 'x "y'], privs="select,Insert", role=["ann", "b'o\" b"])
    outcome = machine.check_then_run(step, "changed")
    assert "ann: INSERT on t is missing" in str(states(outcome)["privileges"][0])
    assert can(shop, "table 't', 'INSERT'") == "t" and can(shop, "table 't', 'DELETE'") == "f"
    machine.check_then_run(privileges(shop, objs=["t"], privs=["ALL"]), "changed")
    assert can(shop, "table 't', 'TRUNCATE'") == "t"
    revoked = privileges(shop, objs=["t"], privs=["INSERT"], state="absent")
    machine.check_then_run(revoked, "changed")
    assert can(shop, "table 't', 'INSERT'") == "f" and can(shop, "table 't', 'SELECT'") == "t"
    machine.check_then_run(privileges(shop, objs=["ALL_IN_SCHEMA"], privs=["SELECT"]), "changed")
    assert can(shop, "table 'v', 'SELECT'") == "t"
    option = privileges(shop, objs=["t"], privs=["SELECT"], grant_option=True)
    machine.check_then_run(option, "changed")
    assert can(shop, "table 't', 'SELECT WITH GRANT OPTION'") == "t"
    machine.check_then_run(privileges(shop, objs=["t"], privs=["SELECT"]), "ok")
    option["postgres_privileges"]["grant_option"] = False
    machine.check_then_run(option, "changed")
    assert can(shop, "table 't', 'SELECT WITH GRANT OPTION'") == "f"
    assert can(shop, "table 't', 'SELECT'") == "t"


@pytest.mark.long
def test_privileges_of_every_kind_of_object(machine: ShellMachine, shop: PostgresServer) -> None:
    for params, check in (
        ({"type": "database", "privs": ["CREATE", "TEMP"]}, "database 'shop', 'CREATE'"),
        ({"type": "schema", "objs": ["own"], "privs": ["USAGE"]}, "schema 'own', 'USAGE'"),
        ({"type": "sequence", "objs": ["s"], "privs": ["ALL"]}, "sequence 's', 'UPDATE'"),
        ({"objs": ["v"], "privs": ["SELECT"], "role": ["PUBLIC"]}, "table 'v', 'SELECT'"),
    ):
        assert can(shop, check) == "f"
        machine.check_then_run(privileges(shop, **params), "changed")
        assert can(shop, check) == "t"
        assert machine.run_step(privileges(shop, **params, state="absent")).status == "changed"
        assert can(shop, check) == "f"
    new = {"type": "default_privs", "objs": ["TABLES", "SEQUENCES"], "privs": ["SELECT"]}
    machine.check_then_run(privileges(shop, **new, target_roles=["g"]), "changed")
    assert machine.run_step(privileges(shop, **new)).status == "changed"
    shop.query("CREATE TABLE later (a int); CREATE SEQUENCE last", database="shop")
    assert can(shop, "table 'later', 'SELECT'") == can(shop, "sequence 'last', 'SELECT'") == "t"
    assert machine.run_step(privileges(shop, **new, state="absent")).status == "changed"
    machine.check_then_run(privileges(shop, type="group", objs=["g"]), "changed")
    assert shop.query("SELECT pg_has_role('ann', 'g', 'MEMBER')") == "t"
    machine.check_then_run(privileges(shop, type="group", objs=["g"], grant_option=True), "changed")
    machine.check_then_run(privileges(shop, type="group", objs=["g"], state="absent"), "changed")
    assert shop.query("SELECT pg_has_role('ann', 'g', 'MEMBER')") == "f"


def test_privileges_that_cannot_be_are_refused(machine: ShellMachine, shop: PostgresServer) -> None:
    for params, message in (
        ({"objs": ["t"]}, "`privs` is missing"),
        ({"privs": ["SELECT"]}, "`objs` is missing"),
        ({"objs": ["none"], "privs": ["SELECT"]}, "there is no table none"),
        ({"objs": ["t"], "privs": ["SELECT"], "schema": "x'y"}, "there is no schema x'y"),
        ({"objs": ["t"], "privs": ["SELECT"], "role": ["x'y"]}, "there is no role x'y"),
        ({"objs": ["t"], "privs": ["SELECT(a)"]}, "those of columns are not supported"),
        ({"objs": ["t"], "privs": ["USAGE"]}, "USAGE is not a privilege of table"),
        ({"type": "group", "objs": ["g"], "role": ["PUBLIC"]}, "PUBLIC cannot be a member"),
        (
            {"type": "default_privs", "objs": ["VIEWS"], "privs": ["ALL"]},
            "no kind of objects VIEWS",
        ),
        (
            {"database": "none", "objs": ["t"], "privs": ["SELECT"]},
            'database "none" does not exist',
        ),
    ):
        check_refuses(machine, privileges(shop, **params), message)
