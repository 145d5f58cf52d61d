"""Doing the same for many hosts at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


def each(pool: ThreadPoolExecutor, do: Callable[[T], object], items: Iterable[T]) -> None:
    """Do it for every item, many at a time; what one of them raises is raised after all."""
    futures = [pool.submit(do, item) for item in items]
    wait(futures)
    for future in futures:
        future.result()
