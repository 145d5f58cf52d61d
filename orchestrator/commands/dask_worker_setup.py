"""Prepares the processes of workers; Dask imports it as a preload module."""

from __future__ import annotations

import os


def dask_setup(_worker: object) -> None:
    """Leave the terminal's process group: a Ctrl-C is for the coordinator, which ends the run."""
    os.setpgid(0, 0)
