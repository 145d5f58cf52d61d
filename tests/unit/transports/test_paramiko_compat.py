"""paramiko has the members that orch uses, and is not imported unless it is needed."""

from __future__ import annotations

import ast
import inspect
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from paramiko import packet, transport
from paramiko.auth_handler import AuthHandler
from paramiko.transport import Transport

ROOT = Path(__file__).parents[3]


def loaded_modules(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(*sorted(k for k, v in sys.modules.items() if v))"
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return set(output.stdout.split())


def test_a_run_without_ssh_hosts_does_not_import_paramiko() -> None:
    found = loaded_modules(
        "from orchestrator.transports import TransportRegistry; TransportRegistry().close()"
    )
    assert not {"paramiko", "cryptography", "orchestrator.transports.ssh.connector"} & found


def test_paramiko_is_imported_in_parts_and_all_of_it_stays_importable() -> None:
    found = loaded_modules("import orchestrator.transports.ssh.connector")
    assert "paramiko.transport" in found
    assert not {"paramiko", "paramiko.client", "invoke"} & found
    loaded_modules("import orchestrator.transports.ssh.connector, invoke; invoke.run")
    loaded_modules(
        "import orchestrator.transports.ssh.connector, paramiko; paramiko.SSHClient.connect"
    )


def test_the_private_side_that_is_relied_on_is_there_in_the_shape_that_is_used() -> None:
    assert missing_members(*relied_on_members()) == [], (
        f"paramiko {version('paramiko')} has another private side"
    )


def test_what_is_missing_or_of_another_shape_is_named() -> None:
    """As if paramiko had changed each of the members."""
    names = ["_cipher_info", "_next_channel", "_parse_newkeys", "_preferred_keys"]
    shapes = {"_cipher_info": "int", "_preferred_keys": "tuple", "_was_there": "dict"}
    calls = {"_next_channel": ["kind"], "_parse_newkeys": ["m"], "_was_called": []}
    assert missing_members(shapes, calls) == [
        "_cipher_info is a dict, not a int",
        "_was_there is gone",
        "_next_channel takes (), not (kind)",
        "_was_called is gone",
    ]
    shapes, calls = relied_on_members()
    assert {*names} <= {*shapes, *calls}


def test_nothing_else_of_the_private_side_is_used_or_covered() -> None:
    """A private name of orch would override one of paramiko's with the same name."""
    shapes, calls = relied_on_members()
    theirs = private_names(inspect.getsource(transport), inspect.getsource(packet))
    assert len(theirs) > 80
    for name in (
        *("ssh/algorithms", "ssh/client", "ssh/host_key_policy", "ssh/paramiko_compat"),
        *("ssh/transport", "sandbox/server"),
    ):
        ours = private_names((ROOT / f"orchestrator/transports/{name}.py").read_text())
        others = (theirs & ours) - {*shapes, *calls}
        if name in ("ssh/host_key_policy", "sandbox/server"):
            others -= {"_lock"}  # of classes that are not a Transport
        assert not others, f"{name}.py: private in paramiko, and not in paramiko_compat.py"


def test_paramiko_calls_what_is_there_in_place_of_its_own() -> None:
    source = inspect.getsource(Transport)
    for name in (
        "self._handler_table[ptype](m)",
        "self._channel_handler_table[ptype](chan, m)",
        "self.auth_handler._handler_table[ptype]",
        "self._channels.put(",
        "self.preferred_keys",
        "chan._unlink()",
    ):
        assert name in source, name
    assert "self.transport.server_object.check_auth_publickey" in inspect.getsource(AuthHandler)
    for name in ("start_handshake", "complete_handshake", "handshake_timed_out"):
        assert callable(getattr(packet.Packetizer, name)), name


def test_the_paramiko_that_is_allowed_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (paramiko,) = [d for d in project["dependencies"] if d.startswith("paramiko")]
    assert "<" in paramiko


def relied_on_members() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the members of PrivateTransport: types of attributes and parameters of methods."""
    tree = ast.parse((ROOT / "orchestrator/transports/ssh/paramiko_compat.py").read_text())
    (spelled,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "PrivateTransport"
    ]
    shapes = {}
    for node in spelled.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            output = ast.unparse(node.annotation).removeprefix("ClassVar[")
            shapes[node.target.id] = output.partition("[")[0]
    calls = {
        node.name: [
            *(each.arg for each in node.args.args[1:]),
            *(["*args"] if node.args.vararg else []),
        ]
        for node in spelled.body
        if isinstance(node, ast.FunctionDef)
    }
    return shapes, calls


def missing_members(shapes: Mapping[str, str], calls: Mapping[str, list[str]]) -> list[str]:
    """Return the members that the installed paramiko lacks or has with another shape."""
    ours, theirs = socket.socketpair()
    with ours, theirs, closing(Transport(ours)) as created:
        found = [
            f"{name} is a {type(getattr(created, name)).__name__}, not a {shape}"
            if hasattr(created, name)
            else f"{name} is gone"
            for name, shape in shapes.items()
            if not hasattr(created, name) or not has_shape(getattr(created, name), shape)
        ]
    for name, parameters in calls.items():
        method = getattr(Transport, name, None)
        takes = parameters_of(method) if callable(method) else None
        if takes is None:
            found.append(f"{name} is gone")
        elif takes != parameters:
            found.append(f"{name} takes ({', '.join(takes)}), not ({', '.join(parameters)})")
    return found


def has_shape(value: object, shape: str) -> bool:
    return shape == "Any" or shape in {each.__name__ for each in type(value).__mro__}


def parameters_of(method: Callable[..., object]) -> list[str]:
    """Return the required parameters without self."""
    rest = [*inspect.signature(method).parameters.values()][1:]
    return [
        f"*{each.name}" if each.kind is each.VAR_POSITIONAL else each.name
        for each in rest
        if each.default is each.empty
    ]


def private_names(*sources: str) -> set[str]:
    """Return the private names that are used or defined."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return {name for name in names if name[:1] == "_" and name[:2] not in ("_", "__")}
