"""Filters and tests under Ansible's names, beside those of Jinja."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.templating.filters import (
    containers,
    formats,
    ip_addresses,
    password_hashes,
    path_texts,
    project_paths,
    sizes,
    texts,
    version_tests,
)

ANSIBLE_FILTERS: Mapping[str, Callable[..., Any]] = {
    "b64decode": texts.b64decode,
    "b64encode": texts.b64encode,
    "checksum": texts.checksum,
    "combinations": containers.combinations_of,
    "combine": containers.combine,
    "comment": texts.comment,
    "commonpath": path_texts.commonpath,
    "dict2items": containers.dict2items,
    "difference": containers.difference,
    "expanduser": project_paths.expanduser,
    "extract": containers.extract,
    "flatten": containers.flatten,
    "from_json": formats.from_json,
    "from_yaml": formats.from_yaml,
    "from_yaml_all": formats.from_yaml_all,
    "hash": texts.hash_text,
    "human_readable": sizes.human_readable,
    "human_to_bytes": sizes.human_to_bytes,
    "intersect": containers.intersect,
    "ipaddr": ip_addresses.ipaddr,
    "ipv4": ip_addresses.ipv4,
    "ipv6": ip_addresses.ipv6,
    "ipwrap": ip_addresses.ipwrap,
    "items2dict": containers.items2dict,
    "json_query": formats.json_query,
    "mandatory": containers.mandatory,
    "md5": texts.md5,
    "normpath": path_texts.normpath,
    "password_hash": password_hashes.password_hash,
    "path_join": path_texts.path_join,
    "permutations": containers.permutations_of,
    "product": containers.product_of_lists,
    "quote": texts.quote,
    "random": containers.random_item,
    "random_seeded": containers.random_seeded,
    "realpath": project_paths.realpath,
    "regex_escape": texts.regex_escape,
    "regex_findall": texts.regex_findall,
    "regex_replace": texts.regex_replace,
    "regex_search": texts.regex_search,
    "rekey_on_member": containers.rekey_on_member,
    "relpath": path_texts.relpath,
    "sha1": texts.checksum,
    "split": texts.split,
    "splitext": texts.splitext,
    "strftime": texts.strftime,
    "subelements": containers.subelements,
    "symmetric_difference": containers.symmetric_difference,
    "ternary": containers.ternary,
    "to_json": formats.to_json,
    "to_nice_json": formats.to_nice_json,
    "to_nice_yaml": formats.to_nice_yaml,
    "to_uuid": texts.to_uuid,
    "to_yaml": formats.to_yaml,
    "type_debug": containers.type_name,
    "union": containers.union,
    "urldecode": texts.urldecode,
    "urlsplit": texts.split_url,
    "zip": containers.zip_lists,
    "zip_longest": containers.zip_longest_lists,
}

ANSIBLE_TESTS: Mapping[str, Callable[..., bool]] = {
    "abs": path_texts.is_absolute,
    "all": containers.all_true,
    "any": containers.any_true,
    "contains": containers.contains,
    "directory": project_paths.is_directory,
    "exists": project_paths.exists,
    "falsy": containers.is_falsy,
    "file": project_paths.is_file,
    "match": texts.matches,
    "regex": texts.is_regex,
    "search": texts.searches,
    "subset": containers.is_subset,
    "superset": containers.is_superset,
    "truthy": containers.is_truthy,
    "version": version_tests.is_version,
    "version_compare": version_tests.is_version,
}

PATTERN_USERS = frozenset(
    ("regex_findall", "regex_replace", "regex_search", "match", "regex", "search")
)
"""Filters and tests whose first argument is a regular expression."""

PATH_USERS = frozenset(("realpath", "expanduser", "directory", "exists", "file"))
"""Filters and tests whose value is a path on this machine."""

PATH_FUNCTIONS = frozenset(("read", "lines", "first_found", "fileglob", "render"))
"""Functions whose argument is a path of the project."""

HOST_TEXT_HINTS: Mapping[str, str] = {
    **dict.fromkeys(
        PATTERN_USERS,
        "a regular expression is the project's own; a text from a host needs `| regex_escape`",
    ),
    **dict.fromkeys(
        PATH_USERS | PATH_FUNCTIONS, "it is a path on this machine, which no host may select"
    ),
}
"""What to write instead, for filters and tests that refuse text from a host in an argument."""
