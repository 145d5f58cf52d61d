"""Commands that show the project."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.model.facts import FACTS
from tests.projects import OrchProject


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1", "a2").write(
        {
            "inventories/common/stage.yml": "vars: {size: 1, opts: {a: 1, b: 1}}\n",
            "inventories/dev/roles/web.yml": "hosts: [a1]\nvars: {opts: {b: 2}}\n",
            "inventories/dev/hosts/a1.yml": "vars: {size: '{{ 2 + 1 }}', who: '{{ host.name }}'}\n",
            "tasks/t.yml": dedent("""\
                desc: Does t
                params:
                  n: {type: int, required: true, help: How many}
                steps:
                - run: rm {{ n }}
                """),
        }
    )


def test_vars_shows_rendered_values_and_origin_shows_who_set_them_over_whom(
    shop: OrchProject,
) -> None:
    shown = json.loads(shop.orch("-s", "dev", "vars", "a1", "--json").out)
    assert shown == {"size": 3, "who": "a1", "opts": {"a": 1, "b": 2}}
    origin = shop.orch("-s", "dev", "vars", "a1", "--origin", "-e", "size=9").out.splitlines()
    at = origin.index('size: "9"  <command line>')
    assert origin[at + 1 : at + 3] == [
        '  over "{{ 2 + 1 }}"  inventories/dev/hosts/a1.yml:1:14',
        "  over 1  inventories/common/stage.yml:1:14",
    ]
    assert "opts.b: 2  inventories/dev/roles/web.yml:2:18" in origin
    assert "opts.a: 1  inventories/common/stage.yml:1:27" in origin


def test_vars_of_an_unknown_host_names_the_nearest(shop: OrchProject) -> None:
    done = shop.orch("-s", "dev", "vars", "a11")
    assert done.code == 3
    assert "did you mean 'a1'?" in done.err


def test_doc_explains_params_and_gives_an_example(shop: OrchProject) -> None:
    done = shop.orch("doc", "t")
    for text in ("t: Does t", "n (int, required)", "How many", "orch -s STAGE run t n=…"):
        assert text in done.out


def test_lint_finds_roles_that_no_stage_has_and_notes_what_may_read_as_an_option(
    shop: OrchProject,
) -> None:
    shop.write(
        {
            "tasks/u.yml": dedent("""\
        desc: u
        roles: [wbe]
        steps: [{run: 'true'}]
        """)
        }
    )
    done = shop.orch("lint")
    assert done.code == 3
    assert "tasks/u.yml:2:9" in done.err
    assert "did you mean 'web'?" in done.err
    assert "tasks/t.yml:5:11: note: a value given to `rm` may be taken for an option" in done.out


@pytest.mark.parametrize(
    ("source", "noted"),
    [
        ("eval {{ x }}", "`eval` interprets this argument as code"),
        ("sh -c {{ x }}", "`sh` interprets this argument as code"),
        ("ssh h {{ x }}", "`ssh` interprets this argument as code"),
        ("A=1 awk {{ x }} f", "`awk` interprets this argument as code"),
        ("rm {{ x }}", "may be taken for an option"),
        ("rm -- {{ x }}", ""),
        ("echo {{ x }}", ""),
        ("cd a && rm -f {{ x }}", "may be taken for an option"),
        ("x {{ y | raw }}", "`raw`"),
        ("a | b", "pipe"),
        ("a || b", ""),
    ],
)
def test_lint_notes_where_a_value_may_mean_more_than_a_word(
    shop: OrchProject, source: str, noted: str
) -> None:
    task = json.dumps({"desc": "d", "steps": [{"run": source}]})
    (shop.root / "tasks/t.yml").unlink()
    out = shop.write({"tasks/v.yml": task}).orch("lint").out
    assert noted in out
    assert noted or "note" not in out


def test_hosts_lists_what_the_limit_selects(shop: OrchProject) -> None:
    rows = json.loads(shop.orch("-s", "dev", "hosts", "-l", "web", "--json").out)
    assert [(row["host"], row["roles"]) for row in rows] == [("a1", ["web"])]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("orch -s d", {"dev"}),
        ("orch run -s dev t", {"t"}),
        ("orch -s dev run ", {"t"}),
        ("orch -s dev run t -l w", {"web"}),
        ("orch -s dev run t -l web:!a", {"web:!a1", "web:!a2"}),
        ("orch doc te", {"template", "templates", "tests", "text_block"}),
        ("orch li", {"lint"}),
        ("orch -s dev vars ", {"a1", "a2"}),
        ("orch -s dev hosts -l ", {"web", "a1", "a2"}),
        ("orch -s dev vars --app ", {"blog"}),
        ("orch -s dev run t --app b", {"blog"}),
    ],
)
def test_the_shell_completes_stages_tasks_hosts_and_verbs(
    shop: OrchProject, words: str, found: set[str]
) -> None:
    shop.write({"inventories/dev/apps/blog.yml": "roles: [web]\n"})
    parts = words.split(" ")
    done = shop.orch(
        _ORCH_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(parts) - 1)
    )
    completed = {line.partition(",")[2] for line in done.out.splitlines()}
    assert completed == found


def test_every_verb_has_help(project: OrchProject) -> None:
    listed = project.orch("--help").out
    for verb in ("run", "exec", "plan", "stages", "hosts", "tasks", "doc", "vars", "lint"):
        assert f"  {verb} " in listed
        assert project.orch(verb, "--help").code == 0


def test_an_unknown_verb_is_told_how_to_run_a_task(shop: OrchProject) -> None:
    done = shop.orch("-s", "dev", "t")
    assert done.code == 2
    assert "orch -s STAGE run t" in done.err


def protected(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/stage.yml": "protected: true\nconnect: {transport: sandbox}\n",
            "tasks/change.yml": "steps: [{run: touch made}]\n",
            "tasks/look.yml": "steps: [{run: id, readonly: true}]\n",
        }
    )


def test_a_protected_stage_is_not_changed_without_an_answer(project: OrchProject) -> None:
    protected(project)
    done = project.orch("-s", "dev", "run", "change")
    assert done.code == 2
    assert "stdin is not a terminal" in done.err
    assert not (project.root / ".orch").exists()
    assert project.orch("-s", "dev", "run", "look").code == 0
    assert project.orch("-s", "dev", "run", "change", "--yes").code == 0


@pytest.mark.parametrize(("answer", "code"), [("dev\n", 0), ("yes\n", 2), ("\n", 2)])
def test_a_protected_stage_asks_for_its_name(project: OrchProject, answer: str, code: int) -> None:
    protected(project)
    done = project.orch_on_terminal("-s", "dev", "run", "change", typed=answer)
    assert done.code == code, done.err
    assert "'dev' is protected. This would run change\non 1 host: a1" in done.err


def test_doc_without_a_name_lists_the_modules(project: OrchProject) -> None:
    done = project.orch("doc")
    assert done.code == 0
    assert "template" in done.out
    assert "playbook" in done.out
    assert len(done.out.splitlines()) > 40


def test_doc_of_topics_keywords_and_modules_needs_no_project(tmp_path: Path) -> None:
    project = OrchProject(tmp_path)
    for name, text in {
        "connect": "jump",
        "step": "changed_when",
        "run": "orch doc step",
        "commit": "max_failures",
        "exit-codes": "130",
        "facts": "facts.distro",
        "link": "state",
    }.items():
        done = project.orch("doc", name)
        assert (done.code, done.err) == (0, "")
        assert text in done.out
    done = project.orch("doc", "stepp")
    assert done.code == 2
    assert "there is no topic or module 'stepp'" in done.err
    assert "did you mean 'step'?" in done.err


def test_a_task_of_the_project_comes_before_a_topic(shop: OrchProject) -> None:
    shop.write({"tasks/host.yml": "desc: Ours\nsteps: [{run: id}]\n"})
    assert shop.orch("doc", "host").out.startswith("host: Ours")


def test_a_task_with_the_name_of_a_key_is_shown_with_the_key(shop: OrchProject) -> None:
    shop.write({"tasks/when.yml": "desc: Ours\nsteps: [{run: id}]\n"})
    shown = shop.orch("doc", "when").out
    assert shown.startswith("when: Ours")
    assert "when: a key, see `orch doc task`" in shown


def test_doc_of_an_unknown_name_suggests_topics_and_keys_too(shop: OrchProject) -> None:
    done = shop.orch("doc", "fact")
    assert done.code == 3
    assert "there is no task, module, topic or key 'fact'" in done.err
    assert "did you mean 'facts'?" in done.err
    assert "did you mean 'register'?" in shop.orch("doc", "regster").err


@pytest.mark.parametrize("columns", [60, 80])
def test_doc_keeps_to_the_width_of_the_terminal(shop: OrchProject, columns: int) -> None:
    shown = shop.orch("doc", "connect", COLUMNS=str(columns)).out.split("\n")
    assert max(len(line) for line in shown if not line.startswith("        ")) <= columns


def test_origins_are_json_for_programs(shop: OrchProject) -> None:
    words = ("-s", "dev", "vars", "a1", "--origin", "--json", "-e", "size=9")
    found = json.loads(shop.orch(*words).out)
    common = {"value": 1, "file": "inventories/common/stage.yml", "line": 1, "column": 14}
    own = {"value": "{{ 2 + 1 }}", "file": "inventories/dev/hosts/a1.yml", "line": 1, "column": 14}
    arguments = {"value": "9", "file": "<command line>", "line": None, "column": None}
    assert found["size"] == {**arguments, "overrides": [own, common]}
    assert found["connect.transport"]["value"] == "sandbox"


def test_vars_of_an_app_are_what_a_run_for_it_sees(shop: OrchProject) -> None:
    shop.write(
        {
            "inventories/common/apps/blog.yml": dedent("""\
                roles: [web]
                vars: {size: 5, who: '{{ app.name }}'}
                hosts: {a1: {vars: {size: 7}}}
                """)
        }
    )
    shown = json.loads(shop.orch("-s", "dev", "vars", "a1", "--app", "blog", "--json").out)
    assert (shown["size"], shown["who"]) == (7, "blog")
    origin = shop.orch("-s", "dev", "vars", "a1", "--app", "blog", "--origin").out
    assert "size: 7  inventories/common/apps/blog.yml:3:27\n  over 5  " in origin
    elsewhere = shop.orch("-s", "dev", "vars", "a2", "--app", "blog")
    assert elsewhere.code == 3
    assert "app 'blog' does not run on host 'a2'" in elsewhere.err
    assert "it runs on a1" in elsewhere.err
    several = shop.orch("-s", "dev", "vars", "a1", "--app", "blog,shop")
    assert several.code == 2
    unknown = shop.orch("-s", "dev", "vars", "a1", "--app", "blgo")
    assert unknown.code == 3
    assert "did you mean 'blog'?" in unknown.err


def test_lock_takes_only_options_that_mean_something_to_it(shop: OrchProject) -> None:
    help_text = shop.orch("lock", "--help").out
    for option in ("--check", "--exit-code", "--keep-going", "--unreachable"):
        assert option not in help_text
        assert shop.orch("-s", "dev", "lock", "status", option).code == 2
    assert "--force" in help_text


def test_the_version_names_python_and_the_libraries_if_asked(project: OrchProject) -> None:
    assert len(project.orch("--version").out.splitlines()) == 1
    for words in (("--version", "-v"), ("-v", "--version")):
        done = project.orch(*words)
        assert done.code == 0
        assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in done.out
        assert "paramiko " in done.out


def test_facts_are_shown_as_templates_see_them(shop: OrchProject) -> None:
    shop.write({"tasks/f.yml": "steps: [{run: 'echo {{ facts.distro }} {{ facts.cpus }}'}]"})
    shop.write({"tasks/facts/app.sh": "echo v=1\n"})
    (step,) = shop.orch("-s", "dev", "run", "f", "-l", "a1", "--json").host_steps("a1")
    distro, cpus = step["stdout"].split()
    done = shop.orch("-s", "dev", "facts", "a1", "--json")
    assert done.code == 0
    assert list(done.host_rows) == ["a1"]
    shown = json.loads(done.host_steps("a1")[0]["stdout"])
    assert (shown["distro"], shown["cpus"]) == (distro, int(cpus))
    assert shown.keys() == {*FACTS, "app"}
    assert shown["app"] == {"v": "1"}
    done = shop.orch("-s", "dev", "facts", "a1", "--fact", "distro", "--fact", "app")
    assert f"distro: {distro}\n" in done.out
    assert "v: '1'" in done.out
    shop.write({"tasks/facts/app.sh": "printf 'v=\\033]0;x\\007\\n'\n"})
    done = shop.orch("-s", "dev", "facts", "a1", "--fact", "app")
    assert 'v: "\\e]0;x\\a"' in done.out
    assert "kernel" not in done.out
    done = shop.orch("-s", "dev", "facts", "a1", "--fact", "distribution")
    assert (done.code, "write facts.distro" in done.err) == (2, True)
    assert set(shop.orch("-s", "dev", "facts", "-l", "web", "--json").host_rows) == {"a1"}
    assert shop.orch("-s", "dev", "facts", "a1", "-l", "web").code == 2
    assert "did you mean 'a1'" in shop.orch("-s", "dev", "facts", "a11").err


def test_tags_of_tasks_are_listed_without_a_stage(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/a.yml": "tags: x\nsteps: [{b: {}, tags: [y, x]}]",
            "tasks/b.yml": "steps: [{run: id, tags: z}]",
        }
    )
    done = shop.orch("run", "a", "--list-tags")
    assert (done.code, done.out) == (0, "x: a\ny: a\nz: b\n")
    assert shop.orch("run", "nosuch", "--list-tags").code == 3
