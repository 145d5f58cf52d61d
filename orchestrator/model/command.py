"""One step as a host receives it: all text is final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.model.condition import Condition, ConstantCondition

UNKNOWN_STATE = "not known yet"
"""What a probe states of what it can tell only with the bytes that are sent beside its text."""


class UploadPayload(Struct, frozen=True):
    """What a step brings to a host, and is too long for its text: the contents of ``path`` or,
    where that is None, ``data``; or what ``read_chunks`` makes, anew for each who asks. ``digest`` is
    its SHA-256 in hexadecimal digits; of what is made, one that tells it from others."""

    size: int
    digest: str
    path: Path | None = None
    data: bytes = b""
    read_chunks: Callable[[], Iterator[bytes]] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UploadPayload) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.size, self.digest, self.path, self.data


class DesiredState(Struct, frozen=True):
    """What a module's script compares with what is on the host. ``states``: by key, what is
    wanted; ``new_content``: what it writes, as far as a diff can show that; ``payload``: what has to be
    sent beside the text, if the host does not have it already; ``validates``: a check, too, needs it
    there; ``may_need_payload``: it does where the probe states ``UNKNOWN_STATE``; ``probe_payload``: what has to be sent
    there, before it can be asked whether the host has it. ``manifest``: what a tree consists of
    (plan/trees.py), where that is short; ``manifest_lines``: how many lines that is."""

    states: Mapping[str, str]
    new_content: bytes | None = None
    payload: UploadPayload | None = None
    validates: bool = False
    probe_payload: UploadPayload | None = None
    manifest: bytes | None = None
    may_need_payload: bool = False
    manifest_lines: int = 0


class DownloadSpec(Struct, frozen=True):
    """A file that is brought from a host to this side: ``path`` there, ``target`` here, absolute.
    ``script`` writes its first ``$size`` bytes to stdout. ``check_mode``: it is compared and stays.
    ``timeout``: seconds for all of it, None: as long as bytes come."""

    path: str
    target: Path
    script: str = ""
    check_mode: bool = False
    timeout: float | None = None


class StepEffects(Struct, frozen=True):
    """What a check knows of a step: which steps before it can be why it fails there.

    ``created_names``: the paths that it may make, change or remove, with all below them, and the names of
    users and groups; ``may_change_anything``: it may do more than that. ``needed_names``: the paths and the names
    that it is about; ``may_read_anything``: it may look at anything else. ``waits_for_state``: a run would wait for what
    is not so yet. Paths are absolute, or begin with ``~``.
    """

    created_names: tuple[str, ...] = ()
    may_change_anything: bool = False
    needed_names: tuple[str, ...] = ()
    may_read_anything: bool = False
    waits_for_state: bool = False


class StepCommand(Struct, frozen=True):
    """A step ready to be sent. Conditions are judged on the host, in the order of the fields.

    ``step``: its number, unique and rising in a task on a host; conditions name steps by it.
    ``when``: where it does not hold, the step is skipped.
    ``guard``: shell text run before; where it exits with 1 the step is skipped, where with
    anything else but 0 it fails.
    ``text``: the whole script of the child shell (``SHELL -e``), byte for byte.
    ``stdin``: its standard input, given a final newline if it has none; None is /dev/null.
    ``timeout``: seconds from the start marker, guard included.
    ``failed_condition``: whether it failed; None: where the exit status is not 0. Death by timeout or
    by the session's end is always a failure.
    ``changed_condition``: whether it changed something, where it did not fail; None: as its script, a
    module's, reports.
    ``ignore_failure``: whether the steps after it run though it failed.
    ``desired_state``: what it compares, if it is a module.
    ``check_mode``: it only asks: what a module finds different it leaves so, and the text of
    anything else that may change something is not sent at all.
    ``effects``: what a check knows of it, None in any other run.
    ``unknown_if``: where it fails in a check and this holds, how a run would end is not known.
    ``show_diff``: the script reports the contents that it is about to replace.
    ``payload_path``: the path on the host of what was sent beside the text.
    ``spawns_no_daemon``: it leaves no process behind.
    ``download``: the file whose contents it tells, and which this side then reads.
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
