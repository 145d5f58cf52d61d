"""The part of a download step after its probe: what differs is read and put into local files.

A worker leaves it to the coordinator, whose files are meant.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError, OrchError
from orchestrator.executor.check_mode import error_text
from orchestrator.executor.connection_pool import EmitFunction
from orchestrator.executor.download import (
    DownloadDeadline,
    DownloadTransfer,
    compare_download,
    download_file,
    is_folder,
)
from orchestrator.executor.transfer_meter import TransferMeter
from orchestrator.executor.tree_download import TreeDownload
from orchestrator.model.command import DownloadSpec
from orchestrator.model.event import TransferProgress, Warned
from orchestrator.model.step_result import Status, StepResult
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.transfer import TransferError, TransferFailure
from orchestrator.yamlio.local_files import is_directory, path_exists


class DownloadJob(Struct, frozen=True):
    """What is downloaded from where.

    The channel is one of ``host`` for ``user``, next to the sessions that belong to
    ``session_owner``. ``endpoint`` is the host's for messages. ``progress`` is the event that is
    emitted with the numbers of the transfer. ``spent`` is how many seconds the step has taken.
    ``task`` identifies the limits of the task in all processes; None in a rollback, which an
    interrupt does not end.
    """

    host: str
    session_owner: str | None
    user: str
    endpoint: str
    download: DownloadSpec
    probe_result: StepResult
    progress: TransferProgress
    spent: float
    for_rollback: bool = False
    task: tuple[int, int | str] | None = None


class DownloadMeans(Struct, frozen=True):
    """How a job reads from its host; the fields are as in ``DownloadTransfer``."""

    open_channel: Callable[[], tuple[Channel, float]]
    is_stopped: Callable[[], bool]
    emit: EmitFunction


class Downloads(Protocol):
    """Writes what steps download."""

    def is_new(self, download: DownloadSpec) -> bool:
        """Return True if there is nothing yet at the target of a file."""

    def run(self, job: DownloadJob, means: DownloadMeans) -> StepResult:
        """Download what differs, and return the step's result."""


class LocalDownloads:
    """Writes downloads to files of this process."""

    def is_new(self, download: DownloadSpec) -> bool:
        """Implement ``Downloads.is_new``."""
        return not path_exists(settle_target(download).target)

    def run(self, job: DownloadJob, means: DownloadMeans) -> StepResult:
        """Implement ``Downloads.run``."""
        download = settle_target(job.download)
        deadline = DownloadDeadline(download.timeout, means.is_stopped, job.spent)

        def report(done: int, total: int, seconds: float) -> None:
            means.emit(
                replace(job.progress, time=time.time(), done=done, total=total, seconds=seconds)
            )

        def warn(text: str) -> None:
            host, app = job.progress.host, job.progress.app
            means.emit(Warned(time.time(), f"{f'{host} ({app})' if app else host}: {text}"))

        meter = TransferMeter(report)
        transfer = DownloadTransfer(means.open_channel, deadline, meter)
        try:
            if is_folder(job.probe_result):
                return TreeDownload(transfer, download, warn).run(job.probe_result)
            outcome, remote_file = compare_download(job.probe_result, download)
            if remote_file is not None:
                download_file(transfer, download, remote_file)
            return outcome
        except OrchError as error:
            return deadline.outcome or transfer_failed_result(
                error, job.endpoint, "the download failed"
            )
        finally:
            meter.finish()


def settle_target(download: DownloadSpec) -> DownloadSpec:
    """Return the download with the target of a file: in a folder that exists, it keeps its name."""
    if download.name_in_folder and is_directory(download.target):
        target = download.target / download.name_in_folder
        return replace(download, target=target, name_in_folder="")
    return download


def transfer_failed_result(
    error: OrchError, endpoint: str, summary: str = "the upload failed"
) -> StepResult:
    """Return the result of a step whose transfer failed; ``endpoint`` prefixes the message."""
    status = Status.FAILED
    if isinstance(error, ConnectError) and error.phase != "become":
        status = Status.LOST
    if isinstance(error, TransferError):
        status_by_failure = {
            TransferFailure.CUT: Status.LOST,
            TransferFailure.STOPPED: Status.CANCELLED,
        }
        status = status_by_failure.get(error.failure, status)
    prefix = f"{endpoint}: " if endpoint and isinstance(error, TransferError) else ""
    return StepResult(status, reason=f"{summary}: {prefix}{error_text(error)}")
