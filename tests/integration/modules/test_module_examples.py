"""Every example of the module reference, run as it stands, on a host that has what it speaks of."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.modules import MODULES_FOLDER
from tests.integration.modules.test_firewall_module import UFW
from tests.integration.modules.test_git_module import run_git
from tests.integration.modules.test_locale_module import LOCALES
from tests.integration.modules.test_modprobe_module import KERNEL
from tests.integration.modules.test_package_module import REPOSITORY
from tests.integration.modules.test_pip_module import make_wheel
from tests.integration.modules.test_selinux_module import SELINUX
from tests.integration.modules.test_swap_module import SWAPS
from tests.support.container_engines import START_IN_COPY, make_root, remove_cgroups
from tests.support.machine import MachineRun, ShellMachine, result_message
from tests.support.private_copy import give_own_tmp, run_in_copy, run_inside_copy

EXAMPLES = {
    file.stem: text.replace("\n  become: postgres", "")  # but see PGUSER
    # that of packages is last: it replaces curl and git by packages with nothing in them
    for file in sorted(
        MODULES_FOLDER.glob("*.yml"), key=lambda file: (file.stem == "package", file)
    )
    if (text := yaml.safe_load(file.read_text()).get("example"))
}
ACTS = {
    "reboot",
    "touch",
    "debug",
    "git_log",
    "git_revision",
    "http",
    "wait_for",
    "stat",
    "slurp",
    "find",
    "request",
    "postgres_query",
    "mysql_query",
}
"""Modules that do the same each time, or only look."""

SETUP = r"""
apt-get -qq -y remove nginx nginx-common >/dev/null 2>&1 || :
useradd -m deploy; useradd -m app
groupadd -f www-data; groupadd -f adm
mkdir -p /run/sshd /srv/log /srv/blog/releases/20260131 /etc/nginx /etc/sudoers.d ~/app/log
ssh-keygen -qA
[ -e /etc/ssh/sshd_config ] || echo '#PasswordAuthentication yes' >/etc/ssh/sshd_config
echo 'Listening on :80' >~/app/log/production.log
mkdir -p ~/app/current/tmp /etc/php /etc/app/conf.d
echo part >/etc/app/conf.d/10.conf
echo 'proxy = http://example.com/' >/etc/app.conf
printf '127.0.0.1 localhost example.com registry.example.com\n' >/etc/hosts
printf '#!/bin/sh\n[ "$1" = -t ] || exec grep -q http "$2"\n' >/usr/sbin/nginx
mkdir -p /etc/nginx/sites-available /etc/nginx/sites-enabled
printf '%s\n' '#!/bin/sh' '### BEGIN INIT INFO' '# Provides: nginx' '# Required-Start:' \
  '# Required-Stop:' '# Default-Start: 2 3 4 5' '# Default-Stop: 0 1 6' '### END INIT INFO' \
  'case $1 in start) : >/run/nginx;; stop) rm -f /run/nginx;; status) [ -e /run/nginx ];; esac' \
  >/etc/init.d/nginx
chmod 755 /usr/sbin/nginx /etc/init.d/nginx
echo 60 >/run/swappiness
mount --bind /run/swappiness /proc/sys/vm/swappiness
"""
DATABASES = r"""
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
own() { own=$1; shift; setpriv --reuid="$own" --regid="$own" --init-groups "$@" >/dev/null; }
mkdir /run/postgres /run/mysqld
chown postgres /run/postgres
chown mysql /run/mysqld
own mysql mariadb-install-db --no-defaults --datadir=/run/mysqld/data --skip-test-db
# not by the function, whose shell would keep this script's stdout open
setpriv --reuid=mysql --regid=mysql --init-groups mariadbd --no-defaults \
  --datadir=/run/mysqld/data --skip-networking --socket=/run/mysqld/mysqld.sock </dev/null >/dev/null 2>&1 &
own postgres "$bin/initdb" -D /run/postgres/data -NA trust -E UTF8
own postgres "$bin/pg_ctl" -D /run/postgres/data -l /run/postgres/log -w \
  -o "-F -c listen_addresses='' -c unix_socket_directories=/run/postgres" start
own postgres psql -h /run/postgres -c 'CREATE DATABASE blog' -c 'CREATE ROLE blog' -c 'CREATE ROLE reader'
mariadb-admin --no-defaults --socket=/run/mysqld/mysqld.sock --wait=60 ping >/dev/null
"""
PACKAGES = r"""
offer nginx 1.0
for name in git curl; do
  offer $name "$(dpkg-query -W -f '${Version}' $name)"
done
"""
# Port 443 for https, 8080 with a health page, 5432: of the private machine's own network.
SERVER = r"""
import fcntl, http.server, io, json, socket, ssl, struct, sys, tarfile, threading
with socket.socket() as s:  # ip link set lo up
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))
def npm_page(path):
    package = {"name": "pm2", "version": "5.0.0"}
    if not path.endswith(".tgz"):
        dist = {"tarball": "http://example.com:8080/npm/pm2.tgz"}
        return json.dumps({"name": "pm2", "dist-tags": {"latest": "5.0.0"},
            "versions": {"5.0.0": {**package, "dist": dist}}}).encode()
    data, text = io.BytesIO(), json.dumps(package).encode()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return data.getvalue()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"test" if self.path.endswith(".tar.gz") else b"OK"
        if self.path.startswith("/npm/"):
            body = npm_page(self.path)
        if self.path.endswith(".asc"):
            body = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"id": 7}')
    def log_message(self, *_): pass
for port, key in ((8080, ""), (443, sys.argv[1]), (5432, "")):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if key:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def certificate(file: Path) -> str:
    """Write a key and a certificate for example.com; return the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.datetime.now(datetime.UTC)
    created = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.com")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    text = created.public_bytes(pem).decode()
    file.write_text(key.private_bytes(pem, form, plain).decode() + text)
    return text


def project(machine: ShellMachine) -> None:
    """Create the files of the project that the examples send."""
    root = machine.root.parent / f"{machine.root.name}-project" / "tasks"
    for name, text in {
        "files/migrate.sh": "touch ~/migrated\n",
        "files/sudoers": "deploy ALL=(root) NOPASSWD: /usr/bin/true\n",
        "files/hosts.d/10": "::1 localhost\n",
        "templates/nginx.conf": "http { server_name {{ host }}; }\n",
        "site/index.html": "<h1>it</h1>\n",
        "site/index.map": "{}\n",
        "build/app/run": "#!/bin/sh\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["tar", "-czf", "app.tar.gz", "app"], cwd=root / "build", check=True)
    for name in ("shop-theme", "shop-api"):
        make_wheel(machine.root.parent / "wheels", name, "1.0")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShellMachine, str]]:
    """Yield the host and a commit of git@example.com:shop/blog.git."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "root").mkdir()
    repo = folder / "shop" / "blog.git"
    repo.mkdir(parents=True)
    run_git(repo, "init", "-qb", "main")
    run_git(repo, "commit", "-q", "--allow-empty", "-m", "first")
    first = run_git(repo, "rev-parse", "HEAD")
    (repo / "it").write_text("it\n")
    run_git(repo, "add", "it")
    run_git(repo, "commit", "-qm", "second")
    trusted = certificate(folder / "key.pem")
    with run_inside_copy(ShellMachine("dash", folder / "root")) as machine:
        project(machine)
        machine.environment |= {
            "PGHOST": "/run/postgres",
            "PGUSER": "postgres",
        }
        give_own_tmp(machine)
        machine.environment["GIT_CONFIG_GLOBAL"] = str(folder / "gitconfig")
        (folder / "gitconfig").write_text(
            f'[url "{folder}/"]\n  insteadOf = git@example.com:\n[safe]\n  directory = *\n'
        )
        home = f"HOME={machine.home}\n"
        run_in_copy(machine, f"ln -s '{folder}/wheels' /srv/wheels")
        run_in_copy(
            machine, home + SETUP + DATABASES + REPOSITORY + PACKAGES + "apt-get -qq update\n"
        )
        run_in_copy(machine, KERNEL + LOCALES + SWAPS + SELINUX)
        run_in_copy(machine, UFW)
        run_in_copy(
            machine,
            f"mkdir -p /etc/ssl/certs\ncat >>/etc/ssl/certs/ca-certificates.crt <<'E'\n{trusted}E",
        )
        words = [*machine.wrapper, "/usr/bin/python3", "-c", SERVER, str(folder / "key.pem")]
        server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdin and server.stdout
        assert server.stdout.readline() == b"ready\n"
        archive = make_root(folder)
        run_in_copy(machine, f"archive='{archive}' group='{folder.name}'\n{START_IN_COPY}")
        yield machine, first
        server.stdin.close()
        server.wait()
        server.stdout.close()
    remove_cgroups(folder.name)


def test_every_module_has_an_example() -> None:
    assert EXAMPLES.keys() == {file.stem for file in MODULES_FOLDER.glob("*.yml")}


@pytest.mark.parametrize("module", EXAMPLES)
def test_an_example_does_what_it_is_to_do(host: tuple[ShellMachine, str], module: str) -> None:
    machine, first = host

    def go(*, check: bool) -> MachineRun:
        handlers = "handlers: {reload nginx: [{run: 'true'}]}\n"
        text = f"steps:\n{EXAMPLES[module]}\n{handlers}"
        arguments = {
            "version": "1.4",
            "deploy_to": "/srv/app",
            "live": first,
            "shop_password": "a-password",
        }
        done = machine.run_steps([], check=check, files={"it.yml": text}, variables=arguments)
        assert not [o for o in done.outcomes if o.status.is_failure], [
            result_message(o) for o in done.outcomes
        ]
        return done

    before = machine.observable_state()
    go(check=True)
    assert machine.observable_state() == before
    went = go(check=False)
    if module in ACTS:
        return
    assert "changed" in went.statuses
    assert set(go(check=True).statuses) <= {"ok", "skipped"}
