"""Channels that one process uses and another one provides, with real shells behind them."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator

import pytest

from orchestrator.errors import ConnectError
from orchestrator.executor.relayed_channels import (
    ChannelInput,
    ChannelMessage,
    ChannelOutput,
    ChannelRelay,
    ChannelRequest,
)
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.transfer import (
    TransferError,
    TransferFailure,
    receive,
    send,
    upload_stage_script,
)
from orchestrator.transports.local import LocalConnection
from tests.sshd import wait_until

WINDOW = 4 << 20


class Wire:
    """Two processes' relays, whose messages take as long as the receiver lets them."""

    def __init__(self) -> None:
        self.connection = LocalConnection()
        self.user = ChannelRelay(0, self.to_provider, self.open_channel)
        self.provider = ChannelRelay(1, self.to_user, self.open_channel)
        self.opened: list[Channel] = []
        self.on_their_way = {"in": 0, "out": 0}
        self.most = {"in": 0, "out": 0}
        self._messages: queue.SimpleQueue[tuple[ChannelRelay, ChannelMessage] | None]
        self._messages = queue.SimpleQueue()
        threading.Thread(target=self._pass_on, daemon=True).start()

    def open_channel(self, request: ChannelRequest) -> tuple[Channel, str]:
        if request.host != "here":
            raise ConnectError("connect", f"no way to {request.host}", "try another")
        self.opened.append(self.connection.open())
        return self.opened[-1], "me@here"

    def to_provider(self, message: ChannelMessage) -> None:
        if isinstance(message, ChannelInput):
            self._count("in", len(message.data))
            self._count("out", -message.room)
        self._messages.put((self.provider, message))

    def to_user(self, message: ChannelMessage) -> None:
        if isinstance(message, ChannelOutput):
            self._count("out", len(message.chunk.stdout) + len(message.chunk.stderr))
            self._count("in", -message.room)
        self._messages.put((self.user, message))

    def _count(self, direction: str, size: int) -> None:
        self.on_their_way[direction] += size
        self.most[direction] = max(self.most[direction], self.on_their_way[direction])

    def _pass_on(self) -> None:
        while (each := self._messages.get()) is not None:
            each[0].receive(each[1])

    def close(self) -> None:
        self._messages.put(None)
        self.connection.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def never() -> bool:
    return False


def test_bytes_arrive_whole_in_both_directions_and_few_are_on_their_way(
    wire: Wire, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    data = bytes(range(256)) * 60_000
    pieces = (data[at : at + (1 << 16)] for at in range(0, len(data), 1 << 16))
    script = upload_stage_script(str(folder / "up"), len(data))
    send(wire.user.open("here"), script, pieces, timeout=20, stopping=never)
    assert (folder / "up").read_bytes() == data
    digest, channel = hashlib.sha256(), wire.user.open("here")
    assert channel.endpoint == "me@here"
    receive(channel, f"cat {folder}/up", digest.update, timeout=20, stopping=never)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert wire.most["in"] <= WINDOW
    assert wire.most["out"] <= WINDOW + (1 << 17)


def test_a_shell_that_ends_badly_and_one_that_is_refused_are_reported(wire: Wire) -> None:
    with pytest.raises(TransferError, match="exit status 3") as failed:
        send(wire.user.open("here"), "exit 3", (), timeout=20, stopping=never)
    assert failed.value.failure is TransferFailure.EXIT
    with pytest.raises(ConnectError, match="connect: no way to mars") as refused:
        wire.user.open("mars")
    assert (refused.value.phase, refused.value.hint) == ("connect", "try another")


@pytest.mark.parametrize("ending", ["user", "provider"])
def test_the_shell_ends_if_one_of_the_processes_goes(wire: Wire, ending: str) -> None:
    channel = wire.user.open("here")
    channel.write(b"echo begun\nwhile read -r line; do :; done\n")
    assert channel.read(20).stdout == b"begun\n"
    relay = wire.user if ending == "user" else wire.provider
    relay.close("it has gone")
    if ending == "user":
        assert channel.read(20).eof
        assert channel.cause() == "it has gone"
        channel.close()
    wait_until(lambda: wire.opened[0].exit_status() is not None, "the shell has ended")
    with pytest.raises(ConnectError, match="it has gone"):
        relay.open("here")
