"""Expressions among the arguments of bash's declaring builtins.

``declare -a name='(…)'`` makes an array of the value, quoted or not, and runs the ``$(…)`` in
it; so does ``declare name='(…)'`` where the name is an array already (declare.def, bash 4.2 to
5.3). And a name with a subscript is evaluated.
"""

from __future__ import annotations

from orchestrator.model.regex import regex
from orchestrator.templating.shelltext.beginning import VALUE, named, split
from orchestrator.templating.shelltext.places import Place
from orchestrator.templating.shelltext.state import Refusal

_ALWAYS = frozenset({"declare", "typeset", "local"})
_WITH_OPTION = frozenset({"readonly", "export"})
_MAY_BE_ARRAY = regex(rf"[-+].*[aA$`{VALUE}]|[$`{VALUE}]")


def judge(place: Place, command: str) -> None:
    """Note the builtin that may read the value again. ``command``: the (masked) text of the
    command up to the expression. Raises ``Refusal`` if no value would be safe there."""
    beginning = split(command)
    words = _called(beginning[0]) if beginning else []
    if not beginning or not words or words[0] not in _ALWAYS | _WITH_OPTION:
        return
    builtin, *args = words
    array = any(_MAY_BE_ARRAY.match(word) for word in args)
    _name, equals, value = beginning[1].partition("=")
    if not equals:
        if builtin in _ALWAYS:
            what = f"an expression as a variable's name after `{builtin}`, which bash evaluates"
            raise Refusal(what, place.offset, "write the name itself")
        return
    if builtin not in _ALWAYS and not array:
        return
    if value.startswith("(") or (array and value[:1] in ("$", "`")):
        what = f"an expression in what `{builtin}` may take for an array's words, and evaluate"
        hint = "write the words without quotes around the parentheses: `name=({{ … }})`"
        raise Refusal(what, place.offset, hint)
    if not value.strip(VALUE):
        place.declared = builtin


def _called(words: list[str]) -> list[str]:
    """The words from the builtin's name on, behind `command` and `builtin`."""
    words = named(words)
    while words and words[0] in ("command", "builtin"):
        words = words[1:]
        while words and words[0].startswith("-"):
            words = words[1:]
    return words
