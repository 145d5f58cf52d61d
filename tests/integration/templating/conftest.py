from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.templating import multibyte_locales


@pytest.fixture(scope="session")
def locpath(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for LOCPATH with the locales of ``MULTI_BYTE``, named ``x.NAME``."""
    return multibyte_locales.make_locales(tmp_path_factory.mktemp("locales"))
