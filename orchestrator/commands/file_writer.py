"""Creates files of the project without overwriting any, and replaces files atomically."""

from __future__ import annotations

import errno
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

    Raises UsageError, also for what is not a regular file.
    """
    import tempfile

    try:
        target = path.resolve(strict=True)
        about = target.stat()
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        mode = stat.S_IMODE(about.st_mode)
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


def write_output(path: Path, data: bytes) -> None:
    """Create or replace a file; what is not a regular one, like /dev/null, is written to.

    Raises UsageError.
    """
    try:
        is_special = path.exists() and not path.is_file() and not path.is_dir()
        if is_special:
            path.write_bytes(data)
            return
    except OSError as error:
        raise _write_error("write", path, error) from None
    if path.exists() or not create_file(path, data):
        replace_file(path, data)


def _write_error(verb: str, path: Path, error: OSError) -> UsageError:
    reason = (error.strerror or str(error)).lower()
    shown = display_path(path)
    message = f"cannot {verb} {shown}: {reason}"
    return UsageError(Diagnostic(message, SourcePosition(shown)))
