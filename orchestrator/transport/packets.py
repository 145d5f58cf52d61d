"""paramiko's packets (RFC 4253 6): counted, bounded, and without timers of their own."""

from __future__ import annotations

from orchestrator.transport.library import Message, Packetizer, SSHException

LONGEST = 1 << 18  # bytes of a packet, as OpenSSH has it; RFC 4253 6.1 asks for 35,000


class SilenceError(EOFError):
    """The peer is taken for dead."""


class Untimed(Packetizer):
    """Without a timer thread for each handshake: the one who connects has a deadline. ``whole``
    is how many packets came. A length that was garbled on the way is not waited for.
    """

    whole = 0

    def read_message(self) -> tuple[int, Message]:
        """The next packet: its kind and the rest of it."""
        message = super().read_message()
        self.whole += 1
        return message

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Exactly so many bytes. Raises SSHException where no packet is as long as that."""
        if n > LONGEST:
            raise SSHException(f"a packet of {n} bytes")
        return super().read_all(n, check_rekey)

    def start_handshake(self, timeout: float) -> None:
        """Nothing."""

    def complete_handshake(self) -> None:
        """Nothing."""

    def handshake_timed_out(self) -> bool:
        """Never."""
        return False
