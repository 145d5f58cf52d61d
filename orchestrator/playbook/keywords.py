"""The keys of task files: which are allowed where, what each means and what it holds."""

from __future__ import annotations

from orchestrator.yamlio.file_keys import FileKey, KeyTable

BECOME_HINT = "write true (root), the name of a user, or false for the login user"

INHERITED: KeyTable = {
    "when": FileKey(
        "condition",
        "An expression, or a list of expressions that must all hold; otherwise the step is skipped",
        "always",
        "when: facts.os == 'linux'",
    ),
    "environment": FileKey(
        "environment",
        "Environment variables of the commands; merged with those of outer levels. A template of a "
        "whole mapping is possible, too",
        example="environment: {RAILS_ENV: production}",
    ),
    "chdir": FileKey(
        "template",
        "The folder in which commands run; a relative path starts at the outer `chdir`",
        "the home folder",
        "chdir: /srv/blog/current",
    ),
    "timeout": FileKey(
        "duration",
        "The time after which a step's processes are ended and the step is `timed out`",
        "no limit",
        "timeout: 5m",
    ),
    "tags": FileKey(
        "names",
        "Names for `--tags` and `--skip-tags`; `always` and `never` as in Ansible",
        example="tags: [assets]",
    ),
    "become": FileKey(
        "user",
        "The user who runs the commands; `true` is root, `false` is the login user",
        "false",
        "become: true",
    ),
    "diff": FileKey(
        "boolean",
        "Whether `--diff` shows the contents of files that change here",
        "true",
        "diff: false",
    ),
    "secret": FileKey(
        "boolean",
        "Hide the output of the steps everywhere; what they `register` is a secret",
        "false",
        "secret: true",
    ),
}
"""Keys that a task, playbook, item, step or block passes on to everything inside it."""

HOOKS: KeyTable = {
    "before": FileKey(
        "names",
        "Run this task before each of these tasks, wherever they are scheduled",
        example="before: deploy:publish",
    ),
    "after": FileKey(
        "names", "Run this task after each of these tasks", example="after: [deploy:publish]"
    ),
    "failed": FileKey(
        "names",
        "Run this task if one of these tasks fails, before the rollback",
        example="failed: deploy",
    ),
    "apps": FileKey(
        "names", "Limit `before`, `after` and `failed` to these apps", "every app", "apps: [blog]"
    ),
}
"""Keys of a task that make it a hook."""

BODY: KeyTable = {
    "steps": FileKey(
        "steps",
        "The steps, which each host runs in order without waiting for other hosts",
        example="steps: [{run: uname -a}]",
    ),
    "tasks": FileKey(
        "items",
        "The tasks of a playbook: every host finishes one before any host starts the next",
        example="tasks: [deploy:update, deploy:publish]",
    ),
    "handlers": FileKey(
        "handlers",
        "Lists of steps by name; each runs once, at the end of the task or playbook, if a step "
        "that notifies it changed something; see `orch doc handler`",
        example="handlers: {reload nginx: [{service: {name: nginx, state: reloaded}}]}",
    ),
    "rollback": FileKey(
        "steps",
        "Steps that undo the task if it, or a later task, fails before the next `commit`",
        example="rollback: [{run: rm -rf /srv/blog/new}]",
    ),
}
"""Keys with the steps of a task, or the tasks of a playbook."""

MODULE: KeyTable = {
    "probe": FileKey(
        "script",
        "A script that reports the current state with `state KEY VALUE`; it changes nothing",
        example='probe: state text "$(cat /etc/motd)"',
    ),
    "want": FileKey(
        "want",
        "The desired state: a value for each key that the probe reports; `none` does not compare",
        example='want: {text: "{{ text }}"}',
    ),
    "fix": FileKey(
        "fix",
        "A script that sets the desired state, or a script for each key, or group of keys, of "
        "`want`",
        example="fix: printf '%s\\n' {{ text }} >/etc/motd",
    ),
    "functions": FileKey(
        "script",
        "Shell functions for the probe and the fixes",
        example="functions: |\n  is_there() { [ -e {{ path }} ]; }",
    ),
    "payload": FileKey(
        "payload",
        "Bytes that are sent to the host: a text, or `file`, `template` or `tree` of the project; "
        "see `orch doc payload`",
        example='payload: {template: "{{ src }}"}',
    ),
    "within": FileKey(
        "duration",
        "The time in which the probe must report the desired state after the fixes",
        "at once",
        "within: 10s",
    ),
    "readonly": FileKey(
        "boolean", "The module has no `fix` and changes nothing", "false", "readonly: true"
    ),
    "contained": FileKey(
        "condition",
        "The scripts leave no process behind, which lets them run in fewer processes",
        "false",
        "contained: true",
    ),
    "exposes": FileKey(
        "exposes",
        "Params that appear in the arguments of processes on the host, where other users can see "
        "them; they accept no secrets",
        example="exposes: [name]",
    ),
    "makes": FileKey(
        "names",
        "Params and paths that the fixes may create, change or remove, or `anything`",
        "the param `path`, or anything",
        "makes: [path, /etc/x]",
    ),
    "reads": FileKey(
        "names",
        "Params and paths that the probe examines, or `anything`",
        "its params if one is a path, or anything",
        "reads: [path]",
    ),
    "needs": FileKey(
        "names",
        "Modules on whose steps the probe depends, in whatever way: if a check did not run one of "
        "them before, a failed probe is `unknown`",
        example="needs: [package, service]",
    ),
    "returns": FileKey(
        "params",
        "Fields of the result, beside `stdout`, and their types: str, int, float, bool, list, dict "
        "or any. The probe, or the fix, prints each with `returned KEY VALUE`: of a list every "
        "item, of a dict JSON",
        example="returns: {count: {type: int, help: How many there are}}",
    ),
    "requires": FileKey(
        "requires",
        "Commands that the module needs on a host; of those in inner brackets one is enough",
        example="requires: [git, [curl, wget]]",
    ),
    "unique": FileKey(
        "template",
        "Lines of a name, a tab and a value: two steps that give one name different values, as "
        "one user on one host, are an error before the run",
        example='unique: "{{ path }}\\tpresent"',
    ),
}
"""Keys of a module, beside ``params``."""

RULES: KeyTable = {
    "one_of": FileKey(
        "param groups", "Exactly one of these params must be given", example="one_of: [src, text]"
    ),
    "disjoint": FileKey(
        "param groups",
        "No path in one of these params may be, or be inside, a path in another",
        example="disjoint: [shared, linked]",
    ),
}
"""Keys of a task with constraints on several params; each may be a list of lists."""

TASK: KeyTable = {
    "desc": FileKey("text", "What the task does, in one line", example="desc: Show the kernel"),
    "throttle": FileKey(
        "integer",
        "The number of hosts that run this at the same time at most; the others wait",
        "all hosts",
        "throttle: 1",
    ),
    "roles": FileKey(
        "names", "The roles whose hosts run the task", "all hosts", "roles: [web, api]"
    ),
    "params": FileKey(
        "params",
        "The parameters; see `orch doc param`",
        example="params:\n  release: {required: true}",
    ),
    "vars": FileKey(
        "variables", "Variables of the task, weaker than its params", example="vars: {keep: 5}"
    ),
    "vars_files": FileKey(
        "file choices",
        "YAML files with more variables, stronger than `vars`; the paths begin in the project's "
        "folder. An expression in a path, such as `vars/{{ facts.family }}.yml`, chooses between "
        "the files that are there. Of a list of paths, the first one whose file exists is taken",
        example="vars_files: [vars/versions.yml]",
    ),
    "example": FileKey(
        "text", "How the task is called, as shown by `orch doc`", example="example: |\n  - motd: {}"
    ),
    **BODY,
    **INHERITED,
    **HOOKS,
    **RULES,
    **MODULE,
}
"""Keys of a file below ``tasks/``, which has exactly one of steps, tasks and probe."""

RUN: KeyTable = {
    "readonly": FileKey(
        "boolean",
        "The command changes nothing: it also runs with `--check`, and never counts as a change",
        "false",
        "readonly: true",
    ),
    "creates": FileKey(
        "template",
        "Run the command only if this path does not exist",
        example="creates: /srv/blog/.installed",
    ),
    "removes": FileKey(
        "template", "Run the command only if this path exists", example="removes: /tmp/old"
    ),
    "unless": FileKey(
        "script", "Run the command only if this command fails", example="unless: id deploy"
    ),
    "onlyif": FileKey(
        "script", "Run the command only if this command succeeds", example="onlyif: test -d /srv"
    ),
    "stdin": FileKey(
        "template",
        "The command's standard input as text; a final newline is added",
        "empty",
        'stdin: "{{ config }}"',
    ),
    "shell": FileKey("text", "Another shell for the command", "sh", "shell: bash"),
}
"""Keys that only a step with ``run`` has."""

CONTROL: KeyTable = {
    "set": FileKey(
        "variables",
        "Set variables of this host for the rest of the run",
        example="set: {port: 8080}",
    ),
    "fail": FileKey(
        "template", "Fail with this reason", example="fail: only {{ free }} MiB are left"
    ),
    "assert": FileKey(
        "assert",
        "Fail unless the expression, or each of a list, holds; `{that: …, message: …}` adds a "
        "message",
        example="assert: {that: keep > 0, message: keep must be positive}",
    ),
    "wait": FileKey("duration", "Pause this host", example="wait: 10s"),
    "flush_handlers": FileKey(
        "nothing",
        "Run the handlers that have been notified here, and not at the end of the task; written "
        "`- flush_handlers`",
        example="flush_handlers:",
    ),
    "wait_for_connection": FileKey(
        "connection",
        "Wait until the host can be reached again, and connect: at most for `timeout`, after a "
        "`delay`; `- wait_for_connection` uses the defaults",
        example="wait_for_connection: {delay: 10s, timeout: 5m}",
    ),
    "pause": FileKey(
        "pause",
        "Pause this host for some `seconds`; or wait for a person (`prompt`), once for all hosts: "
        "all of them end the steps before it. The latter only directly under `steps`, and as an "
        "item of a playbook; `--yes` goes on without a question",
        example="pause: {prompt: Is the old version drained?}",
    ),
}
"""Keys whose step runs nothing on the host."""

ACTIONS: KeyTable = {
    "run": FileKey(
        "template",
        "Run a command, or several lines of which the first that fails ends the step",
        example="run: systemctl restart {{ unit }}",
    ),
    "download": FileKey(
        "download",
        "Copy a file or folder from the host (`path`) to this machine (`to`)",
        example="download: {path: /var/log/app.log, to: logs/}",
    ),
    "call": FileKey(
        "call",
        "Call one of several tasks, whose name is known only in the run (`task`, `one_of`, `args`)",
        example='call: {task: "install_{{ facts.packager }}", one_of: [install_apt, install_apk]}',
    ),
    **CONTROL,
}
"""Keys that say what a step does; the name of a task or module is another."""

CONDITIONS: KeyTable = {
    "changed_when": FileKey(
        "condition",
        "Whether the step counts as a change: an expression over `result`",
        "a command counts as a change",
        "changed_when: \"'updated' in result.stdout\"",
    ),
    "failed_when": FileKey(
        "condition",
        "Whether the step failed: an expression over `result`",
        "the exit status is not 0",
        "failed_when: result.exit_status > 1",
    ),
}

RETRIES: KeyTable = {
    "until": FileKey(
        "condition",
        "Repeat the step until this expression over `result` holds",
        example="until: result.stdout == 'ready'",
    ),
    "retries": FileKey("integer", "How often the step is repeated at most", "3", "retries: 10"),
    "delay": FileKey("duration", "The pause before each repetition", "5s", "delay: 2s"),
}

STEP: KeyTable = {
    "name": FileKey(
        "template", "What the step is called on the screen", "its command", "name: restart the app"
    ),
    "register": FileKey(
        "text",
        "A name for the step's result in later steps: see `orch doc templates`",
        example="register: kernel",
    ),
    "ignore_errors": FileKey("boolean", "Go on if the step fails", "false", "ignore_errors: true"),
    "loop": FileKey(
        "loop",
        "Repeat the step for each item of a list, mapping or expression: `{{ item }}`",
        example="loop: [blog, shop]",
    ),
    "loop_control": FileKey(
        "loop_control",
        "Settings of the loop: see `orch doc loop_control`",
        example='loop_control: {label: "{{ item.name }}"}',
    ),
    "vars": FileKey(
        "variables",
        "Variables of the step, or of everything in the block or called task: stronger than those "
        "of the inventory, weaker than `-e`, `set` and `register`",
        example='vars: {url: "http://{{ host.address }}:{{ port }}"}',
    ),
    "notify": FileKey(
        "names",
        "Handlers of the task or playbook, or names that they listen to, that run at its end if "
        "this step changed something",
        example="notify: reload nginx",
    ),
    "delegate_to": FileKey(
        "template",
        "Run the step on that host instead, with this host's values, one at a time there",
        example="delegate_to: balancer1",
    ),
    "throttle": FileKey(
        "integer",
        "The number of hosts that run this at the same time at most; the others wait",
        "all hosts",
        "throttle: 1",
    ),
    "once": FileKey(
        "boolean",
        "Only the primary host runs the step, and its result is every host's; all hosts wait for "
        "it. Only directly under `steps` of a task that is not called as a step",
        "false",
        "once: true",
    ),
    "local": FileKey(
        "boolean",
        "Run the step on this machine instead, in the project's folder",
        "false",
        "local: true",
    ),
    **INHERITED,
    **CONDITIONS,
    **RETRIES,
}
"""Keys of every step, beside its action."""

BLOCK: KeyTable = {
    "block": FileKey("steps", "The steps of the group", example="block: [{run: ./migrate}]"),
    "rescue": FileKey(
        "steps", "Steps that run if a step of the block fails", example="rescue: [{run: ./undo}]"
    ),
    "always": FileKey(
        "steps",
        "Steps that run last, also after a failure",
        example="always: [{run: rm -f /tmp/lock}]",
    ),
}

BLOCK_STEP: KeyTable = {
    **BLOCK,
    **{
        key: STEP[key]
        for key in (
            *("name", "ignore_errors", "local", "once", "throttle", "vars", "loop"),
            "loop_control",
        )
    },
    **INHERITED,
}
"""Keys of a step that is a block."""

LOOP_CONTROL: KeyTable = {
    "label": FileKey(
        "template",
        "What is shown of each item",
        "the item",
        'label: "{{ item.name }}"',
    ),
    "var": FileKey(
        "text",
        "The name of the item, for a loop inside a loop",
        "item",
        "var: user",
    ),
    "index": FileKey(
        "text",
        "A name for the number of the item, from 0",
        example="index: n",
    ),
    "pause": FileKey(
        "duration",
        "The pause between two items, in a run and not in a check",
        "none",
        "pause: 3s",
    ),
}

HANDLER: KeyTable = {
    "steps": FileKey(
        "steps", "The steps of the handler", example="steps: [{run: systemctl reload nginx}]"
    ),
    "listen": FileKey(
        "names",
        "Other names by which `notify` runs this handler; several handlers may have one name",
        example="listen: [certificate changed]",
    ),
}
"""Keys of a handler that is not just its list of steps."""

CONNECTION: KeyTable = {
    "timeout": FileKey("duration", "How long to try", "10m", "timeout: 5m"),
    "delay": FileKey(
        "duration",
        "The time before the first attempt, in which the host goes down",
        "0",
        "delay: 10s",
    ),
    "test": FileKey(
        "script",
        "A command that must succeed on the host; until it does, orch connects again",
        example="test: test -e /run/ready",
    ),
}
"""Keys of ``wait_for_connection``."""

PAUSE: KeyTable = {
    "prompt": FileKey(
        "text",
        "What is shown: Enter goes on, and `q` stops the run",
        example="prompt: Is the old version drained?",
    ),
    "seconds": FileKey(
        "duration", "The time, as of `wait`; check mode does not wait", example="seconds: 5"
    ),
}

ASSERT: KeyTable = {
    "that": FileKey("condition", "The expression, or a list of expressions", example="that: a > 0"),
    "message": FileKey("template", "The reason that is shown if one does not hold"),
}

CALL: KeyTable = {
    "task": FileKey(
        "template",
        "The name of the task or module, which must be one of those in `one_of`",
        example='task: "install_{{ facts.packager }}"',
    ),
    "one_of": FileKey(
        "names",
        "The tasks that may be called; all of them are checked before the run",
        example="one_of: [install_apt, install_apk]",
    ),
    "args": FileKey(
        "variables",
        "The arguments of the task; each of the tasks must have these params",
        example="args: {version: 3}",
    ),
}

DOWNLOAD: KeyTable = {
    "path": FileKey(
        "template",
        "The file or folder on the host; with a final `/`, what is in the folder",
        example="path: /var/log/app.log",
    ),
    "to": FileKey(
        "template",
        "The file or folder on this machine or, with a final `/`, the folder for it; relative to "
        "the project",
        example='to: "logs/{{ host.name }}.log"',
    ),
}

ITEM: KeyTable = {
    "name": FileKey("text", "What the item is called on the screen", "the task's name"),
    "once": FileKey(
        "boolean", "Run the item on one host only, once per run", "false", "once: true"
    ),
    "on": FileKey(
        "text",
        "The host of `once`: the role's primary host, or any of its hosts if that one failed",
        "primary",
        "on: any",
        choices=("primary", "any"),
    ),
    "batch": FileKey(
        "batch",
        "The number or percentage of hosts that run the item at the same time; the last one is "
        "repeated",
        "all hosts",
        "batch: [1, 25%, 100%]",
    ),
    "pause": FileKey("duration", "The pause between two batches", "none", "pause: 30s"),
    "confirm": FileKey(
        "boolean",
        "Ask before each batch but the first; `--yes` confirms all of them",
        "false",
        "confirm: true",
    ),
    "order": FileKey(
        "text",
        "The order in which the hosts are taken into batches; `shuffle` is another one in each run",
        "inventory",
        "order: shuffle",
        choices=("inventory", "reversed", "shuffle"),
    ),
    "on_batch_failure": FileKey(
        "text",
        "After a failed batch, stop the run or continue with the next batch",
        "stop",
        "on_batch_failure: continue",
        choices=("stop", "continue"),
    ),
    "any_errors": FileKey(
        "text",
        "If a host fails, let the others finish the item, or stop each of them after the step that "
        "it runs; then every step is sent on its own",
        "finish",
        "any_errors: stop",
        choices=("finish", "stop"),
    ),
    "max_failures": FileKey(
        "host count",
        "The number or percentage of hosts that may fail before the run stops",
        "0",
        "max_failures: 10%",
    ),
    **INHERITED,
}
"""Keys of an item of a playbook, beside the name of its task."""

INLINE_TASK: KeyTable = {**ITEM, **BODY, **{key: TASK[key] for key in ("desc", "roles")}}
"""Keys of an item of a playbook that is a task itself."""

PARAM: KeyTable = {
    "type": FileKey("text", "The type of the value: see `orch doc types`", "str", "type: int"),
    "default": FileKey(
        "any", "The value if none is given; it may be a template", "none", "default: 5"
    ),
    "required": FileKey("boolean", "A value must be given", "false", "required: true"),
    "choices": FileKey(
        "any", "A list of the only valid values", example="choices: [present, absent]"
    ),
    "help": FileKey("text", "What the param means", example="help: The release to activate"),
    "secret": FileKey("boolean", "The value is masked in all output", "false", "secret: true"),
    "elements": FileKey("text", "The type of the items of a list", "any", "elements: path"),
    "absolute": FileKey(
        "boolean", "The path must begin with `/` or `~/`", "false", "absolute: true"
    ),
}
"""Keys of one parameter."""

PAYLOAD: KeyTable = {
    "text": FileKey("any", "The bytes as a text"),
    "file": FileKey("template", "A file of the project", example='file: "{{ src }}"'),
    "template": FileKey("template", "A Jinja template of the project"),
    "host": FileKey(
        "template",
        "A path on the host, instead of bytes to send: `functions` then define `payload`",
        example='host: "{{ remote_src }}"',
    ),
    "tree": FileKey("template", "A folder of the project, with everything in it"),
    "parts": FileKey(
        "template",
        "A folder of the project, whose files are joined in the order of their names",
    ),
    "tries": FileKey(
        "template", "A command that tests the file; check mode then sends the bytes, too"
    ),
    "exclude": FileKey("any", "Patterns of paths of a tree that are not sent"),
    "include": FileKey("any", "Patterns of the only paths of a tree that are sent", "all"),
    "keep_modes": FileKey(
        "any",
        "Whether the files of a tree keep all their permissions",
        "only execution, and privacy",
    ),
    "follow": FileKey(
        "any", "Whether a tree has what links in it lead to, instead of the links", "false"
    ),
    "times": FileKey("any", "Whether the files of a tree keep their modification times", "false"),
    "whole_file": FileKey(
        "any",
        "Whether changed files of a tree are sent whole, instead of only what differs",
        "false",
    ),
    "delimiters": FileKey(
        "any",
        "The pairs of texts around the `variable`, `block` and `comment` parts of a template",
        "Jinja's",
    ),
    "trim_blocks": FileKey(
        "any", "Whether a newline right after a block of a template is removed", "true"
    ),
    "lstrip_blocks": FileKey(
        "any", "Whether blanks between the start of a line and a block are removed", "false"
    ),
    "match": FileKey("any", "A POSIX ERE that the names of parts must match", "all"),
    "hidden": FileKey("any", "Whether parts may have names that begin with a dot", "true"),
    "delimiter": FileKey("any", "A line between two parts", "none"),
    "newline": FileKey("any", "The line end of a rendered template: lf or crlf", "as written"),
}
"""Keys of ``payload``, of which one names the bytes."""

PAYLOAD_OPTIONS = {
    "tree": ("exclude", "include", "keep_modes", "follow", "times", "whole_file"),
    "template": ("delimiters", "trim_blocks", "lstrip_blocks", "newline"),
    "parts": ("match", "hidden", "delimiter"),
}
"""The keys of ``payload`` that belong to a kind."""

FACT: KeyTable = {
    "desc": FileKey("text", "One sentence about the fact", example="desc: The layout of the disks"),
    "fields": FileKey(
        "params",
        "The names and types of what the script prints: str, int, float, bool, list, dict or any; "
        "without it, any lines, as text",
        example="fields: {count: {type: int, help: How many there are}}",
    ),
    "script": FileKey(
        "text",
        "A POSIX sh script that changes nothing and prints lines of `KEY=VALUE`, or a mapping as "
        "JSON. A list has a line for each item; the value of a dict is JSON",
        example="script: echo count=$(ls /srv | wc -l)",
    ),
}
"""Keys of a file of ``tasks/facts/``."""

ASSERT_KEYS, BLOCK_KEYS, BLOCK_STEP_KEYS = (
    frozenset(ASSERT),
    frozenset(BLOCK),
    frozenset(BLOCK_STEP),
)
CONDITION_KEYS, CONTROL_KEYS = frozenset(CONDITIONS), frozenset(CONTROL)
INLINE_TASK_KEYS, ITEM_KEYS = frozenset(INLINE_TASK), frozenset(ITEM)
MODULE_KEYS = frozenset(MODULE)
PARAM_KEYS, RETRY_KEYS, RUN_KEYS = frozenset(PARAM), frozenset(RETRIES), frozenset(RUN)
STEP_KEYS, TASK_KEYS = frozenset(STEP), frozenset(TASK)

BARE_STEPS = ("flush_handlers", "wait_for_connection")
"""Steps that are a word, without options."""

BARE_ITEMS = ("commit", "flush_handlers")
"""Items of a playbook that are a word."""

RESERVED_NAMES = frozenset({*ACTIONS, *BLOCK, "commit", "steps", "tasks", "probe"})
"""Names that make up a step, a playbook item or a file; no task can have them."""
