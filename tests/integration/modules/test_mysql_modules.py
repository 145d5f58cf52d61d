"""``mysql_db``, ``mysql_user`` and ``mysql_query`` on a real server of MariaDB."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.planner.returned_values import parse_values
from orchestrator.remote_shell import module_protocol
from tests.integration.modules.test_process_arguments import load_module
from tests.support.database_servers import MariadbServer, serve_mariadb
from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import check_refuses
from tests.support.watched_commands import watch_commands

PASSWORD = 'it\'s \\ "x" $(id)\n%'
MOST_NAMES = [pytest.param(name, marks=pytest.mark.long) for name in (*ODD_NAMES, "\\", "x' OR '")]


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with serve_mariadb() as server:
        yield server


@pytest.fixture
def mysql(server: MariadbServer) -> Iterator[MariadbServer]:
    """Yield the server; the databases and users that a test makes are removed."""
    yield server
    found = server.query(
        "SELECT CONCAT('DROP DATABASE `', REPLACE(SCHEMA_NAME, '`', '``'), '`;') "
        "FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN "
        "('mysql', 'sys', 'information_schema', 'performance_schema');"
        "SELECT CONCAT('DROP USER ', QUOTE(User), '@', QUOTE(Host), ';') FROM mysql.user "
        "WHERE User NOT IN ('root', 'mariadb.sys')"
    )
    server.query(found)


def database(mysql: MariadbServer, **params: Any) -> dict[str, dict[str, Any]]:
    return {"mysql_db": {"name": "shop", **mysql.login, **params}}


def user(mysql: MariadbServer, **params: Any) -> dict[str, dict[str, Any]]:
    return {"mysql_user": {"name": "ann", **mysql.login, **params}}


def states(outcome: Any) -> dict[str, tuple[str | None, str]]:
    return {each.key: (each.before, each.after) for each in outcome.changes}


def test_a_database_is_made_changed_and_removed(
    machine: ShellMachine, mysql: MariadbServer
) -> None:
    machine.check_then_run(database(mysql, encoding="utf8mb4"), "changed")
    changed = {"encoding": "UTF8", "collation": "utf8_bin"}
    outcome = machine.check_then_run(database(mysql, **changed), "changed")
    assert states(outcome)["encoding"] == ("utf8mb4", "UTF8")
    row = "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='shop'"
    assert mysql.query(row) == "utf8mb3_bin"
    machine.check_then_run(database(mysql), "ok")
    machine.check_then_run(database(mysql, state="absent"), "changed")
    assert mysql.query(row) == ""


@pytest.mark.parametrize("name", ["it's \\ `x`\n\"$(id)", *MOST_NAMES])
def test_names_are_data(machine: ShellMachine, mysql: MariadbServer, name: str) -> None:
    machine.check_then_run(database(mysql, name=name), "changed")
    machine.check_then_run(user(mysql, name=name, password=PASSWORD), "changed")
    assert mysql.can_log_in(name, PASSWORD)
    assert (
        mysql.query("SELECT COUNT(*) FROM mysql.user WHERE User NOT IN ('root', 'mariadb.sys')")
        == "1"
    )
    machine.check_then_run(user(mysql, name=name, state="absent"), "changed")
    machine.check_then_run(database(mysql, name=name, state="absent"), "changed")
    assert mysql.query("SHOW DATABASES").split() == [
        "information_schema", "mysql", "performance_schema", "sys",
    ]  # fmt: skip


def test_a_user_is_made_changed_and_removed(machine: ShellMachine, mysql: MariadbServer) -> None:
    machine.check_then_run(user(mysql, password=PASSWORD, from_host="LocalHost"), "changed")
    assert mysql.can_log_in("ann", PASSWORD)
    outcome = machine.check_then_run(user(mysql, password="other"), "changed")
    assert states(outcome) == {"password": ("different", "as given")}
    assert mysql.can_log_in("ann", "other")
    machine.check_then_run(user(mysql, password=PASSWORD, update_password="on_create"), "ok")
    hashed = mysql.query("SELECT PASSWORD('third')")
    machine.check_then_run(user(mysql, password=hashed), "changed")
    machine.check_then_run(user(mysql, password="third"), "ok")
    assert mysql.can_log_in("ann", "third")
    machine.check_then_run(user(mysql, from_host="%", password="other"), "changed")
    machine.check_then_run(user(mysql, state="absent"), "changed")
    assert mysql.query("SELECT Host FROM mysql.user WHERE User = 'ann'") == "%"
    machine.check_then_run({"mysql_user": {**mysql.login, "name": ""}}, "changed")
    machine.check_then_run(
        {"mysql_user": {**mysql.login, "name": "", "state": "absent"}}, "changed"
    )


def test_privileges_are_those_given(machine: ShellMachine, mysql: MariadbServer) -> None:
    mysql.query("CREATE DATABASE shop; CREATE TABLE shop.`odd``t` (a INT); CREATE DATABASE other")
    priv: dict[str, Any] = {"shop.*": ["select", "INSERT"], "shop.odd`t": "UPDATE , SELECT"}
    outcome = machine.check_then_run(user(mysql, priv=priv), "changed")
    machine.check_then_run(user(mysql, priv={"other.*": "ALL"}, append_privs=True), "changed")
    assert mysql.query("SHOW GRANTS FOR ann@localhost").split("\n")[1:] == [
        "GRANT SELECT, INSERT ON `shop`.* TO `ann`@`localhost`",
        "GRANT ALL PRIVILEGES ON `other`.* TO `ann`@`localhost`",
        "GRANT SELECT, UPDATE ON `shop`.`odd``t` TO `ann`@`localhost`",
    ]
    priv = {"shop.*": "ALL, GRANT", "*.*": "PROCESS,REPLICATION CLIENT", "other.*": "SELECT"}
    outcome = machine.check_then_run(user(mysql, priv=priv), "changed")
    assert "GRANT *.* PROCESS" in str(states(outcome)["privileges"][0])
    assert mysql.query("SHOW GRANTS FOR ann@localhost").split("\n") == [
        "GRANT PROCESS, BINLOG MONITOR ON *.* TO `ann`@`localhost`",
        "GRANT ALL PRIVILEGES ON `shop`.* TO `ann`@`localhost` WITH GRANT OPTION",
        "GRANT SELECT ON `other`.* TO `ann`@`localhost`",
    ]
    machine.check_then_run(user(mysql, priv={"*.*": "ALL"}), "changed")
    machine.check_then_run(user(mysql, priv={"*.*": "USAGE"}), "changed")
    assert "\n" not in mysql.query("SHOW GRANTS FOR ann@localhost")


def test_what_cannot_be_is_refused(machine: ShellMachine, mysql: MariadbServer) -> None:
    mysql.query("CREATE USER ann@localhost IDENTIFIED VIA unix_socket")
    check_refuses(machine, user(mysql, password="long"), "cannot be compared with a password")
    check_refuses(machine, user(mysql, priv={"shop": "ALL"}), "is not DATABASE.TABLE")
    check_refuses(machine, user(mysql, priv={"a.*": "SELECT(x)"}), "is not a privilege")
    check_refuses(machine, user(mysql, login_user="nobody"), "Access denied")
    check_refuses(machine, database(mysql, login_unix_socket="/nonexistent"), "onnect")
    broken = machine.run_step(database(mysql, encoding="nonesuch"))
    assert "Unknown character set" in broken.stderr.text


TEXTS = st.text(
    st.characters(codec="utf-8", max_codepoint=0xFFFF, exclude_characters="\0"), max_size=12
) | st.text("'\"\\\n`$%{}:;- aNG", max_size=8)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=20))
def test_texts_and_names_are_quoted(
    machine: ShellMachine, mysql: MariadbServer, texts: list[str]
) -> None:
    lines = ["sql='SELECT 1;'"]
    for text in texts:
        lines.append(f"mysql_text {shlex.quote(text)}; one=$f_sql")
        lines.append(f"mysql_name {shlex.quote(f'x{text}x')}; two=$f_sql")
        lines.append('sql="$sql SELECT HEX($one); WITH t AS (SELECT HEX($one) AS $two)"')
        lines.append('sql="$sql SELECT $two FROM t;"')
    lines.append(f'mysql_run "$sql" "" "" {mysql.socket} root ""')
    script = module_protocol.with_functions("\n".join(lines))
    done = subprocess.run(
        ["sh"], input=script, env=machine.environment, capture_output=True, text=True, check=True
    )
    expected = [text.encode().hex().upper() for text in texts for _ in range(2)]
    assert done.stdout.split("\n")[1:-1] == expected


def test_nobody_sees_what_databases_are_given(
    machine: ShellMachine, mysql: MariadbServer, tmp_path: Path
) -> None:
    mysql.query("CREATE USER admin@localhost IDENTIFIED BY 'c5mylogin'")
    mysql.query("GRANT ALL ON *.* TO admin@localhost WITH GRANT OPTION")
    login = {**mysql.login, "login_user": "admin", "login_password": "c5mylogin"}
    given = {"name": "c5myname", "password": "c5mypassword", "from_host": "c5myhost"}
    steps: list[dict[str, dict[str, Any]]] = [
        {"mysql_db": {**login, "name": "c5myname"}},
        {"mysql_user": {**login, **given, "priv": {"c5myname.*": "ALL"}}},
        {
            "mysql_query": {
                **login,
                "query": "SELECT 'c5myq', @a",
                "args": {"a": "c5mya"},
                "login_db": "c5myname",
            }
        },
        {"mysql_db": {**login, "name": "c5myx", "encoding": "c5mya", "collation": "c5myb"}},
    ]
    with watch_commands(machine, tmp_path / "watched", ["c5my"]) as watched:
        done = machine.run_steps(steps)
        assert done.statuses[:3] == ["changed", "changed", "ok"], [
            *map(result_message, done.outcomes)
        ]
        assert any(word.endswith("/mariadb") for word in watched.all_words)
        changed = {"mysql_user": {**login, **given, "priv": {"c5my.*": "c5myword"}}}
        assert "is not a privilege" in machine.run_step(changed).stderr.text
        assert not watched.exposures("c5my")


def rows_of(machine: ShellMachine, mysql: MariadbServer, **params: Any) -> dict[str, Any]:
    outcome = machine.run_step({"mysql_query": {**mysql.login, **params}})
    assert outcome.status == "ok", result_message(outcome)
    module = load_module("mysql_query").module
    assert module is not None
    return parse_values(module.returns, outcome.stdout.text)


@pytest.mark.every_shell
def test_a_query_returns_rows(machine: ShellMachine, mysql: MariadbServer) -> None:
    value = 'it\'s \\ "x" %41 <a>&lt;</field>\n  </row>\n\t<field name="y">\r\x01 ü'
    query = "SELECT @x AS text, n, NULL AS `a \"<b>`, '' AS e, 'NULL' AS s FROM\n"
    query += "(SELECT 1 AS n UNION SELECT 2) t WHERE n < 3 -- <row>\n;"
    found = rows_of(machine, mysql, query=query, args={"x": value})
    row = {"text": value, 'a "<b>': None, "e": "", "s": "NULL"}
    assert found == {"rows": [{**row, "n": "1"}, {**row, "n": "2"}], "count": 2}
    found = rows_of(machine, mysql, query="SELECT 1 WHERE @n = '2'", args={"n": 1})
    assert found == {"rows": [], "count": 0}
    mysql.query("CREATE DATABASE shop; CREATE TABLE shop.t (a INT); INSERT shop.t VALUES (7)")
    assert rows_of(machine, mysql, query="SELECT * FROM t", login_db="shop")["rows"] == [{"a": "7"}]
    assert rows_of(machine, mysql, query="SHOW TABLES", login_db="shop")["count"] == 1


def test_a_query_that_would_change_something_fails(
    machine: ShellMachine, mysql: MariadbServer
) -> None:
    mysql.query("CREATE DATABASE shop; CREATE TABLE shop.t (a INT)")
    for query in (
        "INSERT shop.t VALUES (1)",
        "DROP TABLE shop.t",
        "SELECT 1; COMMIT; DROP DATABASE shop",
    ):
        step = {"mysql_query": {**mysql.login, "query": query}}
        check_refuses(machine, step, "READ ONLY transaction")
    assert mysql.query("SELECT COUNT(*) FROM shop.t") == "0"
    for params, message in (
        ({"args": {"a b": 1}}, "is not a name"),
        ({"query": "nonsense"}, "syntax"),
    ):
        check_refuses(
            machine, {"mysql_query": {**mysql.login, "query": "SELECT 1", **params}}, message
        )


COUNT = "SELECT COUNT(*) FROM shop.t"


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst", ".bz2"])
def test_a_database_is_dumped_and_imported(
    machine: ShellMachine, mysql: MariadbServer, suffix: str
) -> None:
    mysql.query("CREATE DATABASE shop CHARSET utf8mb4; CREATE TABLE shop.t (a TEXT, b BLOB)")
    mysql.query("INSERT shop.t VALUES ('it''s; \\\\ \"x\"\\n', 0x00FF0D0A), ('ü', NULL)")
    before = mysql.query("SELECT HEX(a), HEX(b) FROM shop.t")
    target = machine.root / f"it's a dump.sql{suffix}"
    step = database(mysql, state="dump", target=str(target))
    if (machine.shell, target.suffix) == ("busybox", ".xz"):
        check_refuses(machine, step, "this host has no xz that compresses")
        return
    assert machine.run_step(step, check=True).status == "would_change"
    assert not target.exists()
    for _ in range(2):
        outcome = machine.run_step(step)
        assert outcome.status == "changed", result_message(outcome)
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in machine.root.iterdir()] == [target.name]
    restored = database(mysql, state="import", target=str(target), encoding="utf8mb4")
    machine.check_then_run(restored, "ok")
    mysql.query("DROP DATABASE shop")
    outcome = machine.check_then_run(restored, "changed")
    assert states(outcome)["contents"] == (None, "loaded")
    assert mysql.query("SELECT HEX(a), HEX(b) FROM shop.t") == before
    assert mysql.query("SHOW TABLES IN shop") == "t"


def test_an_import_that_fails_is_begun_again(machine: ShellMachine, mysql: MariadbServer) -> None:
    target = machine.root / "dump.sql"
    target.write_text("CREATE TABLE t (a INT);\nINSERT t VALUES (1);\nnonsense;\n")
    step = database(mysql, state="import", target=str(target))
    outcome = machine.run_step(step)
    assert outcome.status == "failed" and "syntax" in outcome.stderr.text
    target.write_text("CREATE TABLE t (a INT);\nINSERT t VALUES (1);\n")
    outcome = machine.check_then_run(step, "changed")
    assert states(outcome)["contents"] == ("an unfinished import", "loaded")
    assert mysql.query(COUNT) == "1"
    target.write_text("INSERT t VALUES (2);\n")
    machine.check_then_run(step, "ok")
    step["mysql_db"]["force"] = True
    assert machine.run_step(step).status == "changed"
    assert mysql.query(COUNT) == "2"


def test_dumps_that_cannot_be_are_refused(machine: ShellMachine, mysql: MariadbServer) -> None:
    path = str(machine.root / "none.sql")
    check_refuses(machine, database(mysql, state="import"), "`import` requires `target`")
    check_refuses(machine, database(mysql, state="import", target=path), "to import")
    check_refuses(machine, database(mysql, state="dump", target=path), "there is no database shop")
    broken = machine.root / "broken.sql.gz"
    broken.write_bytes(b"\x1f\x8b\x08\x00nothing")
    outcome = machine.run_step(database(mysql, state="import", target=str(broken)))
    assert "is damaged, or not complete" in outcome.stderr.text, result_message(outcome)
    assert mysql.query("SHOW TABLES IN shop") == ""
    step = database(mysql, state="dump", target=path, target_options=["--nonsense"])
    assert "--nonsense" in machine.run_step(step).stderr.text
    assert [each.name for each in machine.root.iterdir()] == ["broken.sql.gz"]
