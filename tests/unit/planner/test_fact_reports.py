"""Facts: what is collected, what a host's report is taken for, and the project's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, OrchError
from orchestrator.model.facts import FACT_GROUPS, FACTS, FactType
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.fact_parser import parse_group, parse_own_fact, read_report
from orchestrator.planner.fact_sources import FactSources, FactsPending, FactsView
from orchestrator.playbook.own_facts import OwnFact, load_own_facts
from tests.unit.planner.plan_project import PlanProject, command_of, resumed_command

NETWORK = """\
interface\teth0\t02:00:00:00:00:01\t1500\tup
interface\tlo\t00:00:00:00:00:00\t65536\tup
address\tlo\t127.0.0.1/8
address\teth0\t192.0.2.11/24
address\teth0\t192.0.2.10/24
address\teth0\tfe80::1/64
address\teth0\t2001:db8::10/64
address\teth0\t999.0.2.10/24
route\t4\teth0\t192.0.2.1\t192.0.2.10
nameserver\t192.0.2.53
"""
PROC = """\
interface\teth0\t02:00:00:00:00:01\t1500\tup
hexroute\teth0\t010200C0
hexnet\teth0\t000200C0\t00FFFFFF
address\t\t127.0.0.1
address\t\t192.0.2.10
hexaddress\teth0\t20010db8000000000000000000000010\t40
"""


def own_fact(root: Path, files: dict[str, str], name: str) -> OwnFact:
    folder = root / "tasks" / "facts"
    folder.mkdir(parents=True, exist_ok=True)
    for filename, text in files.items():
        (folder / filename).write_text(text)
    return load_own_facts(root)[name]


def test_each_group_has_a_script_and_each_fact_a_group() -> None:
    scripts = {path.stem for path in (MODULES_FOLDER / "facts").glob("*.sh")}
    assert scripts == {*FACT_GROUPS, "common", "own"}
    for name, fact in FACTS.items():
        values = parse_group(fact.group, {})
        assert name in values
        empty = {FactType.TEXT: "", FactType.INTEGER: 0, FactType.LIST: []}
        expected = {field: empty[of.type] for field, of in fact.fields.items() if not fact.keyed}
        assert values[name] == (expected if fact.type is FactType.MAPPING else empty[fact.type])


def test_only_the_groups_of_the_named_facts_are_collected() -> None:
    sources = FactSources()
    assert sources.query(["os", "cpus"]).groups == ("system",)
    assert "dpkg-query" not in sources.query(["os"]).script
    assert sources.query(["packages", "ipv6"]).groups == ("network", "packages")
    assert sources.query(["no_fact"]).groups == ()


def test_a_view_waits_for_the_facts_that_are_read() -> None:
    known: dict[str, object] = {"os": "linux"}
    view = FactsView(FactSources(), lambda: known)
    assert view["os"] == "linux"
    with pytest.raises(FactsPending) as pending:
        view["packages"]
    assert pending.value.names == {"facts.packages"}
    known["packages"] = {"nginx": "1.2"}
    assert view["packages"] == {"nginx": "1.2"}
    with pytest.raises(FactsPending) as pending:
        view.items()
    assert pending.value.facts == FACTS.keys() - known.keys()
    assert "packages" in view
    assert "nothing" not in view


@pytest.mark.parametrize(
    ("report", "gateway"), [(NETWORK, "192.0.2.1"), (PROC, "192.0.2.1")], ids=["ip", "proc"]
)
def test_addresses_are_those_that_others_can_use(report: str, gateway: str) -> None:
    found = parse_group("network", read_report(report))
    route = {"interface": "eth0", "gateway": gateway, "address": "192.0.2.10"}
    assert found["default_route"] == route
    ipv4, ipv6, interfaces = found["ipv4"], found["ipv6"], found["interfaces"]
    assert isinstance(ipv4, list)
    assert ipv4[0] == "192.0.2.10"
    assert ipv6 == ["2001:db8::10"]
    assert isinstance(interfaces, dict)
    assert "192.0.2.10/24" in interfaces["eth0"]["ipv4"]
    assert interfaces["eth0"]["mtu"] == 1500
    assert interfaces["eth0"]["up"] is True


def test_accounts_services_mounts_and_disks_are_typed() -> None:
    report = read_report(
        "passwd\tann:x:1000:100:Ann, B:/home/ann:/bin/sh\npasswd\tbroken\n"
        "group\tadm:x:4:ann,bob\n"
        "unit_file\tnginx.service\tenabled\nunit_file\tgetty@.service\tenabled\n"
        "unit\tnginx.service\tloaded\tactive\trunning\n"
        "unit\tbad.service\tloaded\tfailed\tfailed\nunit\tno.service\tnot-found\tinactive\tdead\n"
        "mount\t/a b\t/dev/sda1\text4\trw,noexec\nspace\t/a b\t2048\t1024\n"
        "disk\tsda\t4096\tFast  \t0\t1\tsda1 sda2\n"
    )
    accounts = parse_group("accounts", report)
    assert accounts == {
        "users": {
            "ann": {
                "uid": 1000,
                "gid": 100,
                "comment": "Ann, B",
                "home": "/home/ann",
                "shell": "/bin/sh",
            }
        },
        "groups": {"adm": {"gid": 4, "members": ["ann", "bob"]}},
    }
    assert parse_group("services", report)["services"] == {
        "nginx": {"state": "running", "enabled": True},
        "bad": {"state": "failed", "enabled": False},
    }
    mount = {"device": "/dev/sda1", "type": "ext4", "options": ["rw", "noexec"]}
    assert parse_group("mounts", report)["mounts"] == {"/a b": {**mount, "size": 2, "free": 1}}
    disk = {"size": 2, "model": "Fast", "rotational": False, "removable": True}
    assert parse_group("disks", report)["disks"] == {
        "sda": {**disk, "partitions": ["sda1", "sda2"]}
    }


def test_a_field_may_have_tabs_newlines_and_backslashes() -> None:
    report = read_report("env\tA\tone\\ttwo\\nthree\\\\n\nenv\tB\t\x85\u2028x\n")
    assert parse_group("env", report)["env"] == {"A": "one\ttwo\nthree\\n", "B": "\x85\u2028x"}


@pytest.mark.parametrize(
    ("group", "report", "what"),
    [
        ("system", f"cpus\t{'9' * 30}\n", "cpus is a number of 30 digits"),
        ("env", "env\tA\tb\n" * 20_001, "more than 20,000 lines of 'env'"),
        ("system", f"os\t{'x' * 20_000}\n", "a text of more than 16,384 characters"),
        ("local", "local\tx\t[1,\n", "x is not JSON"),
        ("local", f"local\tx\t{'[' * 60}{']' * 60}\n", "nested too deeply"),
        ("local", f"local\tx\t{'9' * 30}\n", "too many digits"),
        ("local", "local\tx\tNaN\n", "NaN is not a number of JSON"),
        ("local", "local_failed\tx\\n\x1b[31m\t7\n", "x ␛[31m ended with status 7"),
    ],
)
def test_what_a_host_cannot_mean_is_an_error(group: str, report: str, what: str) -> None:
    with pytest.raises(OrchError) as failed:
        parse_group(group, read_report(report))
    message = failed.value.diagnostics[0].message
    assert message.startswith("the host's facts could not be collected: ")
    assert what in message or "\x1b" not in message
    assert "\x1b" not in message
    assert "\n" not in message


def test_an_own_script_prints_lines_or_json(tmp_path: Path) -> None:
    fact = own_fact(tmp_path, {"app.sh": "#!/bin/sh\n# The app\n# on this host\necho a=1\n"}, "app")
    assert (fact.desc, fact.fields) == ("The app on this host", None)
    assert parse_own_fact(fact, "a=1\nb = x=y\n\n") == {"a": "1", "b ": " x=y"}
    assert parse_own_fact(fact, '{"a": 1, "b": [true]}') == {"a": 1, "b": [True]}
    with pytest.raises(OrchError, match="which is not KEY=VALUE"):
        parse_own_fact(fact, "a")


TYPED = """\
desc: The arrays
fields:
  count: {type: int, required: true}
  on: {type: bool}
  names: {type: list}
  more: {type: dict}
  kind: {default: none at all}
script: echo count=3
"""


def test_the_fields_of_an_own_fact_have_types(tmp_path: Path) -> None:
    fact = own_fact(tmp_path, {"raid.yml": TYPED}, "raid")
    text = 'count=3\non=true\nnames=md0\nnames=a,b\nmore={"x": 1}'
    expected = {
        "count": 3,
        "on": True,
        "names": ["md0", "a,b"],
        "more": {"x": 1},
        "kind": "none at all",
    }
    assert parse_own_fact(fact, text) == expected
    assert parse_own_fact(fact, '{"count": 3}')["on"] is None
    for output, what in {
        "count=x": "'count' of 'raid' must be a whole number",
        "on=true": "did not print 'count'",
        "count=1\ncuont=2": "printed 'cuont', which is none of count, on",
        "count=1\nmore=x": "is not JSON",
        '{"count": "x"}': "'count' of 'raid' must be",
    }.items():
        with pytest.raises(OrchError, match=what):
            parse_own_fact(fact, output)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"os.sh": "echo a=1"}, "'os' cannot be a fact: orch has a fact of that name"),
        ({"a-b.sh": ""}, "'a-b' cannot be a fact: only letters, digits and _"),
        ({"a.sh": "", "a.yml": "script: x"}, "another file beside it defines the same fact"),
        ({"a.yml": "desc: x"}, "fact 'a' has no `script`"),
        ({"a.yml": "scripts: x"}, "unknown key 'scripts' in fact 'a'"),
        ({"a.yml": "{script: x, fields: {b: {type: file}}}"}, "cannot be a 'file'"),
    ],
)
def test_what_cannot_be_an_own_fact_is_an_error(
    tmp_path: Path, files: dict[str, str], what: str
) -> None:
    with pytest.raises(DefinitionError) as failed:
        own_fact(tmp_path, files, "")
    assert what in failed.value.diagnostics[0].message
    assert "tasks/facts/" in str(failed.value.diagnostics[0].mark)


def test_own_facts_are_names_of_templates_and_not_tasks(plans: PlanProject) -> None:
    plans.write({"tasks/facts/raid.yml": TYPED})
    (step,) = plans.steps("- run: echo {{ facts.raid.count }}\n")
    assert step.awaited_names == ("facts.raid",)
    assert resumed_command(step, facts={"raid": {"count": 3}}).text == "echo 3"
    problem = plans.refused_steps("- run: echo {{ facts.riad.count }}\n")
    assert (problem.message, problem.hint) == ("'facts.riad' is undefined", "did you mean 'raid'?")
    problem = plans.refused_steps("- facts:raid\n")
    assert problem.message == "no task 'facts:raid'"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("facts.distribution", "write facts.distro, which is lower case"),
        ("facts.memori", "did you mean 'memory'?"),
        ("facts.x", "`orch doc facts` lists them"),
        ("facts.python.versoin", "did you mean 'version'?"),
        ("facts['default_route']['gatewy']", "did you mean 'gateway'?"),
        ("facts.raid.conut", "did you mean 'count'?"),
        ("ansible_facts.default_ipv4.address", "write facts.default_route"),
        ("ansible_facts['packages']", "write facts.packages, a mapping of names to versions"),
        ("ansible_default_ipv4.address", "write {{ facts.default_route }}"),
        ("ansible_virtualization_type", "write {{ facts.virtualization }}"),
    ],
)
def test_an_unknown_fact_names_the_nearest_one(plans: PlanProject, name: str, hint: str) -> None:
    plans.write({"tasks/facts/raid.yml": TYPED})
    problem = plans.refused_steps(f"- run: echo {{{{ {name} }}}}\n")
    assert "is undefined" in problem.message
    assert problem.hint == hint
    assert problem.mark is not None
    assert problem.mark.line == 2


def test_what_only_a_host_can_tell_is_no_error_before(plans: PlanProject) -> None:
    for name in ("mounts['/x'].siz", "packages.nginx", "local.a.b", "python.items()", "site.x"):
        plans.write({"tasks/facts/site.sh": "echo a=1\n"})
        (step,) = plans.steps(f"- run: echo {{{{ facts.{name} | list }}}}\n")
        assert step.awaited_names == (f"facts.{name.partition('[')[0].partition('.')[0]}",)


def test_a_default_is_taken_for_a_fact_that_does_not_exist(plans: PlanProject) -> None:
    assert command_of(plans.step("- run: echo {{ facts.x | default('-') }}\n")).text == "echo -"
