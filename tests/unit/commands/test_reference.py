"""The reference covers all that the code reads, and its examples are valid."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest

from orchestrator import playbook
from orchestrator.commands import reference
from orchestrator.commands.json_schema import file_schema
from orchestrator.errors import EXIT_CODE_HELP, DiagnosticCollector, ExitCode
from orchestrator.inventory import inventory_keys
from orchestrator.inventory.connection_options import ConnectionOptionsReader
from orchestrator.model import ansible, event
from orchestrator.model.host import ConnectionOptions
from orchestrator.model.step_result import Status
from orchestrator.model.text_encoding import dump_json
from orchestrator.output.json_lines import event_to_json
from orchestrator.planner import template_objects
from orchestrator.playbook import keywords
from orchestrator.playbook.model import PARAM_TYPES
from orchestrator.playbook.param_types import _CONVERTERS
from orchestrator.playbook.task_parser import TaskParser
from orchestrator.templating import environment
from orchestrator.templating.function_help import (
    FILTER_HELP,
    FUNCTION_HELP,
    TEST_ALIASES,
    TEST_HELP,
)
from orchestrator.yamlio.file_keys import VALUE_KIND_HELP, VALUE_KINDS, FileKey, JsonSchema
from orchestrator.yamlio.naming_rules import RESERVED_NAMES
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_loader import parse_yaml


@pytest.fixture(autouse=True)
def outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SOURCE = Path(reference.__file__).parents[1]
TABLES = {
    f"{module.__name__.rpartition('.')[2]}.{name}": table
    for module in (keywords, inventory_keys)
    for name, table in vars(module).items()
    if isinstance(table, dict) and all(isinstance(key, FileKey) for key in table.values())
}


_NOT_SENT = (event.StepOutput, event.StepsSent, event.TransferProgress)


@pytest.mark.parametrize("name", TABLES)
def test_every_key_has_a_text_a_known_kind_and_an_example_of_itself(name: str) -> None:
    for word, key in TABLES[name].items():
        assert key.help and not key.help.endswith("."), word
        assert key.kind in VALUE_KINDS, word
        if key.example:
            assert list(parse_yaml(key.example, "example").to_plain()) == [word]


def test_every_kind_of_value_is_explained() -> None:
    assert VALUE_KINDS.keys() == VALUE_KIND_HELP.keys()


def test_tables_are_found() -> None:
    assert len(TABLES) > 20


def test_connection_settings_are_those_that_are_read() -> None:
    reader = ConnectionOptionsReader(SchemaReader(DiagnosticCollector()), Path("/"))
    assert reader.checks.keys() == inventory_keys.CONNECT.keys()
    of_ansible = {"ssh_options", "become", "become_user", "password", "become_password", "invalid"}
    fields = {*ConnectionOptions.__struct_fields__} - {"address", "set_fields"} - of_ansible
    assert fields == inventory_keys.CONNECT.keys()


def test_types_filters_tests_and_functions_are_those_that_exist() -> None:
    assert PARAM_TYPES.keys() == _CONVERTERS.keys()
    env = environment.template_environment(comments=True)
    assert {name for name in env.filters if " " not in name} == FILTER_HELP.keys()
    assert env.tests.keys() == TEST_HELP.keys() | TEST_ALIASES
    assert env.globals.keys() == FUNCTION_HELP.keys()


def test_objects_and_their_fields_are_those_that_exist() -> None:
    assert template_objects.OBJECT_HELP.keys() == RESERVED_NAMES
    for name, view in [
        ("host", template_objects.HostView),
        ("run", template_objects.RunView),
        ("stage", template_objects.NamedView),
        ("task", template_objects.NamedView),
        ("app", template_objects.AppView),
    ]:
        known = {field.removeprefix("_") for field in view.__struct_fields__}
        assert template_objects.OBJECT_FIELDS[name].keys() == known


def test_every_status_exit_code_and_event_is_described() -> None:
    assert reference.STATUS_HELP.keys() == set(Status)
    assert EXIT_CODE_HELP.keys() == set(ExitCode)
    titles = " ".join(table.title for table in reference.reference_topics()["events"]().tables)
    for each in event.RunEvent.__args__:  # type: ignore[attr-defined]
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", each.__name__).lower()
        assert (f"`{name}`" in titles) == (each not in _NOT_SENT)


def test_environment_variables_are_those_that_are_read() -> None:
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    internal = {"ORCH_TEMP", "ORCH_SANDBOX", "ORCH_COMPLETE", "ORCH_"}
    written = set(re.findall(r"(?<!_)ORCH_[A-Z_]*", text)) - internal
    documented = {name for name in reference.ENVIRONMENT_HELP if name.startswith("ORCH_")}
    assert written == documented


@pytest.mark.parametrize("name", ["task", "playbook", "handler", "module", "step", "block"])
def test_examples_of_task_files_are_valid(name: str) -> None:
    example = reference.reference_topics()[name]().example
    if example.startswith("- "):
        example = "steps:\n" + re.sub("^", "  ", example, flags=re.M)
    problems = DiagnosticCollector()
    TaskParser(problems).parse_task("t", parse_yaml(example, "t.yml"))
    problems.raise_any()


@cache
def schema_of(kind: str) -> JsonSchema:
    return file_schema(kind, None)


def validate(value: object, schema: JsonSchema) -> None:
    """Check a value; that the schema itself is valid is tested once (test_schema_command.py)."""
    jsonschema.Draft202012Validator(schema).validate(value)


def test_examples_of_step_keys_are_valid_beside_a_command() -> None:
    for word, key in {**keywords.STEP, **keywords.RUN}.items():
        loop = "\n  loop: [a]" if word == "loop_control" else ""
        until = "\n  until: result.changed" if word in ("delay", "retries") else ""
        text = f"steps:\n- run: id\n  {key.example}{loop}{until}\nhandlers: {{reload nginx: [{{run: id}}]}}"
        problems = DiagnosticCollector()
        TaskParser(problems).parse_task("t", parse_yaml(text, "t.yml"))
        problems.raise_any()


@pytest.mark.parametrize("name", TABLES)
def test_the_example_of_a_key_is_valid_in_its_schema(name: str) -> None:
    kind = "stage" if name.startswith("inventory_keys") else "task"
    definitions = schema_of(kind)["$defs"]
    for word, key in TABLES[name].items():
        if key.example:
            value = parse_yaml(key.example, "example").to_plain()[word]
            validate(value, {**key.json_schema(), "$defs": definitions})


@pytest.mark.parametrize("kind", ["stage", "host", "role", "app"])
def test_examples_of_inventory_files_are_valid(kind: str) -> None:
    example = parse_yaml(reference.reference_topics()[kind]().example, "example").to_plain()
    validate(example, schema_of(kind))


@pytest.mark.parametrize(
    "name", ["param", "types", "loop_control", "templates", "facts", "claims", "cluster", "connect"]
)
def test_other_examples_are_valid_in_the_file_that_has_them(name: str) -> None:
    example = parse_yaml(reference.reference_topics()[name]().example, "example").to_plain()
    kind = {"claims": "app", "cluster": "stage", "connect": "stage"}.get(name, "task")
    if isinstance(example, list):
        example = {"steps": example}
    elif kind == "task":
        example |= {"steps": [{"run": "id"}]}
    validate(example, schema_of(kind))


def test_every_topic_is_shown_in_the_given_width() -> None:
    for name, make in reference.reference_topics().items():
        lines = list(reference.topic_lines(make(), 90))
        assert lines[0].startswith(f"{name}: ")
        assert all(len(line) <= 100 for line in lines if "{" not in line), name


def test_every_topic_has_an_example_and_that_of_events_is_an_event() -> None:
    topics = {name: make() for name, make in reference.reference_topics().items()}
    assert [name for name, topic in topics.items() if not topic.example] == []
    shown = json.loads(topics["events"].example)
    task_started = event.TaskStarted(shown["time"], None, "uname", ("web1",), 1, 1, 1)
    assert dump_json(event_to_json(task_started)) == topics["events"].example.rstrip("\n")


def test_reserved_names_are_keys_that_make_up_a_step_an_item_or_a_file() -> None:
    assert {
        *("run", "download", "set", "fail", "assert", "wait", "block", "rescue", "always"),
        *("commit", "steps", "tasks", "probe", "flush_handlers", "call", "pause"),
        "wait_for_connection",
    } == playbook.keywords.RESERVED_NAMES


def test_the_page_for_users_of_ansible_has_all_facts() -> None:
    page = Path(__file__).parents[3] / "docs" / "start" / "from-ansible.md"
    rows = re.findall(r"^\| (`[^|]*`) \| `(facts[^|]*)` \|$", page.read_text(), re.MULTILINE)
    found = {name: what for names, what in rows for name in re.findall(r"`(\w+)`", names)}
    assert found == ansible.FACTS


def test_the_page_for_users_of_ansible_has_all_lookups() -> None:
    page = Path(__file__).parents[3] / "docs" / "start" / "from-ansible.md"
    table = page.read_text().partition("\n## Lookups\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.*)` \|$", table, re.MULTILINE)
    assert {name: what.replace("\\|", "|") for name, what in rows} == ansible.LOOKUPS
