"""Functions of templates that read files of the project: which files, and what they are taken for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.model.secret import Secret, SecretResolver
from orchestrator.yamlio.vault_format import VaultText, encrypt_text
from tests.unit.planner.plan_project import PlanProject, command_of, resumed_command

FILES = {
    "tasks/files/motd": "it's $HOME\nthe `end`\n",
    "files/web1": "of web1\n",
    "files/default": "of all\n",
    "tasks/hello.j2": "{% for name in roles.web %}{{ name }} {% endfor %}on {{ host }}\n",
    "tasks/facts.j2": "{{ facts.os }}\n",
    "tasks/loop.j2": "{{ render('loop.j2') }}",
    "tasks/binary": "\0",
    "inventories/dev/stage.yml": "vars: {said: \"{{ read('note') }}\"}\n",
    "inventories/dev/note": "of the inventory",
}


@pytest.fixture
def files(plans: PlanProject) -> PlanProject:
    plans.write(FILES)
    (plans.root / "tasks" / "bytes").write_bytes(b"\xff\xfe")
    (plans.root.parent / "secret.txt").write_text("outside")
    (plans.root / "tasks" / "link").symlink_to(plans.root.parent / "secret.txt")
    (plans.root / "tasks" / "folder").symlink_to("/etc")
    return plans


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ("echo {{ read('files/motd') }}", "echo 'it'\"'\"'s $HOME\nthe `end`\n'"),
        ("echo \"{{ lines('files/motd')[1] }}\"", 'echo ""\'the `end`\'""'),
        ("echo {{ lines('files/motd') }}", "echo 'it'\"'\"'s $HOME' 'the `end`'"),
        ("echo {{ lines('files/motd') | length }}", "echo 2"),
        ("echo {{ read('files/' ~ host.name) }}", "echo 'of web1\n'"),
        ("echo {{ read(first_found(['files/nobody', 'files/default'])) }}", "echo 'of all\n'"),
        ("echo {{ first_found('files/nobody', 'none of them') }}", "echo 'none of them'"),
        ("echo {{ fileglob('files/*') | map('basename') | join(' ') }}", "echo motd"),
        ("echo {{ fileglob('files/web*') | map('basename') | join(' ') }}", "echo web1"),
        ("echo {{ fileglob('fil*/**/d*') | map('basename') | join(' ') }}", "echo default"),
        ("echo {{ fileglob('*.j2') | length }} {{ fileglob('none/*') | length }}", "echo 3 0"),
        ("echo {{ render('hello.j2') | trim }}", "echo 'web1 web2 web3 on web1'"),
        ("echo {{ said }}", "echo 'of the inventory'"),
        ("echo {{ env.HOME | default('none') }}", "echo none"),
        ("echo {{ ['hello.j2'] | map('length') | list }} {{ read }}", "echo 8 variable"),
    ],
)
def test_the_value_is_data_like_any_other(files: PlanProject, run: str, text: str) -> None:
    files.write({"inventories/dev/hosts/web1.yml": "vars: {read: variable}\n"})
    files.write({"inventories/dev/hosts.yml": "web2:\nweb3:\n"})
    (files.root / "inventories/dev/roles.yml").write_text("web: [web1, web2, web3]\n")
    (files.root / "inventories/dev/hosts.yml").unlink()
    step = files.step(f"- run: |-\n    {run}\n" if "\n" not in run else run)
    assert command_of(step).text == text


def test_the_path_of_a_found_file_is_absolute(files: PlanProject) -> None:
    found = "{{ first_found(['files/' ~ host.name, 'files/default']) }}"
    assert files.command(f"- run: echo {found}\n").text == f"echo {files.root}/files/web1"
    files.command(f'- copy: {{src: "{found}", path: /tmp/x}}\n')


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("read('files/modt')", "the project has no file 'files/modt'"),
        ("read('../../secret.txt')", "'../../secret.txt' is outside of the project"),
        ("read('/etc/passwd')", "'/etc/passwd' is outside of the project"),
        ("read('link')", "'link' is outside of the project"),
        ("read('folder/passwd')", "'folder/passwd' is outside of the project"),
        ("lines('../../secret.txt')", "is outside of the project"),
        ("render('../../secret.txt')", "is outside of the project"),
        ("first_found(['a', '/etc/passwd'])", "'/etc/passwd' is outside of the project"),
        ("first_found(['a', 'b'])", "the project has none of 'a', 'b'"),
        ("fileglob('link*')", "tasks/link' is outside of the project"),
        ("fileglob('/etc/pass*')", "'/etc/passwd' is outside of the project"),
        ("fileglob('../../secret*')", "secret.txt' is outside of the project"),
        ("fileglob('a\\0b')", "is not a path"),
        ("first_found([])", "the project has none of an empty list"),
        ("read('a\\0b')", "is not a path"),
        ("read('bytes')", "tasks/bytes is not UTF-8, at byte 0"),
        ("read(none)", "the value is none"),
        ("read(5)", "the project has no file '5'"),
        ("read()", "the expression fails: "),
        ("render('loop.j2')", "leads back to itself"),
        ("read", "'read' is undefined"),
        ("reed('x')", "'reed' is undefined"),
    ],
)
def test_what_cannot_be_read_is_an_error_at_its_place(
    files: PlanProject, expression: str, what: str
) -> None:
    problem = files.refused_steps(f"- run: |-\n    echo {{{{ {expression} }}}}\n")
    assert what in problem.message
    assert problem.mark is not None
    assert problem.mark.line == (1 if "loop" in expression else 3)
    assert problem.mark.column in (range(4, 11) if "loop" in expression else range(13, 28))


@pytest.mark.parametrize(
    "expression",
    [
        "read(facts.hostname)",
        "read('files/' ~ facts.hostname)",
        "lines(r.stdout)",
        "render(path=r.stdout)",
        "first_found([r.stdout, 'files/default'])",
        "first_found(*[[r.stdout]])",
        "fileglob(r.stdout ~ '*')",
        "read(render('facts.j2'))",
        "read(x)",
        "render('facts.j2') | regex_replace(render('facts.j2'), '')",
    ],
)
def test_text_from_a_host_is_no_path(files: PlanProject, expression: str) -> None:
    step = files.step(
        "- {run: x, register: r}\n- {set: {x: '{{ r.stdout }}'}}\n"
        f"- run: |-\n    echo {{{{ {expression} }}}}\n"
    )
    with pytest.raises(DefinitionError) as failed:
        resumed_command(step, r="files/default", facts={"hostname": "web1", "os": "x"}, x="x")
    assert "which came from a host" in failed.value.diagnostics[0].message


def test_what_a_file_is_rendered_to_may_be_a_hosts_text(files: PlanProject) -> None:
    step = files.step("- run: echo {{ render('facts.j2') }}\n")
    assert step.awaited_names == ("facts.os",)
    assert resumed_command(step, facts={"os": "a b"}).text == "echo 'a b\n'"
    problem = files.refused_steps("- run: echo {{ render('hello.j2') | raw }}\n")
    assert "`raw` of 'render()', which came from a host" in problem.message
    problem = files.refused_steps("- {copy: {src: \"{{ render('hello.j2') }}\", path: /x}}\n")
    assert "text from a host" in problem.message


def vault_resolver() -> SecretResolver:
    def fetch(secret: Secret) -> str:
        return VaultText.parse(secret.words[0]).decrypt(b"pw").decode()

    return SecretResolver(fetch_secret=fetch)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("read('token')", "echo 'first-part-of-it\nsecond-part\n'"),
        ("lines('token')", "echo first-part-of-it second-part"),
        ("lines('token')[1]", "echo second-part"),
        ("render('token')", "echo 'first-part-of-it\nsecond-part\n'"),
    ],
)
def test_a_vault_is_decrypted_and_a_secret(files: PlanProject, expression: str, text: str) -> None:
    data = b"first-part-of-it\nsecond-part\n"
    files.write({"tasks/token": encrypt_text(data, b"pw")})
    secrets = vault_resolver()
    command = files.command(f"- run: |-\n    echo {{{{ {expression} }}}}\n", secrets=secrets)
    assert command.text == text
    assert "part" not in secrets.masker.mask_text(command.text)
    assert "‹token›" in secrets.masker.mask_text(command.text)


def test_the_steps_of_rendered_files_count_together(files: PlanProject) -> None:
    files.write(
        {"tasks/many.j2": "{% for a in range(3000) %}{% for b in range(300) %}{% endfor %}"}
    )
    files.write(
        {
            "tasks/many.j2": "{% for a in range(3000) %}{% for b in range(300) %}{% endfor %}{% endfor %}"
        }
    )
    text = "{% for x in range(50) %}{{ render('many.j2') }}{% endfor %}"
    problem = files.refused_steps(f'- {{debug: {{msg: "{text}"}}}}\n')
    assert "the template takes more than" in problem.message


def test_without_a_project_there_are_no_files(tmp_path: Path) -> None:
    from orchestrator import templating
    from orchestrator.errors import SourcePosition
    from tests.support.template_scope import PlainScope

    assert os.path.exists("/etc/passwd")  # noqa: PTH110
    template = templating.compile_expression("read('/etc/passwd')", SourcePosition("f", 1, 1))
    with pytest.raises(DefinitionError, match="there is no project here"):
        template.value(PlainScope())


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("lookup('file', 'x')", "write `read('x')`"),
        ("lookup('ansible.builtin.env', 'HOME')", "write `env.HOME`"),
        ("query('first_found', a)", "write `first_found([…])`"),
        ("lookup('template', 'a.j2')", "write `render('a.j2')`"),
        ("q('fileglob', '*.j2')", "write `fileglob('*.j2')`"),
        ("q('pipe', 'x')", "there is no lookup 'pipe': "),
        ("lookup('fil', 'x')", "there is no lookup 'fil': did you mean 'file'? write `read('x')`"),
        ("lookup(x, 'x')", "write `read('FILE')`"),
    ],
)
def test_a_lookup_of_ansible_names_the_function(
    files: PlanProject, expression: str, hint: str
) -> None:
    problem = files.refused_steps(f"- run: |-\n    echo {{{{ {expression} }}}}\n")
    name = expression.partition("(")[0]
    assert problem.message == f"there is no function '{name}'"
    assert hint in problem.hint
    assert problem.mark is not None
    assert problem.mark.line == 3


def test_a_macro_may_have_the_name_of_a_lookup(files: PlanProject) -> None:
    macro = "{% macro lookup(x) %}{{ x }}!{% endmacro %}{% macro read(x) %}{{ x }}?{% endmacro %}"
    files.write({"tasks/m.j2": macro + "{{ lookup('a') }}{{ read('b') }}"})
    assert files.command("- run: echo {{ render('m.j2') }}\n").text == "echo 'a!b?'"
