"""Machines under each shell, for what runs on one host."""

from tests.library.conftest import machine

__all__ = ["machine"]
