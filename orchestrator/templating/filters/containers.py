"""Filters and tests of lists and mappings, under Ansible's names and with its meaning.

Source: the documentation of ``ansible.builtin``'s filters and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, permutations, product, zip_longest
from math import comb, perm
from random import Random, SystemRandom
from typing import Any

from jinja2 import pass_environment
from jinja2.runtime import Undefined

from orchestrator.templating import limits
from orchestrator.templating.value_text import UnusableValueError

_FALSE_WORDS = frozenset({"false", "no", "off", "n", "f", "0", "none", "null"})
_NULL_WORDS = ("None", "null")


def require_defined(*values: object) -> None:
    """Raise UndefinedValueError if one of the values is undefined."""
    for value in values:
        if isinstance(value, Undefined):
            str(value)


def is_truthy(value: object, convert_bool: bool = False) -> bool:
    """Return True if the value counts as true; with ``convert_bool``, `no` and the like do not.

    Raises UnusableValueError for such a text otherwise, which would count as true.
    """
    require_defined(value)
    is_false_word = isinstance(value, str) and value.strip().lower() in _FALSE_WORDS
    if is_false_word and not convert_bool:
        raise UnusableValueError(
            f"'{value}' is text, and any text counts as true", "write `truthy(convert_bool=true)`"
        )
    return bool(value) and not is_false_word


def is_falsy(value: object, convert_bool: bool = False) -> bool:
    """Return the opposite of ``is_truthy``."""
    return not is_truthy(value, convert_bool)


def ternary(value: object, if_true: Any, if_false: Any, if_none: Any = None) -> Any:
    """Return one of two values, or ``if_none`` for none if it is given.

    Raises UnusableValueError for a text like ``no``, which would count as true.
    """
    if value is None and if_none is not None:
        return if_none
    if isinstance(value, str) and value.strip().lower() in _FALSE_WORDS:
        raise UnusableValueError(
            f"'{value}' is text, and any text counts as true", "write `| bool | ternary(…)`"
        )
    return if_true if value else if_false


def mandatory(value: Any, message: str | None = None) -> Any:
    """Return the value. Raises UnusableValueError with the message if it is undefined."""
    if isinstance(value, Undefined) and message is not None:
        raise UnusableValueError(str(message))
    require_defined(value)
    return value


def combine(*values: Any, recursive: bool = False, list_merge: str = "replace") -> dict[Any, Any]:
    """Merge mappings; the later ones override. A list of mappings stands for its items.

    ``recursive``: merge mappings inside them, too. ``list_merge`` says what to do with two lists.
    Raises UnusableValueError for other values.
    """
    if list_merge not in _LIST_MERGES:
        known = ", ".join(_LIST_MERGES)
        raise UnusableValueError(f"list_merge is '{list_merge}'", f"it is one of {known}")
    require_defined(*values)
    parts = [p for value in values for p in (value if isinstance(value, list | tuple) else [value])]
    merged: dict[Any, Any] = {}
    for part in parts:
        _require_mapping(part, "combine")
        merged = _merge(merged, part, recursive, _LIST_MERGES[list_merge])
    return merged


def _merge(
    low: Mapping[Any, Any],
    high: Mapping[Any, Any],
    recursive: bool,
    merge_lists: Callable[[list[Any], list[Any]], list[Any]],
) -> dict[Any, Any]:
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if recursive and isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(old, value, recursive, merge_lists)
        elif isinstance(old, list) and isinstance(value, list):
            merged[key] = merge_lists(old, value)
            limits.check_result(merged[key])
        else:
            merged[key] = value
    return merged


_LIST_MERGES: Mapping[str, Callable[[list[Any], list[Any]], list[Any]]] = {
    "replace": lambda _, high: high,
    "keep": lambda low, _: low,
    "append": lambda low, high: low + high,
    "prepend": lambda low, high: high + low,
    "append_rp": lambda low, high: _without(low, high) + high,
    "prepend_rp": lambda low, high: high + _without(low, high),
}


def dict2items(
    value: Any, key_name: str = "key", value_name: str = "value"
) -> list[dict[str, Any]]:
    """Return a mapping's pairs as mappings of a key and a value."""
    require_defined(value)
    _require_mapping(value, "dict2items")
    return [{key_name: key, value_name: item} for key, item in value.items()]


def items2dict(value: Any, key_name: str = "key", value_name: str = "value") -> dict[Any, Any]:
    """Return the mapping of a list of mappings that each have a key and a value."""
    pairs = _as_list(value, "items2dict")
    for item in pairs:
        if not isinstance(item, Mapping) or not {key_name, value_name} <= item.keys():
            what = f"`items2dict`: an item is no mapping with `{key_name}` and `{value_name}`"
            raise UnusableValueError(what, "name other keys with `key_name=` and `value_name=`")
    return {item[key_name]: item[value_name] for item in pairs}


def flatten(value: Any, levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    """Return the items of a list and of the lists in it, down to ``levels`` more levels."""
    items: list[Any] = []
    for item in _as_list(value, "flatten"):
        if skip_nulls and (item is None or item in _NULL_WORDS):
            continue
        if isinstance(item, list | tuple) and (levels is None or levels >= 1):
            items += flatten(item, None if levels is None else int(levels) - 1, skip_nulls)
        else:
            items.append(item)
        limits.check_result(items)
    return items


def union(value: Any, other: Any) -> list[Any]:
    """Return the different items of both lists, in their order."""
    return _different([*_as_list(value, "union"), *_as_list(other, "union")])


def intersect(value: Any, other: Any) -> list[Any]:
    """Return the different items that are in both lists, in the order of the first."""
    kept = _identities(_as_list(other, "intersect"))
    return [each for each in _different(_as_list(value, "intersect")) if identity(each) in kept]


def difference(value: Any, other: Any) -> list[Any]:
    """Return the different items that are not in the other list."""
    return _without(_different(_as_list(value, "difference")), _as_list(other, "difference"))


def symmetric_difference(value: Any, other: Any) -> list[Any]:
    """Return the different items that are in one of the lists only."""
    return difference(value, other) + difference(other, value)


def zip_lists(value: Any, *others: Any) -> list[list[Any]]:
    """Return lists of the items at the same place in each list, up to the end of the shortest."""
    rows = zip(*(_as_list(each, "zip") for each in (value, *others)), strict=False)
    return [list(row) for row in rows]


def zip_longest_lists(value: Any, *others: Any, fillvalue: Any = None) -> list[list[Any]]:
    """Return lists like ``zip_lists``, up to the end of the longest, with a value for the gaps."""
    lists = [_as_list(each, "zip_longest") for each in (value, *others)]
    limits.check_all([None] * (max(map(len, lists)) * len(lists)))
    return [list(row) for row in zip_longest(*lists, fillvalue=fillvalue)]


def product_of_lists(value: Any, *others: Any, repeat: int = 1) -> list[list[Any]]:
    """Return every combination of one item of each list, those of the last list fastest."""
    lists = [_as_list(each, "product") for each in (value, *others)]
    limits.check_items(len(lists) * int(repeat))
    lists *= max(0, int(repeat))
    rows = 1
    for each in lists:
        rows *= len(each)
        limits.check_items(rows * len(lists))
    return [list(row) for row in product(*lists)]


def subelements(value: Any, path: Any, skip_missing: bool = False) -> list[list[Any]]:
    """Return pairs of each mapping with each item of a list inside it.

    ``path`` is the key of the list, or keys with dots between them, or a list of keys. With
    ``skip_missing``, mappings without it are left out.
    """
    require_defined(value, path)
    keys = path.split(".") if isinstance(path, str) else _as_list(path, "subelements")
    owners = list(value.values()) if isinstance(value, Mapping) else _as_list(value, "subelements")
    pairs: list[list[Any]] = []
    for owner in owners:
        found: Any = owner
        for key in keys:
            if not isinstance(found, Mapping):
                raise UnusableValueError(f"`subelements`: what has `{key}` is not a mapping")
            if key not in found and not skip_missing:
                raise UnusableValueError(
                    f"`subelements`: an item has no `{key}`", "`skip_missing=true` leaves it out"
                )
            if key not in found:
                found = []
                break
            found = found[key]
        if not isinstance(found, list):
            raise UnusableValueError(f"`subelements`: `{'.'.join(map(str, keys))}` is not a list")
        pairs += ([owner, item] for item in found)
        limits.check_result(pairs)
    return pairs


@pass_environment
def extract(environment: Any, key: Any, container: Any, more: Any = None) -> Any:
    """Return the item of a list or mapping, and with ``more`` keys, an item inside it."""
    require_defined(key, container)
    for each in (
        key,
        *(more if isinstance(more, list | tuple) else () if more is None else [more]),
    ):
        container = environment.getitem(container, each)
    return container


def random_item(
    value: Any, start: int | None = None, step: int | None = None, seed: Any = None
) -> Any:
    """Return a random item of a list, or a random whole number below a number.

    ``start`` and ``step`` limit the number. With a ``seed`` it is the same each time.
    """
    require_defined(value, seed)
    source = SystemRandom() if seed is None else Random(seed)
    if isinstance(value, bool) or not isinstance(value, int):
        if start is not None or step is not None:
            raise UnusableValueError("`start` and `step` are for a number, this is a list")
        items = value if isinstance(value, str) else _as_list(value, "random")
        return source.choice(items) if items else Undefined("the list is empty")
    return source.randrange(start or 0, value, step or 1)


def random_seeded(value: Any, seed: Any, start: int | None = None, step: int | None = None) -> Any:
    """Return a random item or number that is the same each time for the same seed."""
    if seed is None:
        raise UnusableValueError("`random_seeded` of no seed", "write `random_seeded(host.name)`")
    return random_item(value, start, step, seed)


def is_subset(value: Any, other: Any) -> bool:
    """Return True if every item is in the other list."""
    return _identities(_as_list(value, "subset")) <= _identities(_as_list(other, "subset"))


def is_superset(value: Any, other: Any) -> bool:
    """Return True if every item of the other list is in the value."""
    return is_subset(other, value)


def contains(value: Any, item: Any) -> bool:
    """Return True if an item is in a list, a key in a mapping, or a text in a text."""
    require_defined(value, item)
    return item in value


def identity(value: Any) -> Any:
    """Return something hashable that is equal for equal values."""
    if isinstance(value, Mapping):
        return (dict, frozenset((key, identity(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (list, tuple(map(identity, value)))
    return value


def _identities(values: Iterable[Any]) -> set[Any]:
    return set(map(identity, values))


def _different(values: Iterable[Any]) -> list[Any]:
    return list({identity(value): value for value in reversed(list(values))}.values())[::-1]


def _without(values: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    left_out = _identities(others)
    return [value for value in values if identity(value) not in left_out]


def _as_list(value: Any, used_by: str) -> list[Any]:
    """Return the items of a list. Raises UnusableValueError for anything else."""
    require_defined(value)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        kind = "a mapping" if isinstance(value, Mapping) else "not a list"
        raise UnusableValueError(f"`{used_by}` requires a list, and this is {kind}")
    return list(value)


def _require_mapping(value: Any, used_by: str) -> None:
    if not isinstance(value, Mapping):
        raise UnusableValueError(f"`{used_by}` requires a mapping, and this is none")


def combinations_of(items: Iterable[Any], size: int) -> list[list[Any]]:
    """Return every choice of ``size`` of the items, in order."""
    found = list(items)
    _check_choices(comb(len(found), size) * size)
    return [list(each) for each in combinations(found, size)]


def permutations_of(items: Iterable[Any], size: int | None = None) -> list[list[Any]]:
    """Return every order of ``size`` of the items, by default of all."""
    found = list(items)
    size = len(found) if size is None else size
    _check_choices(perm(len(found), size) * size)
    return [list(each) for each in permutations(found, size)]


def _check_choices(values: int) -> None:
    """Raise UnusableValueError if lists would have more values than allowed."""
    limits.check_items(min(values, limits.MAX_ITEMS + 1))


def rekey_on_member(items: Any, key: str, duplicates: str = "error") -> dict[Any, Any]:
    """Return the mappings by the value that each has for ``key``.

    ``duplicates``: `error` or `overwrite`, for a value that several have.
    """
    if duplicates not in ("error", "overwrite"):
        raise UnusableValueError(f"`duplicates` is error or overwrite, not '{duplicates}'")
    found: dict[Any, Any] = {}
    for item in items.values() if isinstance(items, Mapping) else items:
        if not isinstance(item, Mapping) or key not in item:
            raise UnusableValueError(f"`rekey_on_member`: an item has no '{key}'")
        if item[key] in found and duplicates == "error":
            raise UnusableValueError(
                f"`rekey_on_member`: several items have the {key} '{item[key]}'",
                "`duplicates='overwrite'` takes the last one",
            )
        found[item[key]] = item
    return found


def type_name(value: Any) -> str:
    """Return the name of the value's type in Python: str, int, float, bool, list, dict, …."""
    require_defined(value)
    if isinstance(value, Mapping):
        return "dict"
    for kind in (bool, int, float, list, tuple):
        if isinstance(value, kind):
            return kind.__name__
    return "NoneType" if value is None else "str"


def all_true(values: Iterable[Any]) -> bool:
    """Return True if every value is true."""
    return all(is_truthy(value) for value in values)


def any_true(values: Iterable[Any]) -> bool:
    """Return True if a value is true."""
    return any(is_truthy(value) for value in values)
