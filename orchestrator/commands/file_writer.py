"""Creates files of the project without overwriting any, and replaces files atomically."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator.errors import Diagnostic, SourcePosition, UsageError
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.naming_rules import YAML_SUFFIXES, yaml_stem


def find_existing(path: Path) -> Path | None:
    """Return the file that has this name, or None; ``x.yml`` and ``x.yaml`` are the same name."""
    stem = yaml_stem(path.name)
    names = [path.name] if stem is None else [f"{stem}{suffix}" for suffix in YAML_SUFFIXES]
    return next(
        (path.with_name(name) for name in names if os.path.lexists(path.with_name(name))), None
    )


def create_file(path: Path, data: bytes) -> bool:
    """Create a file and the folders above it; return False if the file exists.

    A file that cannot be written completely is removed. Raises UsageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        shown = display_path(path.parent)
        message = f"cannot create {display_path(path)}: {shown} is not a folder"
        raise UsageError(Diagnostic(message, SourcePosition(shown))) from None
    except OSError as error:
        raise _write_error("create", path.parent, error) from None
    try:
        with path.open("xb") as file:
            try:
                file.write(data)
                file.flush()
            except OSError:
                path.unlink()
                raise
    except FileExistsError:
        return False
    except OSError as error:
        raise _write_error("create", path, error) from None
    return True


def replace_file(path: Path, data: bytes) -> None:
    """Replace the contents of a file atomically; its mode is kept, and so is a link to it.

    Raises UsageError.
    """
    import tempfile

    try:
        target = path.resolve(strict=True)
        mode = stat.S_IMODE(target.stat().st_mode)
        handle, name = tempfile.mkstemp(prefix=".orch-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _write_error("change", path, error) from None


def _write_error(verb: str, path: Path, error: OSError) -> UsageError:
    reason = (error.strerror or str(error)).lower()
    shown = display_path(path)
    message = f"cannot {verb} {shown}: {reason}"
    return UsageError(Diagnostic(message, SourcePosition(shown)))
