"""The settings of a cluster of workers on hosts of a stage, as the inventory has them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedKey


class ClusterSettings(Struct, frozen=True):
    """Where the scheduler and the workers of a cluster run, and how.

    ``workers`` are roles and hosts by the name of their region, '' for those without one.
    ``scheduler`` is a host, None for the first worker. Each host of ``workers`` has so many
    ``processes``, each of which takes part in as many runs as it has ``threads``. ``address``
    is the one at which the scheduler is reached, '' for that of its host; it accepts connections at
    ``listen``, '' for all addresses. ``python`` is the command of the hosts' Python; with
    ``install``, it makes an environment into which pip installs with ``pip_options``. ``folder`` is
    a folder of the hosts, '' for the default.
    """

    mark: SourcePosition
    workers: Mapping[MarkedKey, tuple[MarkedKey, ...]]
    scheduler: MarkedKey | None = None
    processes: int = 1
    threads: int = 8
    port: int = 8786
    address: str = ""
    listen: str = ""
    python: str = "python3"
    install: bool = True
    pip_options: tuple[str, ...] = ()
    folder: str = ""


CLUSTER_DEFAULTS = dict(
    zip(
        ClusterSettings.__struct_fields__[2:],
        ClusterSettings.__struct_defaults__,
        strict=True,
    )
)
