"""The words of task files: which keys stand where, and which are not spoken yet."""

from __future__ import annotations

INHERITED = frozenset({"environment", "chdir", "timeout", "when", "tags", "become"})

HOOKS = frozenset({"before", "after", "failed", "apps"})

BODY = frozenset({"steps", "tasks", "handlers", "rollback"})

MODULE = frozenset({"functions", "probe", "want", "fix", "payload", "within", "readonly"})
MODULE |= {"contained"}

TASK = INHERITED | HOOKS | BODY | MODULE | {"desc", "roles", "params", "vars", "example"}

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

NOT_YET = {
    "step": frozenset[str](),
    "item": frozenset[str](),
    "task": frozenset[str](),
    "param": frozenset[str](),
}
"""Keys of the design that this version refuses, rather than read and not obey."""
