"""Downloads of folders from a host: listed first, compared, and only what differs is sent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.executor.download import DownloadTransfer, changed_error, receive_files
from orchestrator.executor.local_tree import LocalTree
from orchestrator.executor.remote_tree import (
    MAX_LISTING_BYTES,
    RemoteEntry,
    is_inner_link,
    listing_script,
    parse_listing,
    send_all_script,
    send_each_script,
)
from orchestrator.model.byte_size import format_size
from orchestrator.model.command import DownloadSpec
from orchestrator.model.sanitize import quote_output, to_one_line
from orchestrator.model.step_result import StateChange, Status, StepResult
from orchestrator.planner.download_script import PROBE_TIMEOUT, SMALL_BYTES

_SHOWN_NAMES = 3


class _TreeDifference(Struct, frozen=True):
    """An entry of the host that is ``missing`` here, ``different``, or ``of another mode``."""

    entry: RemoteEntry
    kind: str


class TreeDownload:
    """One download of a folder. ``warn`` is told what is left out."""

    def __init__(
        self, transfer: DownloadTransfer, download: DownloadSpec, warn: Callable[[str], None]
    ) -> None:
        """Store what is downloaded and how; nothing is contacted yet."""
        self._transfer, self._download, self._warn = transfer, download, warn

    def run(self, probe_result: StepResult) -> StepResult:
        """Download the folder and return the step's result; in check mode, only compare.

        Raises TransferError and OrchError; files that are complete by then stay.
        """
        download = self._download
        with closing(LocalTree(download.tree_target)) as local:
            is_new = not local.exists
            entries = self._list_entries(only_small=is_new and not download.check_mode)
            differences = [
                _TreeDifference(entry, kind)
                for entry in entries
                if (kind := local.difference(entry))
            ]
            if not differences and not is_new:
                return replace(probe_result, status=Status.OK, changes=())
            if not download.check_mode:
                self._bring(local, differences)
        before = None if is_new else _count_text(differences)
        change = StateChange("files", before, _content_text(entries))
        status = Status.WOULD_CHANGE if download.check_mode else Status.CHANGED
        diff = "".join(_diff_lines(differences)) if self._download.show_diff else ""
        return replace(probe_result, status=status, changes=(change,), diff=diff)

    def _list_entries(self, *, only_small: bool) -> list[RemoteEntry]:
        """Return the entries of the host's folder that can be downloaded.

        Raises OrchError if a file cannot be read.
        """
        listing = bytearray()

        def collect(data: bytes) -> None:
            listing.extend(data)
            if len(listing) > MAX_LISTING_BYTES:
                message = f"{self._download.path} has too many files: their names take more than"
                raise OrchError(Diagnostic(f"{message} {MAX_LISTING_BYTES >> 20} MiB"))

        script = listing_script(self._download.prologue, only_small=only_small)
        # the host is silent while it reads large files
        self._transfer.receive(script, collect, silence=PROBE_TIMEOUT)
        entries = parse_listing(bytes(listing))
        unreadable = [entry for entry in entries if entry.kind == "f" and entry.size < 0]
        if unreadable:
            message = f"{_names(unreadable)} cannot be read; `become: true` reads as root"
            raise OrchError(Diagnostic(message))
        outer_links = [e for e in entries if e.kind == "l" and not is_inner_link(e)]
        others = [entry for entry in entries if entry.kind == "o"]
        if outer_links:
            self._warn(
                f"links that lead out of the folder are not downloaded: {_names(outer_links)}"
            )
        if others:
            self._warn(f"not a file, folder or link, and not downloaded: {_names(others)}")
        left_out = {entry.parts for entry in (*outer_links, *others)}
        return [entry for entry in entries if entry.parts not in left_out]

    def _bring(self, local: LocalTree, differences: Sequence[_TreeDifference]) -> None:
        contents = [
            difference.entry
            for difference in differences
            if difference.entry.kind == "f" and difference.kind != "of another mode"
        ]
        self._transfer.meter.total = sum(entry.size for entry in contents)
        local.check_room(self._transfer.meter.total)
        local.make_folder(())
        for difference in differences:
            if difference.entry.kind == "d":
                local.make_folder(difference.entry.parts)
            elif difference.kind == "of another mode":
                local.set_mode(difference.entry)
        small = [entry for entry in contents if entry.size <= SMALL_BYTES and entry.digest]
        done = self._receive_small(local, small)
        rest = [entry for entry in contents if entry.parts not in done]
        if rest:
            script = send_each_script(self._download.prologue, rest)
            shown = self._download.path.rstrip("/") + "/"
            receive_files(self._transfer, script, local, rest, shown)
        for difference in differences:
            if difference.entry.kind == "l":
                local.make_link(difference.entry)

    def _receive_small(
        self, local: LocalTree, entries: Sequence[RemoteEntry]
    ) -> set[tuple[bytes, ...]]:
        """Receive files until one has changed on the host; return the paths of those before it."""
        reader = _SmallFileReader(local, entries)

        def on_stdout(data: bytes) -> None:
            reader.take(data)
            self._transfer.meter.count(len(data))

        if len(entries) > 1:
            script = send_all_script(self._download.prologue, entries)
            with suppress(_OutOfStepError):
                self._transfer.receive(script, on_stdout)
        return reader.done


class _OutOfStepError(OrchError):
    """The stream of several files does not have the expected content."""


class _SmallFileReader:
    """Reads the contents of these files, which follow one another. ``done`` are those in place."""

    def __init__(self, local: LocalTree, entries: Sequence[RemoteEntry]) -> None:
        self._local, self._entries = local, list(reversed(entries))
        self._data = bytearray()
        self.done: set[tuple[bytes, ...]] = set()

    def take(self, data: bytes) -> None:
        """Handle data from the host.

        Raises _OutOfStepError if a file's checksum is wrong, or for data after the last one, which
        may have grown, or be a host's that never ends.
        """
        if not self._entries:
            raise _OutOfStepError(Diagnostic("more data than expected"))
        self._data += data
        at = 0
        while self._entries and len(self._data) - at >= self._entries[-1].size:
            entry = self._entries.pop()
            content = bytes(memoryview(self._data)[at : at + entry.size])
            at += entry.size
            if hashlib.sha256(content).hexdigest() != entry.digest:
                raise _OutOfStepError(*changed_error(entry.name).diagnostics)
            file = self._local.new_file(entry)
            try:
                file.write(content)
                file.commit()
            finally:
                file.discard()
            self.done.add(entry.parts)
        del self._data[:at]


def _names(entries: Sequence[RemoteEntry]) -> str:
    shown = ", ".join(quote_output(entry.name) for entry in entries[:_SHOWN_NAMES])
    more = len(entries) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _diff_lines(differences: Sequence[_TreeDifference]) -> Iterator[str]:
    yield "--- before\n+++ after\n"
    for difference in differences:
        entry, name = difference.entry, to_one_line(difference.entry.name)
        if difference.kind != "missing":
            yield f"-{name}\n"
        size = f" ({format_size(entry.size)})" if entry.kind == "f" else ""
        yield f"+{name}{'/' if entry.kind == 'd' else size}\n"


def _count_text(differences: Sequence[_TreeDifference]) -> str:
    counts = Counter(difference.kind for difference in differences)
    kinds = ("missing", "different", "of another mode")
    return ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])


def _content_text(entries: Sequence[RemoteEntry]) -> str:
    sizes = [entry.size for entry in entries if entry.kind == "f"]
    return f"{len(sizes)} file{'' if len(sizes) == 1 else 's'}, {format_size(sum(sizes))}"
