"""Servers of PostgreSQL and MariaDB for tests of modules, each on a socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PostgresServer:
    """A server of PostgreSQL.

    ``sockets`` is the folder of its socket. Everybody may log in as any role; only the members of
    the role ``locked`` need their passwords.
    """

    sockets: str

    @property
    def login(self) -> dict[str, str]:
        """Return the params of the modules that log in as the superuser."""
        return {"login_host": self.sockets, "login_user": "postgres"}

    def query(self, sql: str, database: str = "postgres", user: str = "postgres") -> str:
        """Return what the statements print, with a line for each row."""
        words = ["psql", "-XqAtw", "-h", self.sockets, "-U", user, "-v", "ON_ERROR_STOP=1"]
        environment = {**os.environ, "PGDATABASE": database, "PGCLIENTENCODING": "UTF8"}
        done = subprocess.run(
            words, input=sql, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    @contextmanager
    def connection(self, database: str) -> Iterator[None]:
        """Be connected to a database during the block."""
        words = ["psql", "-XqAtw", "-h", self.sockets, "-U", "postgres", database]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin and process.stdout
        process.stdin.write(b"SELECT 1;\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"1\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()

    def can_log_in(self, user: str, password: str) -> bool:
        """Return True if the password of a role that needs one is right."""
        words = ["psql", "-XqAtw", "-h", self.sockets, "-U", user, "-c", "", "postgres"]
        environment = {**os.environ, "PGPASSWORD": password}
        done = subprocess.run(words, capture_output=True, env=environment, check=False)
        return done.returncode == 0


@contextmanager
def serve_postgres() -> Iterator[PostgresServer]:
    """Serve an empty cluster during the block, as the user postgres."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    with _owned_folder("postgres") as folder:
        run_as = _run_as("postgres")
        data = f"{folder}/data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        words = [*run_as, f"{programs}/initdb", "-D", data, "-U", "postgres", "-NA", "trust"]
        subprocess.run(words, check=True, capture_output=True, env=environment)
        Path(data, "pg_hba.conf").write_text(
            "local all +locked scram-sha-256\nlocal all all trust\n"
        )
        options = "-F -c listen_addresses='' -c unix_socket_directories=" + folder
        words = [*run_as, f"{programs}/pg_ctl", "-D", data, "-l", f"{folder}/log", "-w", "start"]
        subprocess.run([*words, "-o", options], check=True, capture_output=True, env=environment)
        server = PostgresServer(folder)
        server.query("CREATE ROLE locked")
        try:
            yield server
        finally:
            words = [*run_as, f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"]
            subprocess.run(words, check=True, capture_output=True, env=environment)


@dataclass(frozen=True)
class MariadbServer:
    """A server of MariaDB; ``socket`` is its socket, by which root logs in without a password."""

    socket: str

    @property
    def login(self) -> dict[str, str]:
        """Return the params of the modules that log in as root."""
        return {"login_unix_socket": self.socket, "login_user": "root"}

    def query(self, sql: str) -> str:
        """Return what the statements print, with a line for each row."""
        done = self._run("root", "", sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    def can_log_in(self, user: str, password: str, sql: str = "SELECT 1") -> bool:
        """Return True if a user of localhost can log in, and run a statement."""
        return self._run(user, password, sql).returncode == 0

    def _run(self, user: str, password: str, sql: str) -> subprocess.CompletedProcess[str]:
        words = ["mariadb", "--no-defaults", "-NBr", "--binary-mode", f"--socket={self.socket}"]
        words += ["--default-character-set=utf8mb4", f"--user={user}"]
        environment = {**os.environ, "MYSQL_PWD": password}
        return subprocess.run(
            words, input=sql, capture_output=True, text=True, env=environment, check=False
        )


@contextmanager
def serve_mariadb() -> Iterator[MariadbServer]:
    """Serve without databases during the block, as the user mysql."""
    with _owned_folder("mysql") as folder:
        environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        common = ["--no-defaults", f"--datadir={folder}/data"]
        words = ["mariadb-install-db", *common, "--skip-test-db"]
        words += ["--auth-root-authentication-method=normal"]
        subprocess.run(
            [*_run_as("mysql"), *words], check=True, capture_output=True, env=environment
        )
        words = ["mariadbd", *common, "--skip-networking", f"--socket={folder}/s"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [*_run_as("mysql"), *words], stdout=log, stderr=log, env=environment
            )
        try:
            words = ["mariadb-admin", "--no-defaults", f"--socket={folder}/s", "-u", "root"]
            subprocess.run([*words, "--wait=60", "ping"], check=True, capture_output=True)
            yield MariadbServer(f"{folder}/s")
        finally:
            process.kill()
            process.wait()


def _run_as(user: str) -> Sequence[str]:
    if os.getuid() != 0:
        return ()
    found = pwd.getpwnam(user)
    return ("setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--init-groups")


@contextmanager
def _owned_folder(user: str) -> Iterator[str]:
    """Create a folder for the block whose path is short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
    try:
        if os.getuid() == 0:
            shutil.chown(folder, user, user)
        Path(folder).chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)
