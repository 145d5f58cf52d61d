"""Validation of params: path types, list items, and rules over several params."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult

TASK = """
    desc: t
    params:
      to: {type: path, absolute: true, default: ~/x}
      dirs: {type: list, elements: subpath, default: []}
      files: {type: list, elements: subpath, default: []}
      release: {type: name, default: one}
      repository: {default: ""}
      folder: {default: x}
      archive: {}
    one_of: [repository, folder, archive]
    disjoint: [dirs, files]
    steps:
      - run: echo {{ to }} {{ dirs }} {{ files }} {{ release }}
        readonly: true
"""


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    project.add_sandbox_stage("a1", "a2").write({"tasks/t.yml": TASK})
    return project


def write_app(project: OrchProject, **variables: str) -> OrchProject:
    lines = [f"  {name}: {value}\n" for name, value in variables.items()]
    return project.write(
        {"inventories/dev/apps/blog.yml": "vars:\n" + "".join(lines or ["  {}\n"])}
    )


def run_task(project: OrchProject, *words: str) -> OrchResult:
    done = project.orch("-s", "dev", "run", "t", "--app", "blog", *words)
    assert done.code == 3 or ("a1" in done.out and not done.code), done.err
    return done


@pytest.mark.parametrize("to", ["rel", "./rel", "apps/rel", "~other/x", "$HOME/x", "''"])
def test_a_path_that_must_be_absolute_is_refused_at_its_line(shop: OrchProject, to: str) -> None:
    done = run_task(write_app(shop, keep="1", to=to))
    assert done.code == 3
    assert "'to' must be" in done.err
    assert "inventories/dev/apps/blog.yml:3:7" in done.err
    assert not (shop.root / ".orch/runs").exists()


@pytest.mark.parametrize("to", ["/srv/x", "~/x", "'~'", "'{{ host.name }}'"])
def test_a_path_may_be_absolute_or_in_the_home(shop: OrchProject, to: str) -> None:
    done = run_task(write_app(shop, to=to))
    assert done.code == (3 if "host" in to else 0)
    assert ("found the text 'a[1-2]'" in done.err) is ("host" in to)


@pytest.mark.parametrize(
    ("dirs", "column", "why"),
    [
        ('["log", ""]', 17, "must name something below its folder, found the text '', as item 2"),
        ("[., log]", 10, "must name something below its folder"),
        ("[../x]", 10, "must be a path that stays below its folder, found the text '../x'"),
        ("[a, b/../../x]", 13, "must be a path that stays below its folder"),
        ("[/etc]", 10, "must be a path that stays below its folder"),
        ("[~/x]", 10, "must be a path that stays below its folder"),
        ("[a, {b: c}]", 13, "must be text, found a mapping, as item 2"),
        ("/etc", 9, "must be a path that stays below its folder"),
    ],
)
def test_what_leads_out_of_a_folder_is_refused_at_its_item(
    shop: OrchProject, dirs: str, column: int, why: str
) -> None:
    done = run_task(write_app(shop, dirs=dirs))
    assert done.code == 3
    assert f"error: 'dirs' {why}" in done.err
    assert f"inventories/dev/apps/blog.yml:2:{column}\n" in done.err


def test_needless_parts_of_a_path_are_left_out(shop: OrchProject) -> None:
    done = run_task(write_app(shop, dirs="[log/, ./tmp//x, -n, 'a b']"), "release=v10")
    assert "/x log tmp/x -n a b v10" in done.out


@pytest.mark.parametrize(
    ("variables", "what", "position"),
    [
        ({"dirs": "[log, log/]"}, "'log' of dirs is given twice", "2:15"),
        ({"dirs": "[a/b, a]"}, "'a/b' of dirs is inside 'a'", "2:10"),
        ({"dirs": "[a-b, a]", "files": "[a/x]"}, "'a/x' of files is inside 'a'", "3:11"),
        ({"dirs": "[a]", "files": "[a]"}, "'a' of files is given twice", "3:11"),
    ],
)
def test_paths_are_apart(
    shop: OrchProject, variables: dict[str, str], what: str, position: str
) -> None:
    done = run_task(write_app(shop, **variables))
    assert done.code == 3
    assert f"app 'blog': {what}" in done.err
    assert f"inventories/dev/apps/blog.yml:{position}" in done.err
    assert run_task(write_app(shop, dirs="[a-b, a, ab, a.b/c]", files="[aa/b]")).code == 0


@pytest.mark.parametrize(
    ("variables", "what", "position", "hint"),
    [
        (
            {"folder": "''"},
            "needs repository, folder or archive, but none of them is set",
            "1",
            "among its",
        ),
        (
            {"folder": "''", "repo": "x"},
            "needs repository, folder or archive, but none of them is set",
            "3:3",
            "'repo' is not known: did you mean 'repository'?",
        ),
        (
            {"repository": "x", "archive": "y", "folder": "''"},
            "has repository and archive, but only one of them is allowed",
            "3:12",
            "'repository' is set at inventories/dev/apps/blog.yml:2:15",
        ),
    ],
)
def test_exactly_one_of_several_is_given(
    shop: OrchProject, variables: dict[str, str], what: str, position: str, hint: str
) -> None:
    done = run_task(write_app(shop, **variables))
    assert done.code == 3
    assert f"app 'blog' {what}" in done.err
    assert f"inventories/dev/apps/blog.yml:{position}" in done.err
    assert hint in done.err


@pytest.mark.parametrize("release", ["..", ".", "", "a/b", "../x", "a\nb"])
def test_a_name_is_one_part_of_a_path(shop: OrchProject, release: str) -> None:
    done = run_task(write_app(shop), f"release={release}")
    assert done.code == 3
    assert "must be the name of a file or folder" in done.err


def test_what_a_host_says_is_held_against_types_and_rules_as_well(shop: OrchProject) -> None:
    asks = "steps:\n- {run: echo SAID, register: found, readonly: true}\n"
    asks += "- t: {folder: x, dirs: '{{ found.stdout.split() }}'}\n"
    shop.write(
        {
            "tasks/out.yml": asks.replace("SAID", "../x"),
            "tasks/twice.yml": asks.replace("SAID", "a a/b"),
        }
    )
    for task, why in (("out", "stays below its folder"), ("twice", "is inside 'a'")):
        done = shop.orch("-s", "dev", "run", task)
        assert done.code == 1, done.err
        assert why in done.out


def test_a_rule_is_read_with_care(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/a.yml": dedent("""\
                params: {x: {}, y: {}}
                one_of: [x, z]
                steps: [{run: 'true'}]
                """),
            "tasks/b.yml": dedent("""\
                params: {x: {}}
                one_of: x
                disjoint: [x]
                steps: [{run: 'true'}]
                """),
            "tasks/c.yml": "params: {x: {elements: int}, y: {absolute: true, type: int}}\n"
            "steps: [{run: 'true'}]\n",
            "tasks/d.yml": "params: {x: {type: list, elements: int, default: [1, b]}}\n"
            "steps: [{run: 'true'}]\n",
            "tasks/e.yml": "steps:\n- t: {dirs: [a, ..]}\n",
        }
    )
    lint = shop.orch("lint")
    assert lint.code == 3
    for what in (
        "one_of: there is no param 'z'",
        "one_of must be a list of two params or more",
        "disjoint: param 'x' is not a path",
        "`elements` of param 'x' is for a list",
        "`absolute` of param 'y' is for a path",
        "x must be a whole number, found the text 'b', as item 2",
        "dirs must be a path that stays below its folder, found the text '..', as item 2",
    ):
        assert what in lint.err, lint.err


def test_several_groups_are_each_held_to(project: OrchProject) -> None:
    two = dedent("""\
        params: {a: {}, b: {}, c: {}, d: {}}
        one_of: [[a, b], [c, d]]
        steps: [{run: 'true'}]
        """)
    project.add_sandbox_stage("a1").write({"tasks/two.yml": two})
    assert project.orch("-s", "dev", "run", "two", "a=1", "d=1").code == 0
    for words, what in ((("a=1", "b=2", "c=1"), "has a and b"), (("a=1",), "needs c or d")):
        done = project.orch("-s", "dev", "run", "two", *words)
        assert done.code == 3
        assert f"task 'two' {what}" in done.err


def test_rules_are_documented(shop: OrchProject) -> None:
    output = shop.orch("doc", "t").out
    assert "exactly one of repository, folder, archive is given" in output
    assert "no path in dirs or files is, or is inside, another" in output
    assert "to (path, absolute, or starting with ~/, default '~/x')" in output
    assert "dirs (list of subpath, default [])" in output


def test_errors_stand_where_the_app_says_what_is_wrong(project: OrchProject) -> None:
    task = """
        params: {check: {default: ""}, again: {default: ""}, more: {type: list, default: []}}
        steps:
          - {run: "{{ check | raw }}", when: check, readonly: true}
          - {run: "{{ again | raw }}", when: again, readonly: true, until: not result.failed,
             retries: 1, delay: 0}
          - {run: "{{ item | raw }}", loop: more, readonly: true}
    """
    project.add_sandbox_stage("a1").write({"tasks/t.yml": task})
    for variables, location, why in (
        ({"check": "'exit 3'"}, "2:10", "exit status 3"),
        (
            {"again": "'{{ checked }}'", "checked": "exit 3"},
            "3:12",
            "was still false after 2 attempts",
        ),
        ({"more": "['true', exit 4]"}, "2:18", "exit status 4"),
    ):
        done = run_json(write_app(project, **variables))
        assert done.code == 1, done.err
        reason = done.host_rows["a1"]["reason"]
        assert f"{why}: the command at inventories/dev/apps/blog.yml:{location}, in step" in reason
    done = run_task(write_app(project, check='"false"'))
    assert done.code == 3
    assert "check is the text 'false', and any text counts as true" in done.err
    assert "inventories/dev/apps/blog.yml:2:10" in done.err
    assert "`check` is a condition at tasks/t.yml:4:" in done.err


def run_json(project: OrchProject) -> OrchResult:
    return project.orch("-s", "dev", "run", "t", "--app", "blog", "--json")


def test_a_file_that_is_not_there_is_named_as_the_app_names_it(project: OrchProject) -> None:
    task = "params: {src: {}}\nsteps: [{copy: {path: ~/x, src: '{{ src }}'}}]\n"
    project.add_sandbox_stage("a1").write({"tasks/t.yml": task})
    done = run_task(write_app(project, src="a/b.txt"))
    assert done.code == 3
    assert (
        "cannot read tasks/a/b.txt: no such file or directory; also not found: a/b.txt" in done.err
    )
    assert "inventories/dev/apps/blog.yml:2:8" in done.err


def test_arguments_of_params_that_no_step_uses_are_checked_too(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": dedent("""\
                params:
                  keep: {type: int, default: 5}
                  mode: {choices: [a, b]}
                  path: {type: path, required: true}
                steps: [{run: id}]
                """),
            "tasks/p.yml": "tasks: [t]\n",
        }
    )
    for task in ("t", "p"):
        done = project.orch("-s", "dev", "plan", task, "keep=few", "mode=c")
        assert done.code == 3
        for message in (
            "param 'keep' of task 't' must be a whole number, found the text 'few'",
            "param 'mode' of task 't' must be one of a, b, found 'c'",
            "task 't' needs a value for its param 'path'",
        ):
            assert done.err.count(message) == 1
        assert project.orch("-s", "dev", "plan", task, "keep=3", "path=/x").code == 0
    assert project.orch("-s", "dev", "plan", "t", "-e", "path=/x").code == 0


def test_a_secret_that_no_step_uses_is_not_fetched(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/hosts/a1.yml": "vars: {token: !secret {env: NOT_SET}}\n",
            "tasks/t.yml": "params: {token: {required: true}}\nsteps: [{run: id}]\n",
        }
    )
    assert project.orch("-s", "dev", "run", "t").code == 0
