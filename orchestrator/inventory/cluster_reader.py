"""Validation of the ``cluster`` mapping of a ``stage.yml``."""

from __future__ import annotations

import ipaddress

from orchestrator.inventory.hostnames import InvalidHostNameError, parse_host_spec
from orchestrator.inventory.inventory_keys import CLUSTER
from orchestrator.model.cluster import CLUSTER_DEFAULTS, ClusterSettings
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.yamlio.schema import SchemaReader

_MAX_PROCESSES = 256
_REGION = lazy_regex(r"[A-Za-z0-9_.-]+")
_FOLDER = lazy_regex(r"(~/)?[^~\n\0][^\n\0]*")


def read_cluster(read: SchemaReader, value: MarkedValue | None) -> ClusterSettings | None:
    """Return the settings; None if the key is missing or has errors, which are reported."""
    if value is None:
        return None
    before = len(read.problems.diagnostics)
    if value.data is None:
        read.report_mismatch(value, "cluster", "a mapping", "it needs `workers`")
        return None
    fields = read.fields(value, "cluster", CLUSTER)
    workers = _read_workers(read, value, fields.get("workers"))
    scheduler = fields.get("scheduler")
    name = read.text(scheduler, "cluster.scheduler")
    defaults = CLUSTER_DEFAULTS

    def number(key: str, most: int) -> int:
        found = read.integer(fields.get(key), f"cluster.{key}", 1, most)
        return int(defaults[key]) if found is None else found

    install = read.boolean(fields.get("install"), "cluster.install")
    settings = ClusterSettings(
        mark=value.mark,
        workers=workers,
        scheduler=MarkedKey(name, scheduler.mark) if name and scheduler else None,
        processes=number("processes", _MAX_PROCESSES),
        threads=number("threads", _MAX_PROCESSES),
        port=number("port", 65535),
        address=_read_address(read, fields.get("address")),
        listen=_read_ip(read, fields.get("listen")),
        python=read.text(fields.get("python"), "cluster.python") or str(defaults["python"]),
        install=install is not False,
        pip_options=_read_options(read, fields.get("pip_options")),
        folder=_read_folder(read, fields.get("folder")),
    )
    return settings if len(read.problems.diagnostics) == before else None


def _read_workers(
    read: SchemaReader, cluster: MarkedValue, value: MarkedValue | None
) -> dict[MarkedKey, tuple[MarkedKey, ...]]:
    found: dict[MarkedKey, tuple[MarkedKey, ...]] = {}
    if value is None:
        message = "cluster needs `workers`"
        read.problems.add(message, cluster.mark, "name the roles or hosts that run workers")
    elif isinstance(value.data, dict):
        for region, names in value.data.items():
            if not _REGION.fullmatch(region):
                message = f"'{region}' cannot be a region of a cluster"
                hint = "use letters, digits, '_', '.' and '-'"
                read.problems.add(message, region.mark, hint)
            found[region] = read.string_list(names, f"cluster.workers.{region}") or ()
    else:
        found[MarkedKey("", value.mark)] = read.string_list(value, "cluster.workers") or ()
    if value is not None and not any(found.values()):
        read.problems.add("cluster.workers is empty", value.mark, "name a role or a host")
    return found


def _read_address(read: SchemaReader, value: MarkedValue | None) -> str:
    text = read.text(value, "cluster.address")
    if value is None or text is None:
        return ""
    try:
        spec = parse_host_spec(text)
    except InvalidHostNameError as bad:
        message = f"cluster.address cannot be '{text}': {bad.why}"
        read.problems.add(message, value.mark, bad.hint)
        return ""
    if spec.user is not None or spec.port is not None or len(spec.names) != 1:
        hint = "the port is `cluster.port`"
        read.report_mismatch(value, "cluster.address", "one name or IP address", hint)
    return spec.names[0]


def _read_ip(read: SchemaReader, value: MarkedValue | None) -> str:
    text = read.text(value, "cluster.listen")
    if value is None or text is None:
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        read.report_mismatch(value, "cluster.listen", "an IP address")
        return ""


def _read_options(read: SchemaReader, value: MarkedValue | None) -> tuple[str, ...]:
    options = read.string_list(value, "cluster.pip_options") or ()
    for option in options:
        if not option.startswith("-"):
            message = f"'{option}' is not an option of pip"
            read.problems.add(message, option.mark, "write `--option=value`, as one text")
    return tuple(str(option) for option in options)


def _read_folder(read: SchemaReader, value: MarkedValue | None) -> str:
    text = read.text(value, "cluster.folder")
    if value is None or text is None:
        return ""
    if not text.startswith(("/", "~/")) or not _FOLDER.fullmatch(text) or "/../" in f"{text}/":
        read.report_mismatch(value, "cluster.folder", "a path that begins with / or ~/")
    return text.rstrip("/")
