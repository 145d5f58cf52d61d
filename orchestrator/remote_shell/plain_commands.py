"""What can be told of a command from its text: whether it leaves a process behind, and its words.

Only texts of simple commands are understood, with words that the shell does not expand but for
patterns and ``~``. Of any other text the answer is no.
"""

from __future__ import annotations

import re

from orchestrator.model.lazy_regex import lazy_regex

_UTILITIES = frozenset(
    "[ basename cat chgrp chmod chown cksum cmp comm cp cut date df diff dirname du echo egrep "
    "exit expr false fgrep fold grep head hostname id ln ls md5sum mkdir mktemp mv nl nproc paste "
    "printf pwd readlink realpath rm rmdir seq sha256sum sleep sort stat tail tee test touch tr "
    "true uname uniq wc whoami".split()
)
"""Commands that have ended, with all that they start, when the shell goes on."""

_RESERVED = frozenset(
    "case coproc do done elif else esac fi for function if in select then time until while".split()
)

_TOKEN = lazy_regex(
    r"(?P<gap>[ \t]+)"
    r"|(?P<next>\|\||&&|[|;\n])"
    r"|(?P<copy>[0-9]?>&[0-9](?![A-Za-z0-9_./-]))"
    r"|(?P<redirect>[0-9]?(?:>>?|<(?![<(&>])))"
    r"""|(?P<word>(?:[A-Za-z0-9_./:=@%+,~^*?\[\]-]|'[^']*'|"[^"$`\\]*")+)"""
)
_SIMPLE_WORD = lazy_regex(r"""(?:[A-Za-z0-9_./:@%+,=-]|'[A-Za-z0-9_./:@%+,=-]*')+""")
_QUOTES = lazy_regex("['\"]")
_NAME = lazy_regex(r"[A-Za-z0-9_./+-]+")
_XARGS = lazy_regex(r"xargs(?: -[0r]+| -[nLP] ?[0-9]+)* ([^ ]+)(?: |\Z)")


def leaves_no_process(text: str) -> bool:
    """Return True if the text consists of simple commands known to leave no process behind."""
    words: list[str] = []
    position, takes_file, may_end = 0, False, True
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return False
        position = token.end()
        if token.lastgroup == "word":
            if not takes_file:
                words.append(token[0])
            takes_file = False
        elif token.lastgroup == "redirect":
            if takes_file:
                return False
            takes_file = True
        elif token.lastgroup == "next":
            if takes_file or not (_is_known(words) if words else token[0] == "\n"):
                return False
            may_end = token[0] in ";\n" and (may_end or bool(words))
            words = []
    return not takes_file and (_is_known(words) if words else may_end)


def _is_known(words: list[str]) -> bool:
    if words[0] == "xargs":
        command = _XARGS.match(" ".join(words))
        words = [] if command is None else [command[1], *words]
    if "sort" in words[:1]:
        # --compress-program, also in quotes
        return not any(_QUOTES.sub("", word).startswith("--c") for word in words)
    return bool(words) and words[0] in _UTILITIES


def single_command(text: str) -> str | None:
    """Return the text as a simple command without quotes, or None if it is anything else.

    None of its words is expanded, and it cannot be part of another construct.
    """
    words = re.split("[ \t]+", text.strip(" \t\n"))
    if not all(_SIMPLE_WORD.fullmatch(word) for word in words):
        return None
    name = words[0]
    if not _NAME.fullmatch(name) or name in _RESERVED or name.isdigit():
        return None
    return " ".join(word.replace("'", "") or "''" for word in words)
