"""The facts of hosts: what templates see, and the scripts that collect them.

A fact is collected when a template reads it: ``FactsPending`` names the facts, and has their
sources. What a host reports is checked by ``fact_parser``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from collections.abc import ItemsView as Items
from functools import cache
from typing import Any, NoReturn

from msgspec import Struct

from orchestrator.errors import suggest_nearest
from orchestrator.model import ansible
from orchestrator.model.facts import FACT_GROUPS, FACTS
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.fact_parser import (
    facts_error,
    parse_group,
    parse_own_fact,
    read_report,
)
from orchestrator.playbook.own_facts import OwnFact
from orchestrator.templating import ResultPending

FACTS_RESULT = "facts"
"""Key of the results under which the facts of a host are kept that are known, by name."""


class FactQuery(Struct, frozen=True):
    """A script that reports facts, and the facts: whole groups, and the project's own."""

    script: str
    groups: tuple[str, ...]
    own: tuple[OwnFact, ...]

    def parse(self, text: str, stderr: str = "") -> dict[str, object]:
        """Return the values of the facts of a report. Raises OrchError."""
        report = read_report(text)
        found: dict[str, object] = {}
        for group in self.groups:
            found.update(parse_group(group, report))
        for fact in self.own:
            for name, status in report.get("own_failed", []):
                if name == fact.name:
                    reason = f"'{name}' ended with exit status {status}"
                    raise facts_error(f"{reason}: {stderr}" if stderr else reason)
            outputs = [fields[1] for fields in report.get("own", []) if fields[0] == fact.name]
            if not outputs:
                raise facts_error(f"'{fact.name}' was not reported")
            found[fact.name] = parse_own_fact(fact, outputs[-1])
        return found


class FactSources:
    """The facts that a run can collect: orch's, and the project's own."""

    def __init__(self, own: Mapping[str, OwnFact] | None = None) -> None:
        """Take the project's own facts.

        ``names`` are the facts with their meanings; ``fields`` those of ``facts`` and of each fact
        whose fields are known.
        """
        self.own = own or {}
        self.names: Mapping[str, str] = {
            **{name: fact.help for name, fact in FACTS.items()},
            **{name: fact.desc for name, fact in self.own.items()},
        }
        own_fields = {
            name: {field: param.help for field, param in fact.fields.items()}
            for name, fact in self.own.items()
            if fact.fields is not None
        }
        self.fields: Mapping[str, Mapping[str, str]] = {
            FACTS_RESULT: self.names,
            **{
                f"{FACTS_RESULT}.{name}": {key: field.help for key, field in fact.fields.items()}
                for name, fact in FACTS.items()
                if fact.fields and not fact.keyed
            },
            **{f"{FACTS_RESULT}.{name}": known for name, known in own_fields.items()},
        }

    def query(self, names: Iterable[str]) -> FactQuery:
        """Return the query for these facts; those of the same group are collected with them."""
        wanted = [name for name in names if name in self.names]
        groups = tuple(
            group for group, members in FACT_GROUPS.items() if not set(members).isdisjoint(wanted)
        )
        own = tuple(fact for name, fact in self.own.items() if name in wanted)
        texts = [_script("common"), *map(_script, groups)]
        if own:
            texts.append(_script("own"))
            texts += [_own_call(fact) for fact in own]
        return FactQuery("".join(texts), groups, own)


def _own_call(fact: OwnFact) -> str:
    return f"own_fact {shell_quote(fact.name)} {shell_quote(fact.script)}\n"


@cache
def _script(name: str) -> str:
    """Return a script without its comments, which the host does not need."""
    text = (MODULES_FOLDER / "facts" / f"{name}.sh").read_text("utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if line.lstrip()[:1] != "#")


def fact_hint(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a fact that does not exist."""
    return (
        ansible.FACT_HINTS.get(name, "")
        or suggest_nearest(name, known)
        or "`orch doc facts` lists them"
    )


class FactsPending(ResultPending):
    """Facts that have not been collected. ``facts`` are their names, ``sources`` has them."""

    def __init__(self, facts: Iterable[str], sources: FactSources) -> None:
        """Store the facts."""
        self.facts, self.sources = frozenset(facts), sources
        super().__init__(f"{FACTS_RESULT}.{name}" for name in self.facts)


class FactsView(Mapping[str, Any]):
    """``facts`` of one host. ``missing`` is called with the facts that are not known, and raises.

    ``known`` returns the facts that are known now: a view may outlive the step that it was made in.
    """

    __slots__ = ("_known", "_missing", "_sources")

    def __init__(
        self,
        sources: FactSources,
        known: Callable[[], Mapping[str, object]],
        missing: Callable[[frozenset[str]], NoReturn] | None = None,
    ) -> None:
        """Store where the facts come from."""
        self._sources, self._known = sources, known
        self._missing = missing or self._wait_for

    def with_missing(self, missing: Callable[[frozenset[str]], NoReturn]) -> FactsView:
        """Return a view that calls another function for facts that are not known."""
        return FactsView(self._sources, self._known, missing)

    def _wait_for(self, names: frozenset[str]) -> NoReturn:
        raise FactsPending(names, self._sources)

    def _values(self, names: Iterable[str]) -> dict[str, object]:
        known = self._known()
        if missing := frozenset(names) - known.keys():
            self._missing(missing)
        return {name: known[name] for name in names}

    def __getitem__(self, name: str) -> Any:
        """Return the value of a fact. Raises KeyError if there is no such fact."""
        if name not in self._sources.names:
            raise KeyError(name)
        return self._values([name])[name]

    def __contains__(self, name: object) -> bool:
        """Return True if there is a fact of this name."""
        return name in self._sources.names

    def hint_for(self, name: str) -> str:
        """Return what to write instead of a fact that does not exist."""
        return fact_hint(name, self._sources.names)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the facts."""
        return iter(self._sources.names)

    def __len__(self) -> int:
        """Return the number of facts."""
        return len(self._sources.names)

    def items(self) -> Items[str, Any]:
        """Return the names and values of all facts."""
        return self._values(list(self)).items()

    def values(self) -> ValuesView[Any]:
        """Return the values of all facts."""
        return self._values(list(self)).values()

    def __str__(self) -> str:
        """Raise TypeError, because rendering a whole mapping is a mistake."""
        raise TypeError("a mapping cannot be rendered as text; name one of its values")
