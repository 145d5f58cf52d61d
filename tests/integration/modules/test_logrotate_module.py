"""``logrotate``: files of /etc/logrotate.d in a private copy, read and obeyed by the real logrotate."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.private_copy import give_own_tmp, run_in_copy

FILE = "/etc/logrotate.d/app"
OWN_FOLDER = """
rm -rf /etc/logrotate.d/*
mkdir -p /var/log/app
echo '/var/log/other.log {
    weekly
}' >/etc/logrotate.d/other
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    give_own_tmp(private)
    run_in_copy(private, OWN_FOLDER)
    return private


def logrotate_step(**params: Any) -> dict[str, Any]:
    return {"logrotate": {"name": "app", **params}}


ALL = {
    "paths": ["/var/log/app/*.log", "/var/log/a b/x.log"],
    "frequency": "daily",
    "rotate": 14,
    "minsize": "1k",
    "maxsize": "100M",
    "maxage": 30,
    "compress": True,
    "delaycompress": False,
    "copytruncate": False,
    "create": "0640 root adm",
    "su": "root adm",
    "missingok": True,
    "notifempty": True,
    "dateext": False,
    "sharedscripts": True,
    "prerotate": "echo before",
    "postrotate": "if true; then\n  echo 'a \"b\" $1'\nfi\n",
    "options": ["compresscmd /bin/gzip", "dateformat -%Y%m%d"],
}
ALL_TEXT = """\
/var/log/app/*.log
"/var/log/a b/x.log" {
    daily
    rotate 14
    minsize 1k
    maxsize 100M
    maxage 30
    compress
    nodelaycompress
    nocopytruncate
    create 0640 root adm
    su root adm
    missingok
    notifempty
    nodateext
    sharedscripts
    compresscmd /bin/gzip
    dateformat -%Y%m%d
    prerotate
        echo before
    endscript
    postrotate
        if true; then
          echo 'a "b" $1'
        fi
    endscript
}
"""


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (ALL, ALL_TEXT),
        ({"paths": ["/var/log/x"], "size": "1M"}, "/var/log/x {\n    size 1M\n}\n"),
        ({"content": "/var/log/y {\n daily\n}\n"}, "/var/log/y {\n daily\n}\n"),
    ],
)
def test_the_file_is_written_in_the_words_of_logrotate(
    host: ShellMachine, params: dict[str, Any], text: str
) -> None:
    host.check_then_run(logrotate_step(**params), "changed")
    assert run_in_copy(host, f"cat {FILE}; stat -c '%a %u %g' {FILE}") == f"{text}644 0 0\n"
    run_in_copy(host, f"chmod 666 {FILE}; chown 1:1 {FILE}")
    outcome = host.check_then_run(logrotate_step(**params), "changed")
    assert [change.key for change in outcome.changes] == ["mode", "owner", "group"]
    host.check_then_run(logrotate_step(state="absent"), "changed")
    assert run_in_copy(host, "ls -A /etc/logrotate.d") == "other\n"


def test_logs_are_rotated_as_it_says(host: ShellMachine) -> None:
    step = logrotate_step(
        paths=["/var/log/app/*.log"],
        rotate=2,
        compress=True,
        create="0600 root adm",
        postrotate="touch /var/log/app/told",
    )
    host.check_then_run(step, "changed")
    run_in_copy(
        host, f"echo one >/var/log/app/a.log; chmod 755 /var/log/app; logrotate -f -s /run/s {FILE}"
    )
    found = run_in_copy(host, "cd /var/log/app; ls; zcat a.log.1.gz; stat -c '%a %G %s' a.log")
    assert found == "a.log\na.log.1.gz\ntold\none\n600 adm 0\n"


def test_a_template_of_the_project_is_its_text(host: ShellMachine) -> None:
    files = {"app.j2": "{{ '/var/log/x' }} {\n    weekly\n}\n"}
    host.check_then_run(logrotate_step(src="app.j2"), "changed", files=files)
    assert run_in_copy(host, f"cat {FILE}") == "/var/log/x {\n    weekly\n}\n"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"paths": ["/a"], "options": ["nonsense"]}, "error: app:2 unknown option 'nonsense'"),
    ({"paths": ["/a"], "create": "0640 nobody1 adm"}, "unknown user 'nobody1'"),
    ({"paths": ["/a"], "size": "10Q"}, "error: app:"),
    ({"content": "/a {\n postrotate\n true\n}\n"}, "without endscript"),
    ({"paths": ["/var/log/*.log", "/var/log/other.log"]}, "duplicate log entry"),
    ({"paths": ["/a"], "name": "app.bak"}, "logrotate ignores files with such a name"),
    ({"paths": ["/a\n/b"]}, "a value contains a newline"),
    ({"paths": ["/a"], "su": "root\nroot"}, "a value contains a newline"),
    ({"paths": ["/a {"]}, "contains a brace or a quote"),
    ({"paths": ["a"]}, "'a' is not absolute"),
    ({}, "give `paths`, or the text"),
    ({"paths": ["/a"], "content": "x"}, "give `paths`, or the text"),
]


def test_what_logrotate_would_refuse_is_not_put_in_place(host: ShellMachine) -> None:
    run_in_copy(host, "touch /var/log/other.log")
    for params, message in REFUSED:
        outcome = host.check_then_run(logrotate_step(**params), "failed")
        assert message in outcome.stderr.text, (params, result_message(outcome))
    assert run_in_copy(host, "ls -A /etc/logrotate.d") == "other\n"


def test_a_mistake_of_another_file_does_not_count(host: ShellMachine) -> None:
    run_in_copy(host, "cp /etc/logrotate.d/other /etc/logrotate.d/twin; touch /var/log/other.log")
    run_in_copy(host, "echo nonsense >/etc/logrotate.d/bad")
    host.check_then_run(logrotate_step(paths=["/var/log/x"]), "changed")


def test_paths_may_have_odd_names(host: ShellMachine) -> None:
    paths = [f"/var/log/{n}" for n in ODD_NAMES if not set(n) & set("\n\"'{}\\")]
    host.check_then_run(logrotate_step(paths=paths, missingok=True), "changed")
    text = run_in_copy(host, f"logrotate -d {FILE} 2>&1")
    assert "considering log /var/log/$(id)\n" in text
    assert "considering log /var/log/with space\n" in text
