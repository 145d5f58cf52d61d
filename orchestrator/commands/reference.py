"""The reference: what each kind of file, template, output and command is made of.

Every topic is made from the tables that the code itself reads. ``orch doc TOPIC`` prints it, and
the pages in ``docs/reference/`` are made from it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import EXIT_CODE_HELP
from orchestrator.inventory import inventory_keys
from orchestrator.model import event
from orchestrator.model.facts import FACT_GROUPS, FACTS, SYSTEM, Fact
from orchestrator.model.step_result import CapturedOutput, StateChange, Status, StepResult
from orchestrator.output.json_lines import FIELD_HELP, event_to_json
from orchestrator.planner.template_objects import OBJECT_FIELDS, OBJECT_HELP
from orchestrator.playbook import keywords
from orchestrator.playbook.model import PARAM_TYPES
from orchestrator.templating.function_help import (
    FILTER_EXAMPLES,
    FILTER_HELP,
    FUNCTION_HELP,
    TEST_EXAMPLES,
    TEST_HELP,
)
from orchestrator.yamlio.file_keys import VALUE_KIND_HELP, KeyTable


class ReferenceTable(Struct, frozen=True):
    """A table of a topic. ``code_columns`` is how many columns at the left are code."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code_columns: int = 1


class ReferenceTopic(Struct, frozen=True):
    """One topic: a title, an introduction in plain sentences, tables, and an example.

    ``language`` is that of the example, as Markdown names it.
    """

    name: str
    title: str
    text: str
    tables: tuple[ReferenceTable, ...]
    example: str = ""
    language: str = "yaml"


def reference_topics() -> Mapping[str, Callable[[], ReferenceTopic]]:
    """Return a function that makes the topic, for each topic by name."""
    return MappingProxyType(_TOPICS)


def key_lines(name: str, width: int) -> list[str]:
    """Return the meaning of a key in each kind of file that has it; [] if none has it."""
    found: dict[tuple[str, ...], list[str]] = {}
    for topic, make in _TOPICS.items():
        for table in make().tables:
            for row in table.rows:
                if row[0] == name and len(table.columns) > 2 and topic not in found.get(row, ()):
                    found.setdefault(row, []).append(topic)
    lines = []
    for row, topics in found.items():
        where = ", ".join(f"`orch doc {topic}`" for topic in topics)
        lines += ["", f"{name}: a key, see {where}", *_row_lines(row, width)]
    return lines[1:]


def all_keys() -> set[str]:
    """Return the keys of all kinds of files."""
    tables = (table for make in _TOPICS.values() for table in make().tables)
    return {row[0] for table in tables if len(table.columns) > 2 for row in table.rows}


def key_table(title: str, keys: KeyTable) -> ReferenceTable:
    """Return the table of keys of a file or mapping."""
    return ReferenceTable(
        title,
        ("key", "value", "meaning", "default", "example", "since"),
        tuple(
            (
                name,
                " | ".join(key.choices) or key.kind,
                key.help,
                key.default,
                key.example,
                key.since,
            )
            for name, key in keys.items()
        ),
    )


def help_table(title: str, columns: tuple[str, str], rows: Mapping[str, str]) -> ReferenceTable:
    """Return a table of names and their meanings."""
    return ReferenceTable(title, columns, tuple(rows.items()))


def topic_lines(topic: ReferenceTopic, width: int) -> Iterator[str]:
    """Yield the topic as lines of text of at most ``width`` columns, where words allow it."""
    yield f"{topic.name}: {topic.title}"
    yield ""
    yield from textwrap.wrap(topic.text, width)
    for table in topic.tables:
        yield ""
        yield f"{table.title}:"
        yield from _key_lines(table, width) if len(table.columns) > 2 else _name_lines(table, width)
    if topic.example:
        yield ""
        yield "example:"
        yield from (f"  {line}" for line in topic.example.rstrip("\n").split("\n"))


def _key_lines(table: ReferenceTable, width: int) -> Iterator[str]:
    for row in table.rows:
        yield from _row_lines(row, width)


def _row_lines(row: tuple[str, ...], width: int) -> Iterator[str]:
    name, kind, text, default, example, _ = row
    heading = f"{name} ({kind}{f'; default: {default}' if default else ''})"
    yield from textwrap.wrap(heading, width, initial_indent="  ", subsequent_indent=" " * 6)
    yield from textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    yield from (f"        {line}" for line in example.split("\n") if example)


def _name_lines(table: ReferenceTable, width: int) -> Iterator[str]:
    column = max(len(name) for name, _ in table.rows)
    for name, text in table.rows:
        if column > width // 3:
            yield f"  {name}"
            first = " " * 6
        else:
            first = f"  {name.ljust(column)}  "
        rest = " " * len(first)
        yield from textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest)


def _only(keys: KeyTable, *without: KeyTable) -> KeyTable:
    left_out = {name for table in without for name in table}
    return {name: key for name, key in keys.items() if name not in left_out}


_INHERITED = "Keys of tasks, playbooks, items, steps and blocks, which pass them on"


def _task() -> ReferenceTopic:
    own = _only(keywords.TASK, keywords.INHERITED, keywords.HOOKS, keywords.MODULE)
    return ReferenceTopic(
        "task",
        "Task files",
        "A file below `tasks/` is a task, named by its path: `tasks/deploy/publish.yml` is "
        "`deploy:publish`. It has exactly one of `steps` (a task), `tasks` (a playbook) and "
        "`probe` (a module).",
        (
            key_table("Keys", own),
            key_table(_INHERITED, keywords.INHERITED),
            key_table("Keys of hooks: tasks that run because of another task", keywords.HOOKS),
        ),
        "desc: Restart the app\nroles: [web]\nparams:\n  unit: {required: true}\nsteps:\n"
        "  - run: systemctl restart {{ unit }}\n    become: true\n",
    )


def _step() -> ReferenceTopic:
    own = _only(keywords.STEP, keywords.INHERITED)
    return ReferenceTopic(
        "step",
        "Steps",
        "A step has one action and keys beside it. The action is one of the keys below, a block, "
        "or the name of a task or module with its arguments: `- service: {name: nginx}`.",
        (
            key_table("Actions", keywords.ACTIONS),
            key_table("Keys of every step", own),
            key_table(_INHERITED, keywords.INHERITED),
            key_table("Keys of steps with `run`", keywords.RUN),
            key_table("Keys of `assert`", keywords.ASSERT),
            key_table("Keys of `download`", keywords.DOWNLOAD),
            key_table("Keys of `call`", keywords.CALL),
            key_table("Keys of `pause`", keywords.PAUSE),
            key_table("Keys of `wait_for_connection`", keywords.CONNECTION),
        ),
        "- name: restart the app\n  run: systemctl restart {{ unit }}\n  when: before.changed\n",
    )


def _block() -> ReferenceTopic:
    return ReferenceTopic(
        "block",
        "Blocks",
        "A block is a group of steps that fails or succeeds as one.",
        (key_table("Keys", keywords.BLOCK_STEP),),
        "- block:\n    - run: ./migrate\n  rescue:\n    - run: ./undo\n  always:\n"
        "    - run: rm -f /tmp/lock\n",
    )


def _playbook() -> ReferenceTopic:
    return ReferenceTopic(
        "playbook",
        "Playbooks",
        "A playbook is a task file with `tasks`: a list of items. Every host finishes an item "
        "before any host starts the next. An item is the name of a task, a name with arguments, a "
        "group (`tasks` or `steps` in place), or `commit`: a later failure does not roll back what "
        "ran before it. The file also has the keys of `orch doc task`.",
        (
            key_table(
                "Keys of an item, beside the task's name",
                _only(keywords.ITEM, keywords.INHERITED),
            ),
            key_table(_INHERITED, keywords.INHERITED),
            key_table(
                "Keys of an item that is a group",
                _only(keywords.INLINE_TASK, keywords.ITEM),
            ),
        ),
        "tasks:\n  - deploy:migrate: {}\n    once: true\n  - name: release\n"
        "    batch: [1, 25%, 100%]\n    tasks: [deploy:publish, deploy:restart]\n  - commit\n"
        "  - deploy:cleanup\n",
    )


def _handler() -> ReferenceTopic:
    return ReferenceTopic(
        "handler",
        "Handlers",
        "`handlers` of a task maps names to lists of steps. A handler runs once on a host, at the "
        "end of the task, if a step that notifies it changed something there. Handlers run in the "
        "order in which they are written. The step `- flush_handlers` runs those that have been "
        "notified at once. Handlers of a playbook run at its end, at `commit` and at the item "
        "`- flush_handlers`. If the host fails before, the handler is kept: the summary shows the "
        "command that runs it.",
        (
            key_table(
                "Keys", {"handlers": keywords.TASK["handlers"], "notify": keywords.STEP["notify"]}
            ),
            key_table("Keys of a handler, in place of a list of steps", keywords.HANDLER),
        ),
        "steps:\n  - template: {src: nginx.conf.j2, path: /etc/nginx/nginx.conf}\n"
        "    notify: reload nginx\nhandlers:\n  reload nginx:\n"
        "    - service: {name: nginx, state: reloaded}\n",
    )


def _module() -> ReferenceTopic:
    return ReferenceTopic(
        "module",
        "Modules",
        "A module is a task file with `probe`. The probe reports the current state; where it "
        "differs from `want`, the fixes run, and the probe must then report what is wanted. The "
        "file also has `desc`, `params`, `one_of`, `disjoint` and `example` of `orch doc task`.",
        (key_table("Keys", keywords.MODULE),),
        "desc: The message of the day\nparams:\n  text: {required: true}\nprobe: |\n  [ ! -e "
        '/etc/motd ] || state text "$(cat /etc/motd)"\nwant: {text: "{{ text }}"}\nfix: |\n'
        "  printf '%s\\n' {{ text }} >/etc/motd\n",
    )


def _payload() -> ReferenceTopic:
    return ReferenceTopic(
        "payload",
        "Payloads of modules",
        "`payload` of a module names bytes that are sent to the host before its scripts run.",
        (key_table("Keys", keywords.PAYLOAD),),
        'payload: {template: "{{ src }}", tries: "{{ validate }}"}\n',
    )


def _param() -> ReferenceTopic:
    return ReferenceTopic(
        "param",
        "Params",
        "`params` of a task maps names to their descriptions. An empty description is an optional "
        "text. Arguments are checked before anything runs.",
        (key_table("Keys", keywords.PARAM),),
        "params:\n  release: {required: true, help: The release to activate}\n"
        "  keep: {type: int, default: 5}\n",
    )


def _types() -> ReferenceTopic:
    return ReferenceTopic(
        "types",
        "Types and values",
        "`type` of a param, and `elements` of a list, is one of the types below. The reference "
        "names what a key holds by the words of the second table.",
        (
            help_table("Types of params", ("type", "meaning"), PARAM_TYPES),
            help_table("Values of keys", ("value", "meaning"), VALUE_KIND_HELP),
        ),
        "params:\n  paths: {type: list, elements: path}\n",
    )


def _loop_control() -> ReferenceTopic:
    return ReferenceTopic(
        "loop_control",
        "Loops",
        "`loop` repeats a step for each item of a list; of a mapping, the items have `key` and "
        "`value`. `loop_control` has its settings.",
        (
            key_table("Keys of `loop_control`", keywords.LOOP_CONTROL),
            key_table(
                "Keys of the step", {key: keywords.STEP[key] for key in ("loop", "loop_control")}
            ),
        ),
        '- run: adduser {{ item.name }}\n  loop: "{{ users }}"\n'
        '  loop_control: {label: "{{ item.name }}"}\n',
    )


def _stage() -> ReferenceTopic:
    common = _only(inventory_keys.COMMON_STAGE, inventory_keys.STAGE)
    return ReferenceTopic(
        "stage",
        "Stages",
        "A folder in `inventories/` is a stage. Its `stage.yml`, which may be left out, has "
        "settings for all its hosts. `inventories/common/` has the same layout and is the base of "
        "every stage.",
        (
            key_table("Keys of `stage.yml`", inventory_keys.STAGE),
            key_table("Keys of `inventories/common/stage.yml` only", common),
        ),
        "desc: The live servers\nprotected: true\nconnect: {user: deploy, jump: bastion1}\n"
        "vars: {workers: 8}\n",
    )


def _host() -> ReferenceTopic:
    return ReferenceTopic(
        "host",
        "Hosts",
        "A host is a file `inventories/STAGE/hosts/NAME.yml`, which may be empty, an entry of "
        "`hosts.yml`, or a name in a role. A name may be a range like `web[01-20]`. An executable "
        "`hosts` prints the content of `hosts.yml` as JSON.",
        (key_table("Keys", inventory_keys.HOST),),
        "address: 10.0.0.7\nroles: [web]\nconnect: {user: deploy, port: 2222}\n",
    )


def _role() -> ReferenceTopic:
    return ReferenceTopic(
        "role",
        "Roles",
        "A role is a named set of hosts: a file `inventories/STAGE/roles/NAME.yml`, or an entry of "
        "`roles.yml`. A list is short for `hosts`.",
        (key_table("Keys", inventory_keys.ROLE),),
        "hosts: ['web[01-20].example.net', deploy@10.0.0.7:2222]\nvars: {workers: 8}\n",
    )


def _app() -> ReferenceTopic:
    return ReferenceTopic(
        "app",
        "Apps",
        "An app is a file `apps/NAME.yml` of `inventories/common/` or of a stage; the stage's "
        "values override those of `common`.",
        (
            key_table("Keys", inventory_keys.APP),
            key_table("Keys of one host under `hosts`", inventory_keys.APP_HOST),
        ),
        'desc: The blog\nroles: [web]\nvars: {port: 8080}\nclaims:\n  ports: ["{{ port }}"]\n',
    )


def _claims() -> ReferenceTopic:
    return ReferenceTopic(
        "claims",
        "Claims of apps",
        "`claims` of an app names what no other app on the same host may use. A conflict is an "
        "error before the run.",
        (key_table("Keys", inventory_keys.CLAIMS),),
        'claims:\n  paths: ["{{ deploy_to }}"]\n  ports: ["{{ port }}"]\n',
    )


def _cluster() -> ReferenceTopic:
    return ReferenceTopic(
        "cluster",
        "Clusters",
        "`cluster` of a stage names the hosts on which `orch cluster up` starts a scheduler and "
        "workers of Dask, for runs with `--engine dask`.",
        (key_table("Keys", inventory_keys.CLUSTER),),
        "cluster:\n  scheduler: control1\n  workers: {eu: [control1], us: [control-us]}\n"
        "  processes: 2\n",
    )


def _connect() -> ReferenceTopic:
    return ReferenceTopic(
        "connect",
        "Connections",
        "`connect` of a stage, role or host says how to connect. What it leaves out comes from "
        "ssh_config.",
        (key_table("Keys", inventory_keys.CONNECT),),
        "connect:\n  user: deploy\n  identity: ~/.ssh/id_deploy\n  jump: bastion1\n",
    )


def _templates() -> ReferenceTopic:
    fields = tuple(
        ReferenceTable(
            f"Fields of `{name}`",
            ("field", "meaning"),
            tuple((f"{name}.{field}", text) for field, text in known.items()),
        )
        for name, known in OBJECT_FIELDS.items()
        if name != "facts"
    )
    return ReferenceTopic(
        "templates",
        "Templates",
        "Text in `{{ }}` is an expression of Jinja. Every value in a command is quoted as its "
        "place requires. A name is a variable, a param, a registered result or one of the built-in "
        "objects. The fields of `facts` are in `orch doc facts`; see also `filters` and `tests`.",
        (
            help_table("Objects", ("name", "meaning"), OBJECT_HELP),
            *fields,
            help_table("Functions", ("function", "meaning"), FUNCTION_HELP),
        ),
        "- run: ln -sfn releases/{{ run.release }} {{ deploy_to }}/current\n"
        "  when: facts.os == 'linux' and host.roles | length > 1\n",
    )


def _filters() -> ReferenceTopic:
    rows = _with_examples(FILTER_HELP, FILTER_EXAMPLES)
    return ReferenceTopic(
        "filters",
        "Filters",
        "`value | filter` in a template changes a value. What a filter makes of a secret is a "
        "secret. A regular expression cannot come from a host. Values are shown in JSON; what is "
        "marked as Ansible's has its name and its meaning. A function in `tasks/filters/NAME.py` "
        "is a filter of the project.",
        (help_table("Filters: `value | filter`", ("filter", "meaning"), rows),),
        "- run: useradd -G {{ groups | union(['adm']) | join(',') }} {{ name }}\n"
        "  when: facts.release is version('12', '>=')\n",
    )


def _tests() -> ReferenceTopic:
    rows = _with_examples(TEST_HELP, TEST_EXAMPLES)
    return ReferenceTopic(
        "tests",
        "Tests",
        "`value is test` in a template is true or false, and so is `value is not test`. What is "
        "marked as Ansible's has its name and its meaning.",
        (help_table("Tests: `value is test`", ("test", "meaning"), rows),),
        "- run: systemctl restart app\n  when: config is changed and host.name is match('web')\n",
    )


def _with_examples(
    texts: Mapping[str, str], examples: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    return {
        name: f"{text}. `{examples[name][0]}` is `{examples[name][1]}`"
        if name in examples
        else text
        for name, text in texts.items()
    }


def _facts() -> ReferenceTopic:
    system = {f"facts.{name}": _fact_text(FACTS[name]) for name in FACT_GROUPS[SYSTEM]}
    others = {
        f"facts.{name}": _fact_text(fact) for name, fact in FACTS.items() if fact.group != SYSTEM
    }
    fields = (
        ReferenceTable(
            f"Fields of {'each value of ' if fact.keyed else ''}`facts.{name}`",
            ("field", "meaning"),
            tuple(
                (key, f"{field.help} ({field.type.value})") for key, field in fact.fields.items()
            ),
        )
        for name, fact in FACTS.items()
        if fact.fields and name != "default_route6"
    )
    return ReferenceTopic(
        "facts",
        "Facts",
        "What is known of a host. A fact is collected once per host and run, if a template names "
        "it; those of the first table are collected together. A number is 0, and a text empty, if "
        "the host does not know it. Facts are text from a host: they are data, and never select "
        "a file, a user or another host. `orch facts` shows all.",
        (
            help_table("Facts of every host", ("fact", "meaning"), system),
            help_table("Facts that are looked up only if named", ("fact", "meaning"), others),
            *fields,
            key_table("Keys of `tasks/facts/NAME.yml`, a fact of the project", keywords.FACT),
        ),
        "- package: {name: nginx}\n  when: facts.family == 'debian' and facts.packages.nginx is "
        "undefined\n- run: ./join --address {{ facts.ipv4 | first }}\n",
    )


def _fact_text(fact: Fact) -> str:
    expression, value = fact.example
    if fact.group == SYSTEM:
        return f"{fact.help}: {fact.type.value}, like `{value}`"
    return f"{fact.help} ({fact.type.value}). `{expression}` is like `{value}`"


def _statuses() -> ReferenceTopic:
    return ReferenceTopic(
        "statuses",
        "Statuses",
        "Every step and every host ends with one of these; a host has the worst of its steps', "
        "in this order. `--json` writes them as here, the screen with spaces: `timed out`.",
        (help_table("Statuses", ("status", "meaning"), STATUS_HELP),),
        'orch -s prod run deploy:check --json | grep \'"status":"failed"\'\n',
        language="sh",
    )


STATUS_HELP: Mapping[str, str] = {
    Status.FAILED: "A step failed",
    Status.TIMED_OUT: "A step did not end within its `timeout`",
    Status.KILLED: "A step's process was ended by a signal",
    Status.LOST: "The connection broke while a step was running",
    Status.UNREACHABLE: "The host could not be connected",
    Status.CANCELLED: "The run ended while the host was working: it was interrupted, or another "
    "host of the batch failed. What the host did was rolled back",
    Status.STOPPED: "The host completed earlier tasks; the run stopped because another host failed",
    Status.NOT_STARTED: "The run ended before the host began",
    Status.WOULD_CHANGE: "In a check: a module would change something",
    Status.WOULD_RUN: "In a check: a command would run",
    Status.UNKNOWN: "In a check: it depends on something that was not run",
    Status.CHANGED: "Something was changed",
    Status.OK: "Nothing had to be changed",
    Status.SKIPPED: "A condition did not hold",
}
"""The meanings of the statuses, worst first."""


def _exit_codes() -> ReferenceTopic:
    return ReferenceTopic(
        "exit-codes",
        "Exit codes",
        "The exit code of `orch run` is that of the worst thing that happened.",
        (
            help_table(
                "Exit codes",
                ("code", "meaning"),
                {str(int(code)): text for code, text in EXIT_CODE_HELP.items()},
            ),
        ),
        "orch -s prod run deploy --check --exit-code\n"
        "case $? in\n0) echo 'nothing to do' ;;\n6) echo 'something would change' ;;\n"
        "*) echo 'the check failed' ;;\nesac\n",
        language="sh",
    )


def _events() -> ReferenceTopic:
    return ReferenceTopic(
        "events",
        "JSON events",
        "With `--json`, `run` and `exec` print one JSON object per line for each event. A field "
        "that is marked `?` is left out if it is empty.",
        tuple(_event_tables()),
        '{"event":"task_started","time":1796002040.5,"app":null,"task":"uname","hosts":["web1"],'
        '"steps":1,"number":1,"total":1,"rollback":false}\n',
        language="json",
    )


def _event_tables() -> Iterator[ReferenceTable]:
    full = StepResult(
        Status.FAILED,
        stdout=CapturedOutput(b"", b"", 1),
        stderr=CapturedOutput(b"", b"", 1),
        reason="x",
        ignored=True,
        changes=(StateChange("a", None, "b"),),
        diff="x",
        attempts=2,
        position="x",
    )
    end = event.StepFinished(0, None, "", step=1, name="", host="", outcome=full, loop=1)
    short_end = replace(end, outcome=StepResult(Status.OK), loop=0)
    begin = event.StepStarted(0, None, "", step=1, name="", host="")
    bug = event.Crashed(0, None, "", host="", error="", traceback="")
    samples: tuple[tuple[str, event.RunEvent, event.RunEvent], ...] = tuple(
        (title, sample, short_end if sample is end else sample)
        for title, sample in (
            ("A run starts", event.RunStarted(0, "", "", (), ())),
            ("A connection is being opened", event.ConnectStarted(0, "")),
            (
                "A connection is open (`error` is empty), or cannot be opened",
                event.ConnectFinished(0, "", 0),
            ),
            ("A task starts on these hosts", event.TaskStarted(0, None, "", (), 0)),
            ("A step starts on a host", begin),
            ("A step has ended on a host", end),
            ("A host has ended a task", event.HostFinished(0, None, "", "", full)),
            ("All hosts have ended the task", event.TaskFinished(0, None, "", 0)),
            ("The user chose not to run a task", event.TaskSkipped(0, None, "")),
            ("A pause before the next batch", event.BatchPaused(0, None, "", "", 0)),
            ("A warning; the run goes on", event.Warned(0, "")),
            ("A remark for those who want to see more", event.Noted(0, "")),
            ("A bug in orch ended a host's part of a task", bug),
            ("The run has ended", event.RunFinished(0, 0, 0, ())),
        )
    )
    for title, sample, sparse in samples:
        data = event_to_json(sample)
        always = event_to_json(sparse)
        rows = tuple(
            (name if name in always else f"{name}?", FIELD_HELP[name])
            for name in data
            if name not in ("event", "time")
        )
        yield ReferenceTable(f"`{data['event']}`: {title}", ("field", "meaning"), rows)


ENVIRONMENT_HELP: Mapping[str, str] = {
    "ORCH_STAGE": "The stage of commands without `-s`",
    "ORCH_OUTPUT": "How the output of hosts is shown, like `--output`",
    "ORCH_PERSIST": "How long connections are kept for later commands, like `--persist`",
    "ORCH_ENGINE": "What drives the hosts of a run, like `--engine`",
    "ORCH_SSH_PASSWORD_FILE": "A file with the password of the login user in its first line; read "
    "without a terminal",
    "ORCH_BECOME_PASSWORD_FILE": "A file with the password for `become` in its first line",
    "ORCH_VAULT_PASSWORD_FILE": "A file with the password of vaults, or a program that prints it",
    "ORCH_VAULT_PASSWORD_FILE_ID": "The same for the vault ID `ID`, in capitals",
    "ORCH_RUN": "In `local` steps: the ID of the run, which a run that they start reports",
    "SSH_AUTH_SOCK": "The socket of the ssh-agent",
    "HOME": "The folder of `~` and of `.ssh`",
    "SHELL": "The shell of `ProxyCommand` and `Match exec` of ssh_config",
    "XDG_STATE_HOME": "The folder of logs if there is no project, or its folder cannot be written; "
    "by default `~/.local/state`",
    "XDG_RUNTIME_DIR": "The folder of the socket of kept connections; by default `/tmp/orch-UID`",
    "XDG_CACHE_HOME": "The folder of caches, for compiled templates; by default `~/.cache`",
    "NO_COLOR": "If it is not empty: no colors and no live display (https://no-color.org)",
    "CI": "If it is set and not 0 or false: no live display",
    "GITHUB_ACTIONS": "If it is true: `run` shows its tasks as groups, annotates failures and "
    "writes a summary of the job, and no output of a host is taken as a command",
    "GITHUB_STEP_SUMMARY": "With GITHUB_ACTIONS: the file of the summary",
    "GITHUB_WORKSPACE": "With GITHUB_ACTIONS: the folder from which the files of annotations count",
    "GITLAB_CI": "If it is true: `run` shows its tasks as collapsed sections",
    "ORCH_CI": "If it is 0 or false: no groups, annotations and summaries of CI servers",
    "TERM": "If it is empty or dumb: no live display",
    "COLUMNS": "The width of the output if it is not a terminal",
}
"""The environment variables that orch reads."""

FILES_HELP: Mapping[str, str] = {
    "inventories/STAGE/stage.yml": "Settings of a stage: `orch doc stage`",
    "inventories/STAGE/hosts/NAME.yml": "A host: `orch doc host`",
    "inventories/STAGE/hosts.yml": "All hosts in one file: a mapping of names to hosts",
    "inventories/STAGE/hosts": "A program that prints the content of hosts.yml as JSON",
    "inventories/STAGE/roles/NAME.yml": "A role: `orch doc role`",
    "inventories/STAGE/roles.yml": "All roles in one file",
    "inventories/STAGE/hosts.ini, group_vars/, host_vars/": "An inventory of Ansible, in place of "
    "`hosts` and `roles`",
    "inventories/STAGE/apps/NAME.yml": "What differs for an app in this stage: `orch doc app`",
    "inventories/common/": "The base of all stages, with the same layout",
    "tasks/NAME.yml": "The task NAME: `orch doc task`",
    "tasks/DIR/NAME.yml": "The task DIR:NAME",
    "tasks/facts/NAME.sh": "A script whose lines of `KEY=VALUE`, or mapping in JSON, is the fact "
    "`facts.NAME`: `orch doc facts`",
    "tasks/facts/NAME.yml": "The same, with the types of its fields",
    "tasks/filters/NAME.py": "Filters of the project: each function of the file whose name does "
    "not begin with `_`, or what `FilterModule` of a filter plugin of Ansible returns; "
    "`orch doc filters` lists them",
    ".orch/": "State of this machine: recorded runs, commands of the console, their index, the "
    "sandbox, certificates of clusters. Not for version control",
    "~/.ssh/config, /etc/ssh/ssh_config": "Settings of ssh, which orch reads as ssh does",
    "~/.ssh/known_hosts": "Host keys",
    "$XDG_RUNTIME_DIR/orch/": "The socket of the process that keeps connections, and its log",
    "~/.orch/cluster/": "On the hosts of a cluster: what `orch cluster up` has installed there",
    "~/.cache/orch/": "Compiled templates of tasks and modules. It can be removed at any time",
}
"""The files that orch reads and writes."""


def _environment() -> ReferenceTopic:
    return ReferenceTopic(
        "environment",
        "Environment variables",
        "These environment variables change what orch does.",
        (help_table("Variables", ("variable", "meaning"), ENVIRONMENT_HELP),),
        "ORCH_STAGE=prod orch run uname\n",
        language="sh",
    )


def _files() -> ReferenceTopic:
    return ReferenceTopic(
        "files",
        "Files and folders",
        "The root of a project is the nearest folder upward that contains `inventories/`.",
        (help_table("Files", ("path", "meaning"), FILES_HELP),),
        "inventories/common/stage.yml\ninventories/prod/hosts/web1.yml\n"
        "inventories/prod/roles/web.yml\ntasks/uname.yml\ntasks/deploy/publish.yml\n",
        language="text",
    )


_TOPICS: dict[str, Callable[[], ReferenceTopic]] = {
    "task": _task,
    "step": _step,
    "block": _block,
    "loop_control": _loop_control,
    "playbook": _playbook,
    "handler": _handler,
    "module": _module,
    "payload": _payload,
    "param": _param,
    "types": _types,
    "stage": _stage,
    "host": _host,
    "role": _role,
    "app": _app,
    "claims": _claims,
    "cluster": _cluster,
    "connect": _connect,
    "templates": _templates,
    "filters": _filters,
    "tests": _tests,
    "facts": _facts,
    "statuses": _statuses,
    "events": _events,
    "exit-codes": _exit_codes,
    "environment": _environment,
    "files": _files,
}
