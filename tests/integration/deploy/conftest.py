"""Machines under each shell, for what runs on one host."""

from tests.integration.modules.conftest import machine, private

__all__ = ["machine", "private"]
