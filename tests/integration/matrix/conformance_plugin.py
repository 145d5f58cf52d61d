"""A pytest plugin that runs tests/integration/conformance on hosts of a private machine.

conformance_run.py starts `pytest -p tests.integration.matrix.conformance_plugin --cases FILE
tests/integration/conformance` in that machine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.host import Host
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports import TransportRegistry
from tests.integration.matrix.host_exceptions import EXCEPTIONS
from tests.integration.matrix.matrix_ground import OneAnswerUser


class MatrixConformanceHosts:
    """The hosts in a file of conformance_run.py, for tests/integration/conformance/conftest.py."""

    def __init__(self, file: Path) -> None:
        description: dict[str, Any] = json.loads(file.read_text())
        self.rounds = [(name, transport) for name, transport in description["cases"]]
        self._stages = {
            transport: load_stage(Path(description["project"]), transport).hosts
            for transport in {transport for _, transport in self.rounds}
        }
        self._environ: dict[str, str] = description["environ"]
        self._answer: str = description["answer"]

    @contextmanager
    def connection(self, case: tuple[str, str], folder: Path) -> Iterator[Connection]:
        """Connect to the host of a case."""
        name, transport = case
        hosts: Mapping[str, Host] = self._stages[transport]
        with closing(
            TransportRegistry(
                home=folder,
                environ={"PATH": "/usr/bin:/bin", **self._environ},
                hosts=hosts,
                prompt_user=OneAnswerUser(self._answer),
                ssh_config="/dev/null",
            )
        ) as connector:
            yield connector.connect(hosts[name])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=Path, required=True, help="a file that whole.py wrote")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(MatrixConformanceHosts(config.getoption("--cases")), "elsewhere")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder that every account can use."""
    with tempfile.TemporaryDirectory(dir="/srv") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the replacement in host_exceptions.py for a test that cannot pass on a host."""
    case: tuple[str, str] = pyfuncitem.callspec.params["connection"]
    pyfuncitem.user_properties.append(("case", "-".join(case)))
    instead = EXCEPTIONS.get(case[0], {}).get(pyfuncitem.originalname)
    if instead is None:
        return None
    pyfuncitem.user_properties.append(("instead", instead.__name__))
    instead(pyfuncitem.funcargs["connection"])
    return True
