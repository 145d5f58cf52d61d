"""The keys of inventory files: what each means and what it holds."""

from __future__ import annotations

from orchestrator.model.cluster import CLUSTER_DEFAULTS
from orchestrator.model.host import CONNECTION_DEFAULTS, KEPT_RUNS, TRANSPORTS
from orchestrator.yamlio.file_keys import FileKey, KeyTable

HOST_KEY_POLICIES = ("strict", "accept-new")
BECOME_METHODS = ("sudo", "doas", "su")


def _default(name: str) -> str:
    value = CONNECTION_DEFAULTS[name]
    return f"{value:g}s" if isinstance(value, float) else str(value).lower()


CONNECT: KeyTable = {
    "user": FileKey("text", "The login user", "ssh_config's, else the local user", "user: deploy"),
    "port": FileKey("integer", "The port of sshd", "ssh_config's, else 22", "port: 2222"),
    "identity": FileKey(
        "names",
        "Private key files, relative to the project",
        "ssh_config's, the agent's and the usual files in ~/.ssh",
        "identity: ~/.ssh/id_deploy",
    ),
    "identities_only": FileKey(
        "boolean",
        "Offer only the keys that `identity` names, from the file or the agent",
        "false",
        "identities_only: true",
    ),
    "jump": FileKey(
        "text",
        "Jump hosts, with commas between them: hosts of the inventory or `user@host:port`; `none` "
        "connects directly",
        "ssh_config's ProxyJump",
        "jump: bastion1",
    ),
    "transport": FileKey(
        "text",
        "How to connect: `ssh` (orch's own client), `openssh` (the system's `ssh`), `local` (this "
        "machine), or `sandbox` (a private sshd on this machine, for trying things out)",
        "ssh",
        "transport: openssh",
        choices=tuple(TRANSPORTS),
    ),
    "known_hosts": FileKey(
        "names",
        "Files with host keys, relative to the project",
        "ssh_config's, else ~/.ssh/known_hosts",
        "known_hosts: inventories/prod/known_hosts",
    ),
    "host_keys": FileKey(
        "text",
        "`strict` refuses hosts without an entry in known_hosts; `accept-new` records their keys; "
        "both refuse keys that changed",
        _default("host_keys"),
        "host_keys: accept-new",
        choices=HOST_KEY_POLICIES,
    ),
    "timeout": FileKey(
        "duration", "The time to connect and log in", _default("timeout"), "timeout: 30s"
    ),
    "retries": FileKey(
        "integer",
        "How often a connection is tried again after an error that may pass",
        _default("retries"),
        "retries: 10",
    ),
    "keepalive": FileKey(
        "duration",
        "The interval of messages that detect a broken connection; 0 sends none",
        _default("keepalive"),
        "keepalive: 30s",
    ),
    "persist": FileKey(
        "duration",
        "How long a connection, with a new shell on it, is kept for later commands after its last "
        "use; 0 keeps none. `orch warm status` shows them; with `transport: ssh` only",
        _default("persist"),
        "persist: 10m",
    ),
    "persist_become": FileKey(
        "boolean",
        "Keep shells of other users, too, if the host asks for no password to become them",
        _default("persist_become"),
        "persist_become: true",
    ),
    "forward_agent": FileKey(
        "boolean",
        "Let programs on the host use the local ssh-agent",
        _default("forward_agent"),
        "forward_agent: true",
    ),
    "shell": FileKey(
        "text", "The POSIX shell that is started on the host", _default("shell"), "shell: /bin/dash"
    ),
    "become_method": FileKey(
        "text",
        "The program that changes the user for `become`",
        _default("become_method"),
        "become_method: doas",
        choices=BECOME_METHODS,
    ),
    "ssh_config": FileKey(
        "text",
        "Another file in place of ~/.ssh/config and /etc/ssh/ssh_config, relative to the project",
        example="ssh_config: inventories/prod/ssh_config",
    ),
}
"""Keys of ``connect``, the connection settings of a stage, role or host."""

CLUSTER: KeyTable = {
    "scheduler": FileKey(
        "text", "The host that runs the scheduler", "the first worker", "scheduler: control1"
    ),
    "workers": FileKey(
        "names or name lists",
        "The roles and hosts that run workers; by region if there are `regions`",
        example="workers: {eu: [control-eu], us: [control-us]}",
    ),
    "processes": FileKey(
        "integer",
        "How many workers run on each host: as many as it has cores to give",
        str(CLUSTER_DEFAULTS["processes"]),
        "processes: 4",
    ),
    "threads": FileKey(
        "integer",
        "How many runs a worker takes part in at the same time",
        str(CLUSTER_DEFAULTS["threads"]),
        "threads: 4",
    ),
    "port": FileKey("integer", "The scheduler's port", str(CLUSTER_DEFAULTS["port"]), "port: 9786"),
    "address": FileKey(
        "text",
        "The name or IP address at which the workers and this machine reach the scheduler",
        "the `address` of its host",
        "address: control.example.net",
    ),
    "listen": FileKey(
        "text",
        "The IP address of its host at which the scheduler accepts connections",
        "all of them",
        "listen: 10.0.0.5",
    ),
    "python": FileKey(
        "text",
        "The command or path of the hosts' Python, of the series that runs orch here, such as 3.12",
        str(CLUSTER_DEFAULTS["python"]),
        "python: /usr/bin/python3.12",
    ),
    "install": FileKey(
        "boolean",
        "Install orch and its libraries, in the versions of this machine, into an environment of "
        "the cluster's own; `false`: `python` has them already",
        str(CLUSTER_DEFAULTS["install"]).lower(),
        "install: false",
    ),
    "pip_options": FileKey(
        "names",
        "Options of `pip install` on the hosts",
        example="pip_options: --index-url=https://pypi.example.net/simple",
    ),
    "folder": FileKey(
        "text",
        "A folder of the hosts; each host uses the one of its own name in it",
        "~/.orch/cluster/PROJECT/STAGE",
        "folder: /srv/orch-cluster",
    ),
}
"""Keys of ``cluster``, which `orch cluster` sets up on hosts of a stage."""

DESC = FileKey("text", "What it is, in one line", example="desc: Web servers")
LAYER: KeyTable = {
    "vars": FileKey("variables", "Variables", example="vars: {workers: 4}"),
    "environment": FileKey(
        "environment",
        "Environment variables of all steps",
        example="environment: {RAILS_ENV: production}",
    ),
}
CONNECT_KEY = FileKey(
    "connect", "Connection settings: see `orch doc connect`", example="connect: {user: deploy}"
)
DEFAULTS = FileKey(
    "defaults",
    "Values for params of modules and tasks that a call leaves out",
    example="defaults: {service: {within: 30s}}",
)

PROGRAM_KEYS: KeyTable = {
    "inventory_cache": FileKey(
        "duration",
        "How long the output of a program that prints hosts is used again; `--refresh` runs it",
        "0",
        "inventory_cache: 10m",
    ),
    "inventory_timeout": FileKey(
        "duration", "The time that such a program may take", "30s", "inventory_timeout: 2m"
    ),
}
"""Keys of ``stage.yml`` for programs that print hosts."""

STAGE: KeyTable = {
    "desc": DESC,
    **LAYER,
    "connect": CONNECT_KEY,
    "defaults": DEFAULTS,
    "protected": FileKey(
        "boolean",
        "Ask for the stage's name before a run that may change something; `--yes` confirms it",
        "false",
        "protected: true",
    ),
    "ansible": FileKey(
        "names",
        "Inventories of Ansible whose hosts and groups are the stage's hosts and roles: files and "
        "folders, relative to the project, else to the stage's folder",
        example="ansible: inventory/production",
    ),
    "engine": FileKey(
        "text",
        "What drives the hosts of a run: `local` (one process), `dask=local:N` (N processes of "
        "this machine) or `dask=tls://HOST:PORT` (the workers of a Dask scheduler). Without it, "
        "`local`, and from 1,000 hosts on `dask=local:N` if Dask is installed",
        example="engine: dask=local:4",
    ),
    "regions": FileKey(
        "name lists",
        "Which roles and hosts only the workers of a Dask scheduler with that resource may drive",
        example="regions: {eu: [web-eu, db1], us: [web-us]}",
    ),
    "cluster": FileKey(
        "cluster",
        "The scheduler and the workers that `orch cluster up` starts: see `orch doc cluster`",
        example="cluster: {scheduler: control1, workers: [control1, control2]}",
    ),
    **PROGRAM_KEYS,
}
"""Keys of a stage's ``stage.yml``."""

COMMON_STAGE: KeyTable = {
    **{name: key for name, key in STAGE.items() if name != "ansible"},
    "default_stage": FileKey(
        "text", "The stage of commands without `-s`", "none", "default_stage: dev"
    ),
    "keep_runs": FileKey(
        "integer",
        "How many runs are kept in `.orch/runs/`, of all stages together; those in progress are "
        "kept in any case",
        str(KEPT_RUNS),
        "keep_runs: 500",
    ),
}
"""Keys of ``inventories/common/stage.yml``."""

HOST: KeyTable = {
    "desc": DESC,
    "address": FileKey(
        "text", "The name or IP address to connect to", "the host's name", "address: 10.0.0.7"
    ),
    "roles": FileKey(
        "names", "Roles that the host has, in addition to role files", example="roles: [web]"
    ),
    **LAYER,
    "connect": CONNECT_KEY,
}
"""Keys of a host: a file in ``hosts/``, or an entry of ``hosts.yml``."""

ROLE: KeyTable = {
    "desc": DESC,
    "hosts": FileKey(
        "hosts",
        "The hosts: names, `user@host:port`, and ranges like `web[01-20]`",
        example="hosts: ['web[01-20]', 10.0.0.7]",
    ),
    "roles": FileKey("names", "Roles whose hosts also have this role", example="roles: [web, api]"),
    "primary": FileKey(
        "text", "The host that runs items with `once: true`", "the first host", "primary: db1"
    ),
    **LAYER,
    "connect": CONNECT_KEY,
    "defaults": DEFAULTS,
}
"""Keys of a role: a file in ``roles/``, or an entry of ``roles.yml``; a list is its hosts."""

APP: KeyTable = {
    "desc": FileKey("text", "What it is, in one line", example="desc: The blog"),
    "roles": FileKey("names", "The roles whose hosts run the app", "all hosts", "roles: [web]"),
    "hosts": FileKey(
        "app hosts",
        "Variables, environment and defaults for single hosts",
        example="hosts: {web1: {vars: {port: 8081}}}",
    ),
    "claims": FileKey(
        "claims",
        "What no other app on the same host may use: see `orch doc claims`",
        example='claims: {ports: ["{{ port }}"]}',
    ),
    **LAYER,
    "defaults": DEFAULTS,
}
"""Keys of an app: a file in ``apps/``."""

APP_HOST: KeyTable = {**LAYER, "defaults": DEFAULTS}
"""Keys of one host under ``hosts`` of an app."""

CLAIMS: KeyTable = {
    "paths": FileKey("names", "Folders and files", example='paths: ["{{ deploy_to }}"]'),
    "ports": FileKey("names", "TCP ports", example='ports: ["{{ port }}"]'),
    "units": FileKey("names", "Services", example='units: ["{{ app }}.service"]'),
}
"""Keys of ``claims``."""
