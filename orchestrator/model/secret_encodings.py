"""The encodings in which programs may print a secret; each must be masked."""

from __future__ import annotations

import base64
import json
import re
import textwrap
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import sanitize_output, show_controls, to_one_line
from orchestrator.model.shell_quoting import escape_in_single_quotes
from orchestrator.model.text_encoding import encode_lossy, escape_bytes

_HEX = lazy_regex(r"%[0-9A-F]{2}")
_BASE64_WIDTHS = (76, 64)
"""Line lengths of base64: RFC 2045 6.8 (and GNU base64), RFC 7468 2 (openssl)."""


def encoded_forms(text: str, min_chars: int) -> frozenset[str]:
    """Return the text in all encodings that must be masked.

    These are: the text itself, base64 (RFC 4648) at any offset in a longer text, quoted for a shell
    (POSIX.1-2017 XCU 2.2), percent-encoded (RFC 3986 2.1), in JSON, in Python, and as orch displays
    it. Encodings shorter than ``min_chars`` are left out.
    """
    found = {*_base64_forms(encode_lossy(text)), *_text_forms(text), *_text_forms(text.strip())}
    return frozenset(form for form in found if len(form.strip()) >= min_chars)


def _text_forms(text: str) -> Iterator[str]:
    yield text
    yield from (shown(text) for shown in (sanitize_output, show_controls, to_one_line))
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield escape_in_single_quotes(text).strip("'")
    yield re.sub(r'[$`"\\]', r"\\\g<0>", text)
    yield re.sub(r"[$`\\]", r"\\\g<0>", text)
    yield re.sub(r"([^\x00-\x7f])?([$`\\])", _heredoc_escape, text)
    yield re.sub(r"[^\w@%+=:,./-]", r"\\\g<0>", text)
    yield text.replace("%", "%25").replace("\n", "%0A")  # as in a module's states
    yield escape_bytes(text)
    data = encode_lossy(text)
    for percent in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield percent
        yield _HEX.sub(lambda match: match[0].lower(), percent)


def _heredoc_escape(match: re.Match[str]) -> str:
    """Escape as a template does in a here-document, see ``templating/shell/escape.py``."""
    return f"{match[1]}${{0+}}\\{match[2]}" if match[1] else f"\\{match[2]}"


def _base64_forms(data: bytes) -> Iterator[str]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        for width in _BASE64_WIDTHS:
            yield from textwrap.wrap(whole, width)
        for before in range(3):  # bytes: 3 of them are 4 characters of 6 bits each
            text = encode(bytes(before) + data).decode()
            sure = (before + len(data)) * 8 // 6
            yield text[-(-before * 8 // 6) : sure]
