"""Hints for users of Ansible: what to write instead of its modules, keywords and variables.

The names are those of Ansible's documentation: the module index of ``ansible.builtin`` and the
collections that replaced its older modules, playbook keywords, special variables.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from orchestrator.errors import suggest_nearest

_NO_MODULE = "there is no module for it: `run` the command, with `unless:` to make it idempotent"
_LATER = "call the task by its name: every task is a file below tasks/, and can be used as a step"

MODULE_HINTS = {
    **dict.fromkeys(
        ("apt", "yum", "dnf", "dnf5", "apk", "pacman", "zypper"), "write `package: {name: …}`"
    ),
    **dict.fromkeys(("command", "raw"), "write `run: COMMAND`"),
    "lineinfile": "write `line: {path: …, line: …}`",
    "blockinfile": "write `text_block: {path: …, text: …}`",
    **dict.fromkeys(
        ("systemd", "systemd_service", "sysvinit"), "write `service: {name: …, state: …}`"
    ),
    "uri": "write `request: {url: …}`; to wait for a server, `http: {url: …, within: 30s}`",
    **dict.fromkeys(
        ("synchronize", "sync", "rsync"),
        "write `upload: {src: …, path: …, delete: true}`, which sends only what differs, also of a "
        "large file, if both sides have rsync; the other way is `download: {path: …, to: …}`",
    ),
    "fetch": "write `download: {path: …, to: …}`",
    "set_fact": "write `set: {NAME: VALUE}`",
    "ping": "write `run: 'true'`; see also `orch doctor`",
    "setup": "facts are collected when a template uses one, like {{ facts.os }}",
    "package_facts": "write {{ facts.packages }}",
    "service_facts": "write {{ facts.services }}",
    "getent": "write {{ facts.users }} or {{ facts.groups }}",
    "gather_facts": "facts are collected when a template uses one, like {{ facts.os }}",
    "meta": "write `- flush_handlers`; `fail:` ends a task",
    **dict.fromkeys(
        ("include_tasks", "import_tasks", "include_role", "import_role", "import_playbook"), _LATER
    ),
    "include_vars": "name the file in `vars_files` of the task: `vars/{{ facts.family }}.yml`",
    "add_host": "define hosts in inventories/STAGE/hosts/, or print them by an executable `hosts`",
    "group_by": "define roles in inventories/STAGE/roles/",
    **dict.fromkeys(("ufw", "firewalld"), "write `firewall: {action: …, port: …}`"),
    **dict.fromkeys(("deb822_repository", "apt_key"), "write `apt_repository: {repo: …, key: …}`"),
    "dpkg_selections": "write `package: {name: …, hold: true, state: as_is}`",
    "pam_limits": "write `limits: {domain: …, limit_type: …, limit_item: …, value: …}`",
    "postgresql_db": "write `postgres_db: {name: …}`",
    "postgresql_user": "write `postgres_user: {name: …}`",
    "postgresql_privs": "write `postgres_privileges: {database: …, role: …, objs: …, privs: …}`",
    "postgresql_query": "write `postgres_query: {query: …}`",
    "docker_compose_v2": "write `docker_compose: {path: …}`",
    **dict.fromkeys(
        ("docker_image_pull", "docker_image_build", "docker_image_load", "docker_image_tag"),
        "write `docker_image: {name: …}`",
    ),
    **dict.fromkeys(
        (
            *("gem", "locale_gen", "rpm_key", "htpasswd", "tempfile"),
            *("make", "seboolean", "ssh_config", "archive"),
        ),
        _NO_MODULE,
    ),
}

PARAM_NAMES: Mapping[str, Mapping[str, str]] = {
    "acl": {"name": "path", "recursive": "recurse"},
    "apt_repository": {"filename": "name", "signed_by": "key", "update_cache": "update"},
    "assemble": {
        "dest": "path",
        "ignore_hidden": "hidden",
        "regexp": "match",
        "unsafe_writes": "in_place",
    },
    "copy": {"attr": "attributes", "dest": "path", "unsafe_writes": "in_place"},
    "cron": {"cron_file": "file", "env": "variable", "special_time": "special", "value": "job"},
    "debconf": {
        "answer": "value",
        "pkg": "name",
        "selection": "question",
        "setting": "question",
        "unseen": "seen",
        "vtype": "type",
    },
    "directory": {"attr": "attributes", "dest": "path", "name": "path"},
    "docker_compose": {
        "project_name": "project",
        "project_src": "path",
        "remove_volumes": "volumes",
        "wait_timeout": "within",
    },
    "docker_container": {
        "capabilities": "cap_add",
        "device": "devices",
        "dns_servers": "dns",
        "env": "environment",
        "etc_hosts": "extra_hosts",
        "exposed_ports": "ports",
        "groups": "group_add",
        "healthy_wait_timeout": "within",
        "log_opts": "log_options",
        "network_mode": "networks",
        "published_ports": "ports",
        "restart_policy": "restart",
        "working_dir": "workdir",
    },
    "docker_image": {
        "force_absent": "force",
        "load_path": "load",
        "repository": "tags",
        "tag": "name",
    },
    "docker_network": {"driver_options": "options", "network_name": "name"},
    "docker_login": {"registry_url": "registry", "url": "registry", "user": "username"},
    "dpkg_divert": {"divert": "to", "name": "path"},
    "file": {"attr": "attributes", "dest": "path", "name": "path"},
    "find": {
        "excludes": "exclude",
        "file_type": "type",
        "name": "path",
        "paths": "path",
        "patterns": "pattern",
    },
    "firewall": {
        "from": "source",
        "from_ip": "source",
        "interface_in": "interface",
        "proto": "port",
        "rule": "action",
        "src": "source",
        "to_port": "port",
    },
    "get_url": {"dest": "path"},
    "git": {
        "accept_hostkey": "accept_newhostkey",
        "dest": "path",
        "key_file": "key",
        "name": "repo",
        "recursive": "submodules",
        "ssh_opts": "ssh_options",
        "verify_commit": "verify",
    },
    "ini_file": {
        "dest": "path",
        "modify_inactive_option": "uncomment",
        "unsafe_writes": "in_place",
    },
    "iptables": {
        "fragment": "options",
        "gateway": "options",
        "gid_owner": "options",
        "goto": "options",
        "log_level": "options",
        "match_set": "options",
        "src_range": "options",
        "syn": "options",
        "tcp_flags": "options",
        "uid_owner": "options",
    },
    "known_hosts": {"hash_host": "hash", "host": "name"},
    "line": {
        "dest": "path",
        "destfile": "path",
        "firstmatch": "first",
        "insertafter": "after",
        "insertbefore": "before",
        "name": "path",
        "regex": "match",
        "regexp": "match",
        "search_string": "search",
        "unsafe_writes": "in_place",
    },
    "limits": {"dest": "path"},
    "link": {"dest": "path", "name": "path", "src": "to"},
    "mount": {"name": "path"},
    "mysql_db": {"db": "name", "dump_extra_args": "target_options"},
    "mysql_query": {"named_args": "args", "positional_args": "args"},
    "mysql_user": {"host": "from_host", "user": "name"},
    "package": {
        "allow_change_held_packages": "allow_held",
        "cache_valid_time": "cache_valid",
        "install_recommends": "recommends",
        "package": "name",
        "pkg": "name",
        "use": "manager",
    },
    "pip": {
        "virtualenv": "venv",
        "virtualenv_python": "python",
        "virtualenv_site_packages": "system_site_packages",
    },
    "postgres_db": {
        "db": "name",
        "dump_extra_args": "target_options",
        "login_unix_socket": "login_host",
        "maintenance_db": "login_db",
        "port": "login_port",
        "target_opts": "target_options",
    },
    "postgres_privileges": {
        "admin_option": "grant_option",
        "db": "database",
        "login_db": "database",
        "login_unix_socket": "login_host",
        "obj": "objs",
        "port": "login_port",
        "priv": "privs",
        "roles": "role",
        "target_role": "target_roles",
    },
    "postgres_user": {
        "login_unix_socket": "login_host",
        "no_password_changes": "update_password",
        "port": "login_port",
        "role_attr_flags": "attributes",
        "user": "name",
    },
    "reboot": {
        "boot_time_command": "boot_id",
        "post_reboot_delay": "delay",
        "reboot_command": "command",
        "reboot_timeout": "timeout",
        "test_command": "test",
    },
    "replace": {
        "dest": "path",
        "destfile": "path",
        "name": "path",
        "regexp": "match",
        "replace": "text",
        "unsafe_writes": "in_place",
    },
    "request": {
        "body_format": "json",
        "ca_path": "ca_file",
        "follow_redirects": "redirects",
        "status_code": "status",
        "url_password": "password",
        "url_username": "user",
    },
    "script": {"cmd": "src", "executable": "interpreter"},
    "selinux": {"conf": "path", "configfile": "path"},
    "service": {"service": "name", "unit": "name"},
    "slurp": {"src": "path"},
    "stat": {
        "checksum_algo": "checksum",
        "checksum_algorithm": "checksum",
        "dest": "path",
        "name": "path",
    },
    "sudoers": {"host": "for_host"},
    "sysctl": {
        "ignoreerrors": "ignore_unknown",
        "key": "name",
        "reload": "apply",
        "sysctl_file": "file",
        "sysctl_set": "apply",
        "val": "value",
    },
    "template": {
        "attr": "attributes",
        "block_end_string": "delimiters",
        "block_start_string": "delimiters",
        "comment_end_string": "delimiters",
        "comment_start_string": "delimiters",
        "dest": "path",
        "newline_sequence": "newline",
        "unsafe_writes": "in_place",
        "variable_end_string": "delimiters",
        "variable_start_string": "delimiters",
    },
    "text_block": {
        "content": "block",
        "dest": "path",
        "insertafter": "after",
        "insertbefore": "before",
        "unsafe_writes": "in_place",
    },
    "touch": {"dest": "path", "name": "path"},
    "unarchive": {"copy": "remote_src", "dest": "path"},
    "upload": {"copy_links": "follow", "dest": "path", "perms": "keep_modes"},
    "user": {
        "createhome": "create_home",
        "generate_ssh_key": "ssh_key",
        "password_lock": "locked",
        "user": "name",
    },
    "wait_for": {
        "connect_timeout": "timeout",
        "host": "address",
        "msg": "message",
        "search_regex": "line",
    },
    "yum_repository": {
        "exclude": "options",
        "excludepkgs": "options",
        "includepkgs": "options",
        "module_hotfixes": "options",
        "priority": "options",
        "skip_if_unavailable": "options",
        "sslverify": "options",
    },
}
"""By module: params of its counterpart in Ansible, and what they are called here."""

VALUE_HINTS: Mapping[tuple[str, str, str], str] = {
    ("file", "state", "directory"): "write `directory: {path: …}`",
    ("file", "state", "link"): "write `link: {path: …, to: …}`",
    ("file", "state", "hard"): "write `link: {path: …, to: …, hard: true}`",
    ("file", "state", "touch"): "write `touch: {path: …}`",
    ("package", "state", "installed"): "write `state: present`",
    ("package", "state", "removed"): "write `state: absent`",
}
"""By module, param and value: what to write instead of a value that it has in Ansible."""

KEYWORD_HINTS = {
    "become_user": "`become: USER` names the user; `become: true` is root",
    "become_method": "write `connect: {become_method: …}` in the inventory",
    "remote_user": "write `connect: {user: …}` in the inventory",
    "connection": "write `connect: {transport: …}` in the inventory",
    "sudo": "write `become: true`",
    "sudo_user": "`become: USER` names the user",
    **{
        f"with_{name}": "write `loop: LIST`, and {{ item }} in the step"
        for name in (
            *("items", "list", "dict", "fileglob", "sequence", "nested", "together"),
            *("subelements", "first_found", "lines", "flattened", "indexed_items"),
        )
    },
    "loop_var": "write `var: NAME`",
    "index_var": "write `index: NAME`",
    "args": "write options next to `run:`, like `chdir: /srv`",
    "cmd": "write `run: COMMAND`",
    "no_log": "write `secret: true`; or mark the param so, or the variable `!secret`",
    "check_mode": "mark a step that changes nothing `readonly: true`; use `orch run --check`",
    "ignore_unreachable": "use the option `--unreachable skip`",
    "run_once": "write `once: true`, on the step or beside a task's name in a playbook",
    "serial": "write `batch: 25%` beside the task's name in a playbook",
    "max_fail_percentage": "write `max_failures: 10%` beside the task's name in a playbook",
    "any_errors_fatal": "write `any_errors: stop` beside the task's name in a playbook",
    "gather_facts": "facts are collected when a template uses one, like {{ facts.os }}",
    "hosts": "write `roles: [ROLE]`; the inventory defines the hosts of a role",
    "pre_tasks": "list them first under `tasks:`",
    "post_tasks": "list them last under `tasks:`",
    "strategy": "hosts do not wait for each other within a task, and always do between tasks",
    "local_action": "write `local: true` on the step",
    "module_defaults": "write `defaults: {MODULE: {…}}` in stage.yml or a role",
    "force_handlers": "handlers of a failed host are shown with the command that runs them",
    "async": "write `timeout: 5m`: a long step keeps its connection alive",
    "poll": "leave it out: the end of a step is noticed at once",
    "state": "write it in the module's mapping, like `service: {name: x, state: started}`",
    "ansible_host": "write `address: …`",
    "ansible_port": "write `connect: {port: …}`",
    "ansible_user": "write `connect: {user: …}`",
    "ansible_connection": "write `connect: {transport: …}`",
    "ansible_ssh_private_key_file": "write `connect: {identity: …}`",
    "ansible_become_method": "write `connect: {become_method: …}`",
    "ansible_python_interpreter": "omit it: hosts need no Python",
}

FACTS = {
    "all_ipv4_addresses": "facts.ipv4",
    "all_ipv6_addresses": "facts.ipv6",
    "architecture": "facts.arch",
    "default_ipv4": "facts.default_route",
    "default_ipv6": "facts.default_route6",
    "devices": "facts.disks",
    "distribution": "facts.distro",
    "distribution_major_version": "facts.release.split('.')[0]",
    "distribution_release": "facts.codename",
    "distribution_version": "facts.release",
    "dns": "facts.nameservers",
    "domain": "facts.fqdn.partition('.')[2]",
    "effective_user_id": "facts.uid",
    "env": "facts.env",
    "fqdn": "facts.fqdn",
    "getent_group": "facts.groups",
    "getent_passwd": "facts.users",
    "hostname": "facts.hostname",
    "interfaces": "facts.interfaces",
    "kernel": "facts.kernel",
    "local": "facts.local",
    "lsb": "facts.codename",
    "machine": "facts.arch",
    "memtotal_mb": "facts.memory",
    "mounts": "facts.mounts",
    "nodename": "facts.hostname",
    "os_family": "facts.family",
    "packages": "facts.packages",
    "pkg_mgr": "facts.packager",
    "processor_cores": "facts.cpus",
    "processor_count": "facts.cpus",
    "processor_nproc": "facts.cpus",
    "processor_vcpus": "facts.cpus",
    "python": "facts.python",
    "python_version": "facts.python.version",
    "real_user_id": "facts.uid",
    "selinux": "facts.selinux",
    "service_mgr": "facts.init",
    "services": "facts.services",
    "swaptotal_mb": "facts.swap",
    "system": "facts.os",
    "uptime_seconds": "facts.uptime",
    "user_dir": "facts.home",
    "user_gid": "facts.users[facts.user].gid",
    "user_id": "facts.user",
    "user_shell": "facts.users[facts.user].shell",
    "user_uid": "facts.uid",
    "userspace_architecture": "facts.arch",
    "virtualization_role": "facts.virtualization != 'none'",
    "virtualization_type": "facts.virtualization",
}
"""Ansible's facts without `ansible_` in front, and the expression to write instead."""

_FACT_NOTES = {
    **dict.fromkeys(("distribution", "os_family", "system"), ", which is lower case"),
    **dict.fromkeys(("mounts", "devices", "interfaces"), ", a mapping by name"),
    "packages": ", a mapping of names to versions",
    "virtualization_role": ", which is true for a guest",
}

VARIABLE_HINTS = {
    "inventory_hostname": "write {{ host.name }}",
    "inventory_hostname_short": "write {{ host.name.split('.')[0] }}",
    "ansible_host": "write {{ host.address }}",
    **{
        f"ansible_{name}": f"write {{{{ {expression} }}}}{_FACT_NOTES.get(name, '')}"
        for name, expression in FACTS.items()
    },
    "ansible_user": "write {{ facts.user }}",
    "ansible_date_time": "write {{ run.started }}",
    "ansible_facts": "write {{ facts.NAME }}: os, arch, distro, release, …; see `orch doc facts`",
    "ansible_check_mode": "write {{ run.check }}",
    "ansible_play_hosts": "write {{ roles.ROLE }}, or {{ hosts }}",
    "play_hosts": "write {{ roles.ROLE }}, or {{ hosts }}",
    "groups": "write {{ roles.ROLE }}",
    "group_names": "write {{ host.roles }}",
    "hostvars": "write {{ hosts['NAME'].x }}",
    "lookup": "write `read('FILE')`, `env.NAME`, `first_found([…])` or `render('FILE')`",
    "query": "write `read('FILE')`, `env.NAME`, `first_found([…])` or `render('FILE')`",
    "omit": "write {{ x | default(none) }}: a param that is none counts as omitted",
    "playbook_dir": "write {{ run.folder }}, the project's folder; file paths are relative to the "
    "folder of the task file",
    "ansible_version": "write {{ run.version }}, the version of orch",
    "ansible_python_interpreter": "write {{ facts.python.executable }}",
    "role_path": "file paths are relative to the folder of the task file",
    "inventory_dir": "file paths are relative to the folder of the task file",
}

LOOKUPS = {
    "env": "env.NAME",
    "file": "read('FILE')",
    "first_found": "first_found([…])",
    "fileglob": "fileglob('PATTERN')",
    "template": "render('FILE')",
    "unvault": "read('FILE')",
    "vars": "vars['NAME']",
    "varnames": "vars | select('match', '…')",
    "dict": "x | dict2items",
    "items": "x | flatten(levels=1)",
    "cartesian": "x | product(y)",
    "nested": "x | product(y)",
    "list": "x",
    "flattened": "x | flatten",
    "random_choice": "x | random",
    "sequence": "range(1, 5)",
    "subelements": "x | subelements('y')",
    "together": "x | zip(y)",
}
"""Ansible's lookups, and the expression to write instead."""

_SECRET_LOOKUP = "write `!secret {command: […]}` or `!secret {file: …}` in the inventory"

LOOKUP_HINTS = {
    **{name: f"write `{expression}`" for name, expression in LOOKUPS.items()},
    "indexed_items": "write `loop: LIST` with `loop_control: {index: i}`",
    "config": "there is none: orch has no configuration of its own",
    "csvfile": "write `lines('FILE')` and `.split(',')`",
    "ini": "write the values into the inventory",
    "inventory_hostnames": "write {{ roles.ROLE }}",
    "lines": "run the command in a step with `local: true`, and write `NAME.stdout.splitlines()`",
    "password": _SECRET_LOOKUP,
    "passwordstore": _SECRET_LOOKUP,
    "hashi_vault": _SECRET_LOOKUP,
    "aws_secret": _SECRET_LOOKUP,
    "onepassword": _SECRET_LOOKUP,
    "bitwarden": _SECRET_LOOKUP,
    "keyring": _SECRET_LOOKUP,
    "pipe": "run the command in a step with `local: true` and `register:`",
    "dig": "run `dig` or `getent hosts` in a step with `register:`",
    "url": "run `curl` in a step with `local: true` and `register:`",
}
"""Ansible's lookups: what to write instead."""


def lookup_hint(name: str, argument: str = "") -> str:
    """Return what to write instead of ``lookup('NAME', 'ARGUMENT')``."""
    short = name.rpartition(".")[2]
    if not short:
        return f"{LOOKUP_HINTS['file']}, `env.NAME`, `first_found([…])` or `render('FILE')`"
    hint = LOOKUP_HINTS.get(short, "")
    if not hint:
        nearest = suggest_nearest(short, LOOKUPS)
        near = nearest.partition("'")[2].partition("'")[0]
        hint = f"there is no lookup '{short}'"
        if near:
            return f"{hint}: {nearest} {lookup_hint(near, argument)}"
        return f'{hint}; see "Coming from Ansible"'
    if short not in LOOKUPS:
        return f"there is no lookup '{short}': {hint}"
    if argument:
        for placeholder in ("FILE", "NAME", "PATTERN"):
            hint = hint.replace(placeholder, argument)
    return hint


RESULT_FIELD_HINTS = {
    "rc": "write NAME.exit_status",
    "stdout_lines": "write NAME.stdout.splitlines()",
    "stderr_lines": "write NAME.stderr.splitlines()",
    "results": "write NAME.items",
    "msg": "write NAME.stderr",
    "stat": "register the result of the module `stat`, and write NAME.exists",
    "content": "write NAME.stdout",
    "success": "write NAME.succeeded",
}

RETURNED_HINTS = {"stat": "write NAME.exists, NAME.mode and so on, without `.stat`"}
"""The same for results of modules that return values."""

FACTS_VARIABLE = "ansible_facts"

FACT_HINTS = {
    name: f"write {expression}{_FACT_NOTES.get(name, '')}" for name, expression in FACTS.items()
}
"""What to write instead of ``facts.NAME`` with a name of Ansible's facts."""

FILE_HINTS = {
    "group_vars": "write a group's variables into roles/GROUP.yml, under `vars`",
    "host_vars": "write a host's variables into hosts/HOST.yml, under `vars`",
    "hosts.ini": "write each host as hosts/NAME.yml, or all of them into hosts.yml",
    "inventory.ini": "write each host as hosts/NAME.yml, or all of them into hosts.yml",
}


def param_hint(module: str, param: str, known: Container[str]) -> str:
    """Return what to write instead of a param that a module has in Ansible only, or ''.

    ``known`` are the params of the module, or of a project's task with its name.
    """
    name = PARAM_NAMES.get(module, {}).get(param)
    return f"write `{name}`" if name in known else ""


def value_hint(module: str, param: str, value: object) -> str:
    """Return what to write instead of a value that a param has in Ansible only, or ''."""
    return VALUE_HINTS.get((module, param, value), "") if isinstance(value, str) else ""


def module_hint(name: str, known: Container[str] = ()) -> str:
    """Return what to write instead of one of Ansible's modules, or ''.

    ``known`` are the modules of orch: if the last part of a qualified name is one of them, only the
    collection's name must be removed.
    """
    short = name.rpartition(".")[2]
    if short != name and short in known:
        return f"write `{short}:`, without the collection's name"
    return MODULE_HINTS.get(short, "")


_LOCAL_PATH = (
    "a template does not look at this machine; a step looks at its host: `run: test -L PATH`"
)
_NO_DATE = "`run.started` is the time of the run; format another one in a step, with `date`"

FILTER_HINTS = {
    "shuffle": "write `x | random_seeded(host.name)` for one item, or `x | sort`",
    "log": "write `**` and `/`: there are no logarithms",
    "pow": "write `x ** y`",
    "root": "write `x ** 0.5`",
    "ipsubnet": "write `ipaddr('subnet')`, or `ipaddr(NUMBER)`",
    "community.general.dict": "write `dict(x)`",
    "to_datetime": _NO_DATE,
    **dict.fromkeys(("fileglob", "expandvars"), _LOCAL_PATH),
    **dict.fromkeys(
        ("vault", "unvault"), "see `orch vault`; encrypted values are read as they are"
    ),
}
"""Filters that only Ansible has: what to write instead."""

TEST_HINTS = {
    **dict.fromkeys(("success", "successful"), "write `is succeeded`"),
    "failure": "write `is failed`",
    "is_file": "write `is file`",
    "is_dir": "write `is directory`",
    "change": "write `is changed`",
    "skip": "write `is skipped`",
    "issubset": "write `is subset(…)`",
    "issuperset": "write `is superset(…)`",
    "url": "write `is match('https?://')`",
    "uri": "write `is match('[a-z]+:')`",
    "urn": "write `is match('urn:')`",
    "is_abs": "write `is abs`",
    **dict.fromkeys(
        (
            *("link", "link_exists", "mount", "same_file", "is_link", "is_mount"),
            "is_same_file",
        ),
        _LOCAL_PATH,
    ),
    **dict.fromkeys(
        ("unreachable", "reachable"), "an unreachable host runs nothing; see `--unreachable skip`"
    ),
    **dict.fromkeys(("vault_encrypted", "vaulted_file"), "encrypted values are read as they are"),
}
"""Tests that only Ansible has: what to write instead."""
