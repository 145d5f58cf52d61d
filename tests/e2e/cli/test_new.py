"""`orch new`: one file with comments on its keys, or an entry in a file with several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.projects import OrchProject


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("web1").write(
        {
            "inventories/common/stage.yml": "default_stage: dev\n",
            "inventories/dev/roles/web.yml": "- web1\n",
        }
    )


@pytest.mark.parametrize(
    ("words", "path", "command"),
    [
        ("task motd", "tasks/motd.yml", "orch run motd"),
        ("task deploy:publish", "tasks/deploy/publish.yml", "orch run deploy:publish"),
        ("module motd", "tasks/motd.yml", "orch doc motd"),
        ("playbook up", "tasks/up.yml", "orch run up"),
        ("host web2", "inventories/dev/hosts/web2.yml", "orch -s dev doctor -l web2"),
        ("host -s dev web[3-4]", "inventories/dev/hosts/web[3-4].yml", "doctor -l 'web[3-4]'"),
        ("role db", "inventories/dev/roles/db.yml", "orch -s dev new host HOST --role db"),
        ("app blog", "inventories/common/apps/blog.yml", "orch init --add deploy"),
        ("app blog -s dev", "inventories/dev/apps/blog.yml", "orch init --add deploy"),
    ],
)
def test_a_new_file_passes_lint_and_is_never_overwritten(
    shop: OrchProject, words: str, path: str, command: str
) -> None:
    done = shop.orch("new", *words.split())
    assert done.code == 0, done.err
    created, following = done.out.splitlines()
    assert created == f"created {path}"
    assert following.startswith("next: orch ")
    assert command in following
    assert shop.orch("lint").out == "no errors\n"
    before = (shop.root / path).read_bytes()
    again = shop.orch("new", *words.split())
    assert again.code == 2
    assert path in again.err
    assert (shop.root / path).read_bytes() == before


def test_everything_new_in_a_fresh_project_passes_lint_and_runs(project: OrchProject) -> None:
    demo = OrchProject(project.root.parent / "demo")
    assert project.orch("init", "-s", "dev", "../demo").code == 0
    for words in ("task a", "module b", "playbook c", "host h", "role r", "app x", "app x -s dev"):
        assert demo.orch("new", *words.split()).code == 0
    assert demo.orch("lint").out == "no errors\n"
    assert demo.orch("run", "a", "c", "-l", "h").code == 0
    changes = [
        demo.orch("run", "b", "path=~/motd", "text=x y", "-l", "h", "--json").host_rows["h"]
        for _ in range(2)
    ]
    assert [row["changed"] for row in changes] == [1, 0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["task", "run"], "it is a keyword of orch"),
        (["module", "copy"], "a built-in module has that name"),
        (["playbook", "a b"], "'a b' has characters other than letters"),
        (["task", ".."], "'..' has characters other than letters"),
        (["task", "a:..:b"], "'..' has characters other than letters"),
        (["task", "a:"], "'' has characters other than letters"),
        (["task", "é"], "'é' has characters other than letters"),
        (["task", "--", "-a"], "'-a' has characters other than letters"),
        (["task", "a.bak:b"], "folders named like 'a.bak' are ignored"),
        (["task", "tasks/a/b.yml"], "orch new task a:b"),
        (["task", "a.yml"], "orch new task a"),
        (["host", "a b"], "it contains a blank or an unprintable character"),
        (["host", "all"], "'all' means every host"),
        (["host", ".."], "'..' is not a host name or IP address"),
        (["host", "../x"], "'../x' is not a host name or IP address"),
        (["host", "--", "-a"], "'-a' is not a host name or IP address"),
        (["host", "h", "--user", "a b"], "'a b' is not a user name"),
        (["host", "h", "--port", "0"], "the port must be between 1 and 65535, found '0'"),
        (["host", "h", "--address", "a@b"], "put user and port under `connect`"),
        (["host", "h", "--role", "wbe"], "did you mean 'web'?"),
        (["role", "all"], "'all' means every host"),
        (["role", "é"], "only letters, digits, '_', '.' and '-' are allowed"),
        (["app", "../x"], "only letters, digits, '_', '.' and '-' are allowed"),
        (["tsk", "x"], "did you mean 'task'?"),
    ],
)
def test_an_invalid_name_is_refused_with_the_reason_of_the_loader(
    shop: OrchProject, words: list[str], reason: str
) -> None:
    before = sorted(shop.root.rglob("*"))
    done = shop.orch("new", *words)
    assert done.code == 2
    assert reason in done.err
    assert sorted(shop.root.rglob("*")) == before


def test_a_file_in_place_of_a_folder_is_named(shop: OrchProject) -> None:
    shop.write({"tasks/a": "", "inventories/common/apps": ""})
    for words in ("task a:b", "app x"):
        done = shop.orch("new", *words.split())
        assert done.code == 2
        assert "is not a folder" in done.err


def test_a_host_has_the_settings_and_roles_that_are_given(shop: OrchProject) -> None:
    settings = ("--address", "10.0.0.7", "--user", "deploy", "--port", "2222", "--role", "web")
    done = shop.orch("new", "host", "web2", *settings)
    assert done.out.splitlines()[:2] == [
        "created inventories/dev/hosts/web2.yml",
        "added web2 to role web in inventories/dev/roles/web.yml",
    ]
    assert (shop.root / "inventories/dev/roles/web.yml").read_text() == "- web1\n- web2\n"
    row = json.loads(shop.orch("hosts", "-l", "web2", "--json").out)[0]
    assert (row["address"], row["port"], row["user"], row["roles"]) == (
        *("10.0.0.7", 2222, "deploy"),
        ["web"],
    )


def test_a_host_of_a_stage_is_one_whatever_its_case(shop: OrchProject) -> None:
    done = shop.orch("new", "host", "WEB1")
    assert done.code == 2
    assert "inventories/dev/hosts/web1.yml" in done.err


def test_a_host_that_a_role_lists_already_is_not_listed_twice(shop: OrchProject) -> None:
    shop.write({"inventories/dev/roles/web.yml": "- web[1-9]\n"})
    done = shop.orch("new", "host", "web5", "--role", "web")
    assert "kept role web: it has web5 already" in done.out
    assert (shop.root / "inventories/dev/roles/web.yml").read_text() == "- web[1-9]\n"


@pytest.mark.parametrize("text", ["roles: [web]\n", "hosts: &all [web1]\nvars: {x: 1}\n"])
def test_a_role_whose_file_cannot_be_added_to_is_set_in_the_host_s_own(
    shop: OrchProject, text: str
) -> None:
    path = shop.root / "inventories/dev/roles/other.yml"
    path.write_text(text)
    done = shop.orch("new", "host", "h", "--role", "other")
    assert done.code == 0, done.err
    assert json.loads(shop.orch("hosts", "-l", "h", "--json").out)[0]["roles"][0] == "other"
    assert shop.orch("lint").code == 0


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_new_role_or_app_of_a_stage_overrides_nothing_of_common(
    shop: OrchProject, form: str
) -> None:
    shop.write(
        {
            "inventories/common/roles/all.web.yml": "[web1]\n",
            "inventories/common/apps/blog.yml": "desc: d\nvars: {deploy_to: ~/blog}\n",
        }
    )
    if form == "file":
        (shop.root / "inventories/dev/roles/web.yml").unlink()
        (shop.root / "inventories/dev/roles").rmdir()
        shop.write({"inventories/dev/roles.yml": "web: [web1]\n", "inventories/dev/apps.yml": ""})
    before = shop.orch("vars", "web1", "--app", "blog").out
    for kind, name in (("role", "all.web"), ("app", "blog")):
        assert shop.orch("-s", "dev", "new", kind, name).code == 0
    assert shop.orch("vars", "web1", "--app", "blog").out == before
    assert shop.orch("hosts", "-l", "all.web").out.count("web1") == 2
    assert shop.orch("lint").out == "no errors\n"


def test_an_entry_is_added_to_a_file_with_several_and_every_byte_of_it_stays(
    shop: OrchProject,
) -> None:
    files = {
        "hosts": b"# all\r\nz:\r\n  vars: {n: 1} # x\r\n\r\n# last\r\na: {}",
        "roles": "# ä\nweb: [z]\ndb:\n  - a\n".encode(),
        "apps": b"blog:\n  roles: [web]\n",
    }
    folder = shop.root / "inventories/real"
    folder.mkdir()
    (folder / "stage.yml").write_text("connect: {transport: sandbox}\n")
    for name, data in files.items():
        (folder / f"{name}.yml").write_bytes(data)
    assert shop.orch("lint").code == 0
    for words in ("host h --role web --role db", "role new", "app shop"):
        assert shop.orch("-s", "real", "new", *words.split()).code == 0
    assert (folder / "hosts.yml").read_bytes().startswith(files["hosts"] + b"\r\nh:\r\n")
    roles = (folder / "roles.yml").read_bytes()
    assert roles.startswith("# ä\nweb: [z, h]\ndb:\n  - a\n  - h\nnew:\n".encode())
    assert (folder / "apps.yml").read_bytes().startswith(files["apps"] + b"shop:\n")
    rows = json.loads(shop.orch("-s", "real", "hosts", "--json").out)
    assert [(row["host"], row["roles"]) for row in rows] == [
        ("z", ["web"]),
        ("a", ["db"]),
        ("h", ["web", "db"]),
    ]
    assert shop.orch("lint").out == "no errors\n"


@pytest.mark.parametrize("text", ["{a: {}}\n", "a: {}\n...\n", "a:\n  vars: {}\n  desc: |\n    x"])
def test_a_file_that_cannot_be_added_to_is_kept_and_the_entry_is_shown(
    shop: OrchProject, text: str
) -> None:
    shop.write({"inventories/real/hosts.yml": text})
    done = shop.orch("-s", "real", "new", "host", "h", "--address", "10.0.0.9")
    assert done.code == 2
    assert "inventories/real/hosts.yml cannot be added to" in done.err
    assert "add this entry yourself: h: {address: 10.0.0.9}" in done.err
    assert (shop.root / "inventories/real/hosts.yml").read_text() == text


def test_a_program_that_prints_the_hosts_is_named(shop: OrchProject) -> None:
    shop.write({"inventories/real/hosts": "#!/bin/sh\necho '{}'\n"})
    (shop.root / "inventories/real/hosts").chmod(0o755)
    done = shop.orch("-s", "real", "new", "host", "h")
    assert done.code == 2
    assert "is a program that prints the hosts" in done.err
    assert not (shop.root / "inventories/real/hosts.yml").exists()


def test_a_change_that_the_loader_refuses_is_undone(shop: OrchProject) -> None:
    shop.write({"inventories/real/hosts.yml": "a: {address: 10.0.0.9}\n"})
    shop.write({"inventories/real/roles/web.yml": "- a\n"})
    words = ("-s", "real", "new", "host", "b", "--address", "10.0.0.9", "--role", "web")
    done = shop.orch(*words)
    assert done.code == 3
    assert "host 'b' was not added: stage 'real' would have an error" in done.err
    assert "both connect to 10.0.0.9" in done.err
    assert (shop.root / "inventories/real/hosts.yml").read_text() == "a: {address: 10.0.0.9}\n"
    assert (shop.root / "inventories/real/roles/web.yml").read_text() == "- a\n"


def test_a_host_that_a_stage_lacks_can_be_added_though_the_stage_is_in_error(
    shop: OrchProject,
) -> None:
    shop.write({"inventories/dev/apps/blog.yml": "hosts: {web9: {vars: {n: 1}}}\n"})
    assert shop.orch("lint").code == 3
    assert shop.orch("new", "host", "web9").code == 0
    assert shop.orch("lint").out == "no errors\n"


def test_without_a_stage_a_host_asks_for_one(project: OrchProject) -> None:
    project.add_sandbox_stage("a", stage="dev").add_sandbox_stage("b", stage="prod")
    done = project.orch("new", "host", "h")
    assert done.code == 2
    assert "`orch -s dev new host h'" in done.err
    assert project.orch("new", "task", "t").out.splitlines()[1] == "next: orch -s dev run t"


def test_options_can_be_written_anywhere(shop: OrchProject, tmp_path: Path) -> None:
    for number, words in enumerate(
        (
            ("-s", "dev", "--role", "web", "new", "host"),
            ("new", "-s", "dev", "host", "--role", "web"),
            ("new", "host", "-s", "dev", "--role", "web"),
        )
    ):
        done = shop.orch("-C", str(shop.root), *words, f"h{number}", cwd=tmp_path)
        assert done.code == 0, done.err
    assert (shop.root / "inventories/dev/roles/web.yml").read_text().count("- h") == 3
