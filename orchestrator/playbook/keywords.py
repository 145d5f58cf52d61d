"""The words of task files: which keys stand where, and which are not spoken yet."""

from __future__ import annotations

BECOME_HINT = "write true (root), the name of a user, or false for the login user"

INHERITED = frozenset({"environment", "chdir", "timeout", "when", "tags", "become"})

HOOKS = frozenset({"before", "after", "failed", "apps"})

BODY = frozenset({"steps", "tasks", "handlers", "rollback"})

MODULE = frozenset({"functions", "probe", "want", "fix", "payload", "within", "readonly"})
MODULE |= {"contained", "exposes", "makes", "reads", "requires", "unique"}

RULES = ("one_of", "disjoint")

TASK = INHERITED | HOOKS | BODY | MODULE | {"desc", "roles", "params", "vars", "example", *RULES}

CONTROL = frozenset({"set", "fail", "assert", "wait"})

JUDGED = frozenset({"changed_when", "failed_when"})

AGAIN = frozenset({"until", "retries", "delay"})

STEP = INHERITED | JUDGED | AGAIN
STEP |= {"name", "register", "ignore_errors", "loop", "loop_control", "notify"}
STEP |= {"delegate_to", "local"}

RUN = frozenset({"readonly", "creates", "removes", "unless", "onlyif", "stdin", "shell"})

BLOCK = frozenset({"block", "rescue", "always"})

BLOCK_STEP = INHERITED | BLOCK | {"name", "ignore_errors", "local"}

ITEM = INHERITED | {"name", "once", "on", "batch", "max_failures"}

IN_PLACE = ITEM | BODY | {"desc", "roles"}

PARAM = frozenset({"type", "default", "required", "choices", "help", "secret"})
PARAM |= {"elements", "absolute"}

NOT_YET = {
    "step": frozenset[str](),
    "item": frozenset[str](),
    "task": frozenset[str](),
    "param": frozenset[str](),
}
"""Keys of the design that this version refuses, rather than read and not obey."""

MEANINGS = {
    "run": "`run: TEXT` runs a command, or several lines that stop at the first that fails.",
    "download": "`download: {path: …, to: …}` brings a file of the host to this machine.",
    "wait": "`wait: 10s` pauses this host.",
    "fail": "`fail: TEXT` fails the step with this reason.",
    "set": "`set: {NAME: VALUE}` makes variables of this host for the rest of the run.",
    "assert": "`assert: EXPRESSION`, or a list of them, fails the step unless all hold.",
    "commit": "`- commit` in a playbook: from here on a failure no longer rolls back.",
    "block": "`block: [STEP, …]` makes several steps one, with `rescue:` and `always:` beside it.",
    "rescue": "`rescue: [STEP, …]` beside `block:` runs if a step of the block fails.",
    "always": "`always: [STEP, …]` beside `block:` runs at its end in any case.",
    "steps": "`steps: [STEP, …]` of a task file run on each host, top to bottom.",
    "tasks": "`tasks: [TASK, …]` of a playbook: every host ends one before any begins the next.",
    "probe": "`probe: TEXT` of a module states what is; see `orch doc` for the modules that ship.",
}
"""What the words of task files mean that a step, an item or a file can be made of."""
