"""The keys of task files: which keys are allowed on what, and which are not supported yet."""

from __future__ import annotations

BECOME_HINT = "write true (root), the name of a user, or false for the login user"

INHERITED_KEYS = frozenset({"environment", "chdir", "timeout", "when", "tags", "become"})

HOOK_KEYS = frozenset({"before", "after", "failed", "apps"})

BODY_KEYS = frozenset({"steps", "tasks", "handlers", "rollback"})

MODULE_KEYS = frozenset({"functions", "probe", "want", "fix", "payload", "within", "readonly"})
MODULE_KEYS |= {"contained", "exposes", "makes", "reads", "requires", "unique"}

RULE_KEYS = ("one_of", "disjoint")

TASK_KEYS = (
    INHERITED_KEYS
    | HOOK_KEYS
    | BODY_KEYS
    | MODULE_KEYS
    | {"desc", "roles", "params", "vars", "example", *RULE_KEYS}
)

CONTROL_KEYS = frozenset({"set", "fail", "assert", "wait"})

CONDITION_KEYS = frozenset({"changed_when", "failed_when"})

RETRY_KEYS = frozenset({"until", "retries", "delay"})

STEP_KEYS = INHERITED_KEYS | CONDITION_KEYS | RETRY_KEYS
STEP_KEYS |= {"name", "register", "ignore_errors", "loop", "loop_control", "notify"}
STEP_KEYS |= {"delegate_to", "local"}

RUN_KEYS = frozenset({"readonly", "creates", "removes", "unless", "onlyif", "stdin", "shell"})

BLOCK_KEYS = frozenset({"block", "rescue", "always"})

BLOCK_STEP_KEYS = INHERITED_KEYS | BLOCK_KEYS | {"name", "ignore_errors", "local"}

ITEM_KEYS = INHERITED_KEYS | {"name", "once", "on", "batch", "max_failures"}

INLINE_TASK_KEYS = ITEM_KEYS | BODY_KEYS | {"desc", "roles"}

PARAM_KEYS = frozenset({"type", "default", "required", "choices", "help", "secret"})
PARAM_KEYS |= {"elements", "absolute"}

UNSUPPORTED_KEYS = {
    "step": frozenset[str](),
    "item": frozenset[str](),
    "task": frozenset[str](),
    "param": frozenset[str](),
}
"""Planned keys that this version rejects instead of silently ignoring them."""

KEYWORD_HELP = {
    "run": "`run: TEXT` runs a command, or several lines up to the first that fails.",
    "download": "`download: {path: …, to: …}` copies a file from the host to this machine.",
    "wait": "`wait: 10s` pauses this host.",
    "fail": "`fail: TEXT` fails the step with this reason.",
    "set": "`set: {NAME: VALUE}` sets variables of this host for the rest of the run.",
    "assert": "`assert: EXPRESSION`, or a list of them, fails the step unless all hold.",
    "commit": "`- commit` in a playbook: a later failure does not roll back what ran before.",
    "block": "`block: [STEP, …]` groups steps, with `rescue:` and `always:` beside it.",
    "rescue": "`rescue: [STEP, …]` beside `block:` runs if a step of the block fails.",
    "always": "`always: [STEP, …]` beside `block:` runs last, even after a failure.",
    "steps": "`steps: [STEP, …]` of a task file run on each host, top to bottom.",
    "tasks": "`tasks: [TASK, …]` of a playbook: all hosts finish one before the next starts.",
    "probe": "`probe: TEXT` of a module reports the current state; see `orch doc` for modules.",
}
"""Help text of each keyword that makes up a step, a playbook item or a task file."""
