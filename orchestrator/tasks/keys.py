"""The words of task files: which keys stand where, and which are not spoken yet."""

from __future__ import annotations

INHERITED = frozenset({"environment", "chdir", "timeout", "when"})

TASK = INHERITED | {"desc", "roles", "params", "vars", "steps", "tasks"}

STEP = INHERITED | {"name", "register", "changed_when", "failed_when", "ignore_errors"}

RUN = frozenset({"readonly", "creates", "removes", "unless", "onlyif", "stdin", "shell"})

ITEM = INHERITED | {"name"}

IN_PLACE = ITEM | {"desc", "roles", "steps", "tasks"}

PARAM = frozenset({"type", "default", "required", "choices", "help"})

NOT_YET = {
    "task": frozenset(
        "become tags handlers rollback before after failed apps probe want fix payload within"
        " readonly".split()
    ),
    "step": frozenset(
        "become tags loop until retries delay notify delegate_to block rescue always".split()
    ),
    "item": frozenset("become tags once on batch max_failures block rescue always".split()),
    "param": frozenset({"secret"}),
}
"""Keys of the design that this version refuses, rather than read and not obey."""

BUILT_IN_NOT_YET = frozenset({"upload", "download", "wait", "fail", "set", "assert", "commit"})
