"""Faults of a connection, drawn from a seed so that they can be reproduced."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

HANDSHAKE = 3000  # bytes that a login takes in both directions, approximately


class FaultKind(Enum):
    """The kind of the fault."""

    RESET = "reset"
    CLOSE = "close"
    STALL = "stall"
    SLOW = "slow"
    CORRUPT = "corrupt"


class LinkDirection(Enum):
    """The direction of the fault: from the client, or to it."""

    TO_SERVER = "up"
    TO_CLIENT = "down"


MIXES = {
    "cut": (FaultKind.RESET, FaultKind.CLOSE, FaultKind.CORRUPT),
    "slow": (FaultKind.SLOW,),
    "stall": (FaultKind.STALL, FaultKind.RESET, FaultKind.CLOSE),
}
"""Faults used in a run: those that leave a host silent take its timeouts."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """A fault of a host's connection number ``connection`` (from 0), before its byte ``at``.

    ``both_directions``: a reset or an end is sent to both sides, else to the receiver of the bytes,
    while the other side receives nothing any more; a stall is in both directions, else in this one.
    ``detail``: the value to XOR with, or the number of slow bytes.
    """

    kind: FaultKind
    direction: LinkDirection
    at: int
    both_directions: bool = True
    detail: int = 0
    connection: int = 0


def draw_fault(seed: str, mix: str, spans: Mapping[LinkDirection, int]) -> LinkFault | None:
    """Return the fault for this seed; None in one of eight cases.

    ``spans`` is the length of the stream; one position of three is in the handshake, and one of ten
    after the end.
    """
    dice = random.Random(seed)
    if not dice.randrange(8):
        return None
    kind, direction = dice.choice(MIXES[mix]), dice.choice(list(LinkDirection))
    short = min(HANDSHAKE, spans[direction])
    at = dice.randrange(
        short if not dice.randrange(3) else spans[direction] + spans[direction] // 10
    )
    detail = dice.randrange(1, 256) if kind is FaultKind.CORRUPT else dice.choice((300, 2000, 6000))
    both = bool(dice.randrange(3)) or (mix == "cut" and direction is LinkDirection.TO_SERVER)
    return LinkFault(
        kind,
        direction,
        at=at,
        both_directions=both,
        detail=detail,
        connection=int(not dice.randrange(12)),
    )
