"""One step as it is sent to a host: all texts are final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.condition import Condition, ConstantCondition

LineRanges: TypeAlias = "Sequence[tuple[int, int]]"
"""Parts of a tree's manifest: the numbers of the first and the last line of each."""

UNKNOWN_STATE = "not known yet"
"""State reported by a probe that needs the uploaded payload to know the real one."""


class DeltaFile(Struct, frozen=True):
    """A large file of a tree, of which a host has an older version.

    ``path`` is its local path, ``name`` its path below the tree's folder, '' for a tree that is a
    single file. ``size`` is in bytes, ``digest`` is its SHA-256 in hexadecimal digits. ``mode`` are
    the permissions that it is to have, ``mtime`` is when it was modified, in seconds since 1970, or
    negative if it does not matter.
    """

    path: str
    name: bytes
    size: int
    digest: str
    mode: int
    mtime: int


class UploadPayload(Struct, frozen=True):
    """Data that a step uploads to a host because it is too long for the script.

    The data is the contents of ``path``, or ``data`` if ``path`` is None, or what ``read_chunks``
    yields on each call. ``digest`` is its SHA-256 in hexadecimal digits; with ``read_chunks``, any
    digest that identifies the data. ``select`` returns the payload with only these lines of a
    tree's manifest, given by the first and the last of each part. ``split`` does so for the needed
    lines, None for all, and those at which the host has older files: it returns the payload without
    the large ones of these, and the large ones; ``large_lines`` are the lines of all large files.
    """

    size: int
    digest: str
    path: Path | None = None
    data: bytes = b""
    read_chunks: Callable[[], Iterator[bytes]] | None = None
    select: Callable[[LineRanges], UploadPayload] | None = None
    split: (
        Callable[[LineRanges | None, LineRanges], tuple[UploadPayload, list[DeltaFile]]] | None
    ) = None
    large_lines: Sequence[int] = ()

    def __eq__(self, other: object) -> bool:
        """Return True if size, digest, path and data are equal."""
        return isinstance(other, UploadPayload) and self._identity == other._identity

    def __hash__(self) -> int:
        """Return the hash of the fields that are compared."""
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.size, self.digest, self.path, self.data


class DesiredState(Struct, frozen=True):
    """What a module's script compares with the state of the host.

    - ``states``: the desired value by key.
    - ``new_content``: what it writes, as far as a diff can show it.
    - ``payload``: data to upload before the script, unless the host already has it.
    - ``validates``: check mode needs the payload on the host, too.
    - ``may_need_payload``: it does if the probe reports ``UNKNOWN_STATE``.
    - ``probe_payload``: data to upload before the probe can tell whether the host has the payload.
    - ``manifest``: the manifest of a tree (``planner/file_tree.py``), if it is short;
      ``manifest_lines`` is the number of its lines.
    """

    states: Mapping[str, str]
    new_content: bytes | None = None
    payload: UploadPayload | None = None
    validates: bool = False
    probe_payload: UploadPayload | None = None
    manifest: bytes | None = None
    may_need_payload: bool = False
    manifest_lines: int = 0


class DownloadSpec(Struct, frozen=True):
    """A file or folder to download from a host; ``path`` is its path there.

    ``target`` is the absolute local path of a file, ``tree_target`` that of a folder. With
    ``name_in_folder``, the target may be a folder, in which a file gets this name.
    ``prologue`` is shell text that sets the variable ``path``. ``check_mode``: compare only.
    ``show_diff``: the result lists what differs in a folder. ``timeout``: limit in seconds for the
    whole download; None means as long as data arrives.
    """

    path: str
    target: Path
    tree_target: Path
    prologue: str = ""
    check_mode: bool = False
    show_diff: bool = False
    timeout: float | None = None
    name_in_folder: str = ""


class StepEffects(Struct, frozen=True):
    """What check mode knows of a step, to find the earlier step that may have caused a failure.

    ``created_names``: the paths that it may create, change or remove, with everything below them,
    and the names of users and groups; ``may_change_anything``: it may do more than that.
    ``needed_names``: the paths and names that it depends on; ``may_read_anything``: it may read
    anything else. ``waits_for_state``: a normal run would wait for the desired state. Paths are
    absolute, or start with ``~``. ``module`` is the step's module, and ``needed_modules`` are those
    on whose steps it depends. ``observed_names``: the paths and names whose state determines the
    result, which is therefore not known if an earlier step would change one of them.
    """

    created_names: tuple[str, ...] = ()
    may_change_anything: bool = False
    needed_names: tuple[str, ...] = ()
    may_read_anything: bool = False
    waits_for_state: bool = False
    module: str = ""
    needed_modules: tuple[str, ...] = ()
    observed_names: tuple[str, ...] = ()


class WorkingFolder(Struct, frozen=True):
    """A host's working folder, and the one before it, as absolute paths.

    An empty ``path`` is the home folder, as is a path with ``is_home``; an empty ``previous`` means
    that there is none.
    """

    path: str = ""
    previous: str = ""
    is_home: bool = False


class StepCommand(Struct, frozen=True):
    """A step ready to be sent; the host evaluates its conditions in the order of the fields.

    - ``step``: its number, unique and increasing within a task on a host; conditions refer to it.
    - ``text``: the whole script of the child shell (``SHELL -e``), byte for byte.
    - ``timeout``: seconds from the start marker, guard included; None means no limit.
    - ``stdin``: its standard input, with a final newline added if missing; None is /dev/null.
    - ``guard``: shell script that runs first; status 1 skips the step, any other status but 0 fails
      it.
    - ``when``: the step is skipped if it is false.
    - ``failed_condition``: whether it failed; None means an exit status other than 0. A timeout or
      a lost session is always a failure.
    - ``changed_condition``: whether it changed something, if it did not fail; None means that a
      module's script reports it.
    - ``ignore_failure``: the later steps run even if it fails.
    - ``desired_state``: what a module compares, or None for other steps.
    - ``check_mode``: a module only reports differences; the text of any other step that may change
      something is not sent.
    - ``effects``: what check mode knows of it; None in a normal run.
    - ``unknown_if``: if it fails in check mode and this is true, the result of a normal run is
      unknown.
    - ``show_diff``: the script reports the contents that it is about to replace.
    - ``payload_path``: the path of the uploaded payload on the host, or ''.
    - ``spawns_no_daemon``: it leaves no process behind.
    - ``download``: what it examines and the controller then reads, or None.
    - ``folder``: the text is a command line that starts in this folder, and the folder in which it
      ends is reported; None for other steps.
    """

    step: int
    text: str
    shell: str = "sh"
    timeout: float | None = None
    stdin: str | None = None
    guard: str = ""
    when: Condition = ConstantCondition(True)
    failed_condition: Condition | None = None
    changed_condition: Condition | None = ConstantCondition(True)
    ignore_failure: bool = False
    desired_state: DesiredState | None = None
    check_mode: bool = False
    effects: StepEffects | None = None
    unknown_if: Condition = ConstantCondition(False)
    show_diff: bool = False
    payload_path: str = ""
    spawns_no_daemon: bool = False
    download: DownloadSpec | None = None
    folder: WorkingFolder | None = None
