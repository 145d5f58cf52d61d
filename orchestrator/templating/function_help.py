"""Descriptions of the filters, tests and functions of templates.

Those without a mark are Jinja's (https://jinja.palletsprojects.com/en/stable/templates/).
"""

from __future__ import annotations

from collections.abc import Mapping

FILTER_HELP: Mapping[str, str] = {
    "abs": "The absolute value of a number",
    "attr": "An attribute by its name: `x | attr('name')`",
    "basename": "The last part of a path (orch)",
    "batch": "The items of a list in lists of a given length",
    "bool": "true for yes, on, true and 1; false for no, off, false, 0, nothing and empty (orch)",
    "capitalize": "The text with its first letter in upper case and the others in lower case",
    "center": "The text centered in a given width",
    "count": "The same as `length`",
    "d": "The same as `default`",
    "default": "Another value if this one is undefined; with a second argument `true`, also if it "
    "is empty or false",
    "dictsort": "The pairs of a mapping, sorted by key",
    "dirname": "A path without its last part (orch)",
    "filesizeformat": "A number of bytes for people, like 13 kB",
    "first": "The first item",
    "float": "The value as a number with decimals",
    "format": "The text with %s and the like replaced: `'%s:%d' | format(host, port)`",
    "groupby": "The items of a list in groups of equal values of an attribute",
    "indent": "The text with its lines indented, except the first",
    "int": "The value as a whole number; 0 for a text that is not a number",
    "items": "The pairs of a mapping",
    "join": "The items of a list as one text, with a text between them",
    "last": "The last item",
    "length": "The number of items or characters",
    "list": "The value as a list",
    "lower": "The text in lower case",
    "map": "A filter, or an attribute, of each item: `hosts | map(attribute='name')`",
    "max": "The largest item",
    "min": "The smallest item",
    "pprint": "The value as Python shows it, to look at it",
    "random": "A random item",
    "raw": "In a command: the value without quotes, for text that the shell is to read (orch)",
    "reject": "The items that a test does not hold for",
    "rejectattr": "The items that a test does not hold for an attribute of",
    "replace": "The text with a part replaced: `x | replace('a', 'b')`",
    "reverse": "The items or characters in reverse order",
    "round": "A number rounded to a given number of decimals",
    "select": "The items that a test holds for",
    "selectattr": "The items that a test holds for an attribute of",
    "slice": "The items of a list in a given number of lists",
    "sort": "The items sorted; `attribute=` names what they are sorted by",
    "string": "The value as text",
    "striptags": "The text without SGML and XML tags",
    "sum": "The sum of numbers, or of an attribute; lists are joined with `start=[]`",
    "title": "The text with each word's first letter in upper case",
    "to_json": "The value as JSON (orch)",
    "tojson": "The same as `to_json` (orch)",
    "trim": "The text without whitespace, or other characters, at both ends",
    "truncate": "The beginning of a text, up to a given length",
    "unique": "The different items; texts are compared without case unless "
    "`case_sensitive=true` is given",
    "upper": "The text in upper case",
    "urlencode": "The text for use in a URL",
    "wordcount": "The number of words",
    "words": "In a command: each word of the text as an argument of its own, quoted (orch)",
    "wordwrap": "The text in lines of a given length",
}

TEST_HELP: Mapping[str, str] = {
    "boolean": "true or false",
    "callable": "A function",
    "changed": "The result of a step that changed something (orch)",
    "defined": "A name that exists",
    "divisibleby": "A number divisible by another",
    "eq": "Equal; also `==` and `equalto`",
    "escaped": "A text that is marked as safe for HTML",
    "even": "An even number",
    "failed": "The result of a step that failed (orch)",
    "false": "The value false",
    "filter": "The name of a filter",
    "float": "A number with decimals",
    "ge": "Greater or equal; also `>=`",
    "gt": "Greater; also `>` and `greaterthan`",
    "in": "An item of a list, or a part of a text",
    "integer": "A whole number",
    "iterable": "Something with items",
    "le": "Less or equal; also `<=`",
    "lower": "A text in lower case",
    "lt": "Less; also `<` and `lessthan`",
    "mapping": "A mapping",
    "ne": "Not equal; also `!=`",
    "none": "No value",
    "number": "A number",
    "odd": "An odd number",
    "sameas": "The same object",
    "sequence": "A list or a text",
    "skipped": "The result of a step that was skipped (orch)",
    "string": "A text",
    "succeeded": "The result of a step that did not fail (orch)",
    "test": "The name of a test",
    "true": "The value true",
    "undefined": "A name that does not exist",
    "upper": "A text in upper case",
}

TEST_ALIASES = frozenset(("!=", "<", "<=", "==", ">", ">=", "equalto", "greaterthan", "lessthan"))
"""Other names of tests, which the descriptions of the tests mention."""

FUNCTION_HELP: Mapping[str, str] = {
    "dict": "A mapping of its arguments: `dict(a=1)`",
    "namespace": "An object whose attributes a loop in a template can set",
    "range": "The whole numbers from 0, or from a given number, up to another, exclusive",
}
