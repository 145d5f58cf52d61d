"""A wheel of the running orch, for hosts that run the same code.

It is made from the installed files, because orch may run from a checkout.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from msgspec import Struct

import orchestrator
from orchestrator.errors import Diagnostic, UsageError

_PACKAGE = Path(orchestrator.__file__).parent
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_DIGEST_CHARS = 12
_ENGINE = "distributed"


class Wheel(Struct, frozen=True):
    """A wheel's file name and bytes, which are the same for the same code."""

    name: str
    data: bytes


def build_wheel() -> Wheel:
    """Return a wheel of the running orch.

    Its version ends with a digest of the code, so that pip replaces another wheel of the same
    version.
    """
    files = dict(_package_files())
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    version = f"{orchestrator.__version__}+{digest.hexdigest()[:_DIGEST_CHARS]}"
    info = f"orch-{version}.dist-info"
    files |= {
        f"{info}/METADATA": _metadata(version).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: orch\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\norch = orchestrator.cli.main:main\n",
    }
    record = [f"{name},sha256={_record_digest(data)},{len(data)}" for name, data in files.items()]
    record.append(f"{info}/RECORD,,")
    files[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _FIXED_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return Wheel(f"orch-{version}-py3-none-any.whl", buffer.getvalue())


def pinned_requirements() -> tuple[str, ...]:
    """Return what orch and its engine need, in the versions that are installed here.

    Raises UsageError if the engine is not installed.
    """
    found: dict[str, str] = {}
    pending = [*_requirements_of("orch"), _ENGINE]
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = f"{name}=={distribution(name).version}"
        except PackageNotFoundError:
            continue  # for another platform or Python
        pending += _requirements_of(name)
    if _ENGINE not in found:
        raise UsageError(Diagnostic(f"the package `{_ENGINE}` is not installed here"))
    return tuple(sorted(found.values()))


def _requirements_of(name: str) -> list[str]:
    """Return the names of what a package requires without its extras."""
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    needed = (line for line in lines if "extra ==" not in line)
    return [match[1] for line in needed if (match := _NAME.match(line))]


def _metadata(version: str) -> str:
    try:
        lines = [line for line in distribution("orch").requires or [] if "extra ==" not in line]
    except PackageNotFoundError:
        lines = []
    required = "".join(f"Requires-Dist: {line}\n" for line in lines)
    return f"Metadata-Version: 2.1\nName: orch\nVersion: {version}\n{required}"


def _package_files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(_PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path.relative_to(_PACKAGE.parent).as_posix(), path.read_bytes()


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
