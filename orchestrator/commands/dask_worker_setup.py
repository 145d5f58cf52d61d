"""Prepares the processes of workers; Dask imports it as a preload module."""

from __future__ import annotations

import os
import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a terminal, or a wrapper, stops a process group."""


def dask_setup(_worker: object) -> None:
    """Leave the terminal's process group: a Ctrl-C is for the coordinator, which ends the run.

    Signals were blocked until now; those that came are dropped, because they were for the group.
    """
    os.setpgid(0, 0)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    for number, handler in before.items():
        signal.signal(number, handler)
