"""No value of a param stands in the arguments of a process, but of those that a module exposes."""

from __future__ import annotations

import hashlib
import secrets
import stat
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator import playbook
from orchestrator.playbook.model import Task
from orchestrator.playbook.task_index import shipped_modules
from tests.integration.modules.test_git_module import commit_files, run_git
from tests.integration.modules.test_package_module import REPOSITORY, offer_packages
from tests.integration.modules.test_service_module import SCRIPT
from tests.projects import OrchProject
from tests.support.git_web_server import serve_git as serving_git
from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy, run_inside_copy
from tests.support.watched_commands import WatchedCommands, watch_commands
from tests.support.web_server import WebAnswer, serve_web

StepList = list[dict[str, dict[str, Any]]]

OTHERS = [pytest.param(shell, marks=pytest.mark.long) for shell in ("bash", "busybox")]


class ParamCanaries:
    """Texts that stand nowhere else, one for each param of each module."""

    def __init__(self) -> None:
        self.nonce = secrets.token_hex(4)
        self.issued: dict[tuple[str, str], str] = {}

    def __call__(self, module: str, param: str) -> str:
        text = f"c4n{self.nonce}{module}{param}".replace("_", "")
        self.issued[module, param] = text
        return text

    def leaked(self, watched: WatchedCommands) -> set[tuple[str, str]]:
        """Those that stood in arguments, and are not what their module exposes."""
        assert len(watched.all_words) > 1, "nothing was watched"
        return {
            (module, param)
            for (module, param), text in self.issued.items()
            if watched.exposures(text) and param not in exposed_params(module)
        }


@cache
def load_module(module: str) -> Task:
    return playbook.load_tasks(Path("/nonexistent"), [module]).by_name[module]


def exposed_params(module: str) -> set[str]:
    """Return the exposed params of a module, or of the modules that a task calls."""
    task = load_module(module)
    if task.module is not None:
        return set(task.module.exposes)
    return {
        name
        for call in task.step_calls()
        for name in call.args
        if name in exposed_params(call.task)
    }


@pytest.fixture
def c() -> ParamCanaries:
    return ParamCanaries()


@pytest.fixture(params=["dash", *OTHERS])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> ShellMachine:
    root = tmp_path / "root"
    root.mkdir()
    return ShellMachine(request.param, root)


@pytest.fixture
def watched(host: ShellMachine, c: ParamCanaries, tmp_path: Path) -> Iterator[WatchedCommands]:
    with watch_commands(host, tmp_path / "watched", [c.nonce]) as found:
        yield found


def check_all_ok(machine: ShellMachine, steps: StepList, **more: Any) -> None:
    """Run a check, a run and a second run, in which no step fails."""
    for check in (True, False, False):
        done = machine.run_steps(steps, check=check, **more)
        bad = [result_message(o) for o in done.outcomes if str(o.status) == "failed"]
        assert not bad, bad


def edit_step(
    c: ParamCanaries, path: Path, module: str, **params: Any
) -> dict[str, dict[str, Any]]:
    """Return a call of a module that edits a file, with the common params."""
    more = {"owner": "root", "group": "root", "mode": "0600", "path": str(path)}
    validate = f"test '{c(module, 'validate')}' && test -e %s"
    return {module: {**more, "validate": validate, "backup": True, **params}}


def file_steps(c: ParamCanaries, root: Path) -> StepList:
    line, block = root / c("line", "path"), root / c("text_block", "path")
    text, match = c("line", "line"), c("line", "match")
    line.write_text(f"a\n{match}\n{c('line', 'after')}\n{c('line', 'before')}\n")
    block.write_text(f"{c('text_block', 'after')}\n{c('text_block', 'before')}\n")
    marked = {
        "name": c("text_block", "name"),
        "marker": "# {mark} {name} " + c("text_block", "marker"),
    }
    marked["block"] = c("text_block", "block")
    link = root / c("link", "path")
    (root / "waited").write_text(c("wait_for", "line"))
    times = {each: c("cron", each) for each in ("minute", "hour", "day", "month", "weekday")}
    return [
        edit_step(c, root / c("copy", "path"), "copy", content=c("copy", "content")),
        edit_step(c, root / c("template", "path"), "template", src="it.j2"),
        edit_step(c, line, "line", line=text, match=match),
        edit_step(c, line, "line", line=f"{text}2", after=c("line", "after")),
        edit_step(c, line, "line", line=f"{text}3", before=c("line", "before")),
        edit_step(c, line, "line", match=f"^{text}3", state="absent"),
        edit_step(c, line, "line", line=f"{text}2", state="absent"),
        edit_step(c, block, "text_block", **marked, after=c("text_block", "after")),
        edit_step(c, block, "text_block", **marked, state="absent"),
        edit_step(c, block, "text_block", **marked, before=c("text_block", "before")),
        edit_step(c, line, "line", line=text, search=c("line", "search")),
        edit_step(c, line, "replace", search=c("replace", "search"), text=c("replace", "text"),
                  after=c("replace", "after"), before=c("replace", "before")),
        edit_step(c, line, "replace", match=c("replace", "match"), text=c("replace", "text")),
        edit_step(c, root / "it.ini", "ini_file", section=c("ini_file", "section"),
                  option=c("ini_file", "option"), value=c("ini_file", "value")),
        edit_step(c, root / "it.ini", "ini_file", option=c("ini_file", "option"),
                  values=[c("ini_file", "values")]),
        edit_step(c, root / "made", "assemble", remote_src=str(root), match=c("assemble", "match"),
                  delimiter=c("assemble", "delimiter")),
        {"wait_for": {"path": str(root / "waited"), "line": f"{c('wait_for', 'line')}.*",
                      "message": c("wait_for", "message")}},
        {"file": {"path": f"{root}/{c('file', 'path')}", "mode": "0600"}},
        {"directory": {"path": f"{root}/{c('directory', 'path')}", "mode": "0700"}},
        {"link": {"path": str(link), "to": c("link", "to")}},
        {"touch": {"path": f"{root}/{c('touch', 'path')}"}},
        {"debug": {"msg": [c("debug", "msg")]}},
        {"find": {"path": str(root), "contains": c("find", "contains")}},
        {"cron": {"file": f"{root}/{c('cron', 'file')}", "name": c("cron", "name"),
                  "job": c("cron", "job"), "user": c("cron", "user"), **times}},
        {"authorized_key": {"user": "root", "path": f"{root}/{c('authorized_key', 'path')}",
                            "key": f"ssh-ed25519 AAAA{c('authorized_key', 'key')} ann"}},
        {"known_hosts": {"name": "x", "path": f"{root}/{c('known_hosts', 'path')}", "hash": True,
                         "key": f"ssh-ed25519 AAAA{c('known_hosts', 'key')} ann"}},
        {"sysctl": {"name": f"vm.{c('sysctl', 'name')}", "value": c("sysctl", "value"),
                    "file": f"{root}/{c('sysctl', 'file')}", "apply": False}},
    ]  # fmt: skip


def test_what_modules_of_files_are_given_is_seen_by_nobody(
    host: ShellMachine, c: ParamCanaries, watched: WatchedCommands
) -> None:
    check_all_ok(host, file_steps(c, host.root), files={"it.j2": f"{c('template', 'text')}\n"})
    assert c.leaked(watched) == set()


def test_what_modules_of_trees_are_given_is_seen_by_nobody(
    host: ShellMachine, c: ParamCanaries, watched: WatchedCommands
) -> None:
    root, arguments = host.root, {"owner": "root", "group": "root"}
    files = root / "files"
    files.mkdir()
    (files / "a").write_text(c("upload", "text"))
    subprocess.run(["tar", "-cf", root / "it.tar", "-C", files, "."], check=True)
    upload = {
        "path": f"{root}/{c('upload', 'path')}",
        "src": str(files),
        "delete": True,
        **arguments,
    }
    archive = {"path": f"{root}/{c('unarchive', 'path')}", "creates": c("unarchive", "creates")}
    steps: StepList = [
        {"upload": {**upload, "exclude": [c("upload", "exclude")]}},
        {"unarchive": {**archive, "remote_src": str(root / "it.tar")}},
        {"unarchive": {**archive, "path": archive["path"] + "2", "src": str(root / "it.tar")}},
    ]
    check_all_ok(host, steps)
    assert c.leaked(watched) == set()


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_what_is_asked_of_servers_is_seen_by_nobody(
    host: ShellMachine, c: ParamCanaries, tmp_path: Path, tool: str
) -> None:
    if tool == "wget":
        leave_only(host, "wget", "timeout", "touch", "sh")
    curl = tool == "curl"
    headers = {"headers": {"X-It": c("http", "headers")}} if curl else {}
    more = {"headers": {"X-It": c("get_url", "headers")}} if curl else {}
    who = f"user:{c('http', 'url')}@" if tool == "curl" else ""
    query = "?" + c("get_url", "url")
    with serve_web() as web, watch_commands(host, tmp_path / "watched", [c.nonce]) as watched:
        web.pages = {f"/it{query}": WebAnswer(c("http", "contains").encode())}
        url = web.url(f"/it{query}").replace("://", f"://{who}")
        file = {"url": url, "path": f"{host.root}/{c('get_url', 'path')}", "force": True}
        steps: StepList = [
            {"http": {"url": url, "contains": c("http", "contains"), **headers}},
            {"http": {"url": url, "status": [200, c("http", "status")], "within": "1s"}},
            {"get_url": {**file, **more}},
        ]
        check_all_ok(host, steps)
        digits = hashlib.sha256(c("get_url", "checksum").encode()).hexdigest()
        c.issued["get_url", "checksum"] = digits
        refused = {"get_url": {**file, "checksum": f"sha256:{digits}"}}
        assert host.run_step(refused).status == "failed"
        archive = f"{url}&{c('unarchive', 'url')}"
        web.pages[f"/it{query}&{c('unarchive', 'url')}"] = WebAnswer(b"other")
        digits = hashlib.sha256(c("unarchive", "checksum").encode()).hexdigest()
        c.issued["unarchive", "checksum"] = digits
        refused = {
            "unarchive": {"url": archive, "path": f"{host.root}/un", "checksum": f"sha256:{digits}"}
        }
        outcome = host.run_step(refused)
        assert "the archive has the checksum" in outcome.stderr.text
        assert len(web.requests) > len(steps)
        assert c.leaked(watched) == set()


@pytest.mark.parametrize("archive", [True, False])
def test_what_gets_to_git_is_seen_by_nobody(
    host: ShellMachine, c: ParamCanaries, tmp_path: Path, archive: bool
) -> None:
    at = tmp_path / "served" / "repo"
    at.mkdir(parents=True)
    run_git(at, "init", "-qb", "main")
    commit_files(at, x="1\n")
    user, password = c("git", "user"), c("git", "password")
    # git's own helpers are written down as well
    with (
        serving_git(at.parent, **{user: password}) as web,
        watch_commands(host, tmp_path / "watched", [c.nonce]) as watched,
    ):
        url = web.url("repo", user, password)
        arguments = {"repo": url, "version": "main", "archive": archive}
        steps: StepList = [
            {"git": {**arguments, "path": f"{host.root}/to", "mirror": f"{host.root}/mirror"}},
            {"git": {**arguments, "path": f"{host.root}/too"}},
            {"git_revision": {"repo": url}},
        ]
        check_all_ok(host, steps)
        assert any(word.endswith("/git-remote-http") for word in watched.all_words)
        assert not watched.exposures(user) + watched.exposures(password)


OURS = (
    "groupadd c4ngroup; useradd -m c4nuser; crontab -r 2>/dev/null || :; mkdir -p /etc/sysctl.d\n"
)


def account_steps(c: ParamCanaries) -> StepList:
    user = {"groups": ["c4ngroup"], "comment": c("user", "comment"), "home": "/srv/c4n"}
    return [
        {"user": {"name": "c4nnew", "password_hash": f"$6$x${c('user', 'password_hash')}", **user}},
        {"group": {"name": "c4nmore", "gid": 60321}},
        {"hostname": {"name": c("hostname", "name")}},
        {"sysctl": {"name": "net.ipv4.ip_local_port_range", "value": "60123 60321"}},
        {"cron": {"name": c("cron", "name"), "job": c("cron", "job"), "user": "c4nuser"}},
        {"authorized_key": {"user": "c4nuser", "exclusive": True,
                            "key": f"ssh-ed25519 AAAA{c('authorized_key', 'key')} ann"}},
        {"package": {"name": "orch-test-a"}},
        {"apt_repository": {"name": "c4n", "update": False,
                            "uris": f"file:/{c('apt_repository', 'uris')}",
                            "suites": c("apt_repository", "suites"),
                            "components": c("apt_repository", "components"),
                            "architectures": c("apt_repository", "architectures"),
                            "options": {"X-It": c("apt_repository", "options")}}},
        {"yum_repository": {"name": "c4n", "description": c("yum_repository", "description"),
                            "baseurl": c("yum_repository", "baseurl"),
                            "gpgkey": c("yum_repository", "gpgkey"),
                            "options": {"x": c("yum_repository", "options")}}},
        {"yum_repository": {"name": "c5n", "description": "x",
                            "mirrorlist": c("yum_repository", "mirrorlist")}},
        {"yum_repository": {"name": "c6n", "description": "x",
                            "metalink": c("yum_repository", "metalink")}},
        {"limits": {"domain": c("limits", "domain"), "limit_type": "soft", "limit_item": "nofile",
                    "value": "1", "path": "/tmp/limits"}},
        {"sudoers": {"name": "c4n", "user": c("sudoers", "user"),
                     "commands": [f"/bin/{c('sudoers', 'commands')}"],
                     "runas": c("sudoers", "runas"), "for_host": c("sudoers", "for_host")}},
        {"sudoers": {"name": "c5n", "group": c("sudoers", "group"), "commands": ["ALL"]}},
        {"sudoers": {"name": "c6n", "content": f"# {c('sudoers', 'content')}\n"}},
        {"dpkg_divert": {"path": f"/{c('dpkg_divert', 'path')}",
                         "to": f"/{c('dpkg_divert', 'to')}",
                         "holder": c("dpkg_divert", "holder")}},
        {"logrotate": {"name": "c4n", "paths": [f"/var/log/{c('logrotate', 'paths')}"],
                       "prerotate": c("logrotate", "prerotate"),
                       "postrotate": c("logrotate", "postrotate"),
                       "options": [f"compresscmd /bin/{c('logrotate', 'options')}"]}},
        {"logrotate": {"name": "c5n", "content": f"# {c('logrotate', 'content')}\n"}},
        {"service": {"name": "orchtest", "state": "started", "enabled": True}},
        {"systemd_unit": {"name": "c4n.service",
                          "content": f"[Service]\nExecStart=/bin/true {c('systemd_unit', 'content')}\n"}},
    ]  # fmt: skip


def test_what_accounts_are_given_is_seen_by_nobody(
    host: ShellMachine, c: ParamCanaries, tmp_path: Path
) -> None:
    with run_inside_copy(host), watch_commands(host, tmp_path / "watched", [c.nonce]) as watched:
        run_in_copy(host, OURS + REPOSITORY + SCRIPT)
        offer_packages(host, "orch-test-a 1.0")
        check_all_ok(host, account_steps(c))
        assert c.leaked(watched) == set()
        assert not [word for word in watched.all_words if "60123" in word], "a value of sysctl"


CANNOT = {
    "wait_for": {"within"},
    "http": {"within"},
    "pause": {"seconds"},
    "git_revision": {"version"},
    "user": {"shell", "group"},
    "reboot": {"timeout", "delay", "command", "test", "boot_id"},
    "apt_repository": {"types"},
    "limits": {"value"},
    "logrotate": {"size", "minsize", "maxsize", "create", "su", "src"},
    "swap": {"size"},
    "template": {"src", "delimiters"},
    "upload": {"src"},
}
WATCHED_ELSEWHERE = {
    "docker_compose",
    "docker_container",
    "docker_login",
    "docker_network",
    "debconf",
    "mysql_db",
    "mysql_query",
    "mysql_user",
    "nginx_site",
    "postgres_db",
    "postgres_privileges",
    "postgres_query",
    "postgres_user",
    "request",
}
"""Modules whose own tests watch them, on a server (`watch_commands`)."""


def test_every_param_that_can_be_any_text_is_tried(c: ParamCanaries, tmp_path: Path) -> None:
    """Or exposed, or no host is sent its text."""
    file_steps(c, tmp_path)
    account_steps(c)
    source, missing = Path(__file__).read_text(), set[str]()
    for module in shipped_modules().keys() - WATCHED_ELSEWHERE:
        for param in load_module(module).params.values():
            if (
                param.type not in ("str", "any", "list", "dict", "command", "regex")
                or param.choices
            ):
                continue
            tried = (module, param.name) in c.issued or f'c("{module}", "{param.name}")' in source
            tried |= f"c('{module}', '{param.name}')" in source
            known = param.name in exposed_params(module) | CANNOT.get(module, set())
            missing |= set() if tried or known else {f"{param.name} of {module}"}
    assert not missing


def test_the_environment_of_a_process_is_its_users_alone() -> None:
    """What git and its helper are told is in theirs: proc_pid_environ(5)."""
    assert stat.S_IMODE(Path("/proc/self/environ").stat().st_mode) == 0o400


SECRET = """\
connect: {transport: local}
vars:
  token: !secret {env: TOKEN}
  near: "/srv/{{ token }}"
  folder: /srv/hidden-part
"""


@pytest.fixture
def local(project: OrchProject) -> OrchProject:
    files = {"inventories/dev/stage.yml": SECRET, "inventories/dev/hosts.yml": "one: {}\n"}
    return project.write(files)


@pytest.mark.parametrize(
    ("step", "param"),
    [
        ('copy: {path: "{{ near }}", content: x}', "path"),
        ('link: {path: /srv/x, to: "{{ token }}"}', "to"),
        ('user: {name: us, groups: [a, "{{ token }}"]}', "groups"),
        ('user: {name: us, comment: "{{ token | upper }}"}', "comment"),
        ('git: {repo: "https://h/{{ token }}.git", path: /srv/x}', "repo"),
        ('git: {repo: "https://{{ token }}@h/x.git", path: /srv/x}', "repo"),
        ('git_revision: {repo: "ssh://u:{{ token }}@h/{{ token }}"}', "repo"),
        ('file: {path: "{{ item }}"}, loop: ["{{ near }}"]', "path"),
        ('inner: {at: "{{ token }}"}', "path"),
        ('touch: {path: "{{ token }}"}', "path"),
    ],
)
def test_a_secret_where_it_would_be_seen_is_refused(
    local: OrchProject, step: str, param: str
) -> None:
    inner = 'params: {at: {}}\nsteps: [{directory: {path: "/srv/{{ at }}"}}]\n'
    local.write({"tasks/t.yml": f"steps:\n  - {{{step}}}\n", "tasks/inner.yml": inner})
    done = local.orch("-s", "dev", "run", "t", TOKEN="hidden-part")
    assert done.code == 3, done.err
    assert f"the secret 'token' would be visible in `{param}`" in done.err
    assert "hidden-part" not in done.err + done.out
    # a plan, which fetches none, sees where it stands as it is
    done = local.orch("-s", "dev", "plan", "t")
    assert done.code == (0 if "upper" in step else 3), done.err


@pytest.mark.parametrize(
    "step",
    [
        'copy: {path: "{{ folder }}/x", content: "{{ token }}"}',
        'git: {repo: "https://us:{{ token }}@h/x.git", path: "{{ folder }}"}',
        'http: {url: "http://u:{{ token }}@h/{{ token }}", headers: {A: "{{ token }}"}}',
        'line: {path: /x, line: "{{ token }}", match: "^{{ token }}"}',
    ],
)
def test_elsewhere_it_may_stand(local: OrchProject, step: str) -> None:
    """A text is no secret for being alike: it is not made of one."""
    local.write({"tasks/t.yml": f"steps:\n  - {step}\n"})
    done = local.orch("-s", "dev", "plan", "t", TOKEN="hidden-part")
    assert done.code == 0, done.err


def test_a_value_set_on_the_way_is_one_too(local: OrchProject) -> None:
    for when, code in (("true", 3), ("r.stdout", 1)):
        steps = (
            f'{{run: echo hi, register: r}}, {{set: {{at: "/tmp/{{{{ token }}}}"}}, when: {when}}}'
        )
        local.write({"tasks/t.yml": f'steps: [{steps}, {{file: {{path: "{{{{ at }}}}"}}}}]\n'})
        done = local.orch("-s", "dev", "run", "t", TOKEN="hidden-part")
        assert done.code == code
        assert "the secret 'token' would be visible in `path`" in done.err + done.out


MODULE = """\
desc: m
params: {a: {}, b: {}}
exposes: [EXPOSED]
probe: state a {{ a }}
want: {a: "{{ b }}"}
"""


def test_users_modules_say_so_too(local: OrchProject) -> None:
    task = 'steps: [{m: {a: x, b: "{{ token }}"}}]\n'
    local.write({"tasks/t.yml": task, "tasks/m.yml": MODULE.replace("EXPOSED", "b")})
    done = local.orch("-s", "dev", "run", "t", TOKEN="hidden-part")
    assert "the secret 'token' would be visible in `b` of `m`" in done.err
    local.write({"tasks/m.yml": MODULE.replace("EXPOSED", "c")})
    done = local.orch("-s", "dev", "run", "t", TOKEN="hidden-part")
    assert "exposes: 'c' is not a param" in done.err
