"""What can happen to a connection, drawn by a seed so that it can happen again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

HANDSHAKE = 3000  # bytes either way that a login takes, about


class FaultKind(Enum):
    """What happens to the stream."""

    RESET = "reset"
    CLOSE = "close"
    STALL = "stall"
    SLOW = "slow"
    CORRUPT = "corrupt"


class LinkDirection(Enum):
    """Which direction it happens in: from the client, or to it."""

    TO_SERVER = "up"
    TO_CLIENT = "down"


MIXES = {
    "cut": (FaultKind.RESET, FaultKind.CLOSE, FaultKind.CORRUPT),
    "slow": (FaultKind.SLOW,),
    "stall": (FaultKind.STALL, FaultKind.RESET, FaultKind.CLOSE),
}
"""What happens in a run: those of which some hosts hear nothing take their timeouts."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """It happens to a host's connection number ``connection`` (from 0), before its byte ``at``.

    ``both_directions``: a reset or an end is told to both sides, else to the one that the bytes go to, while
    the other hears nothing any more; a stall is in both directions, else in this one. ``detail``:
    what the byte is XORed with, or for how many bytes it is slow.
    """

    kind: FaultKind
    direction: LinkDirection
    at: int
    both_directions: bool = True
    detail: int = 0
    connection: int = 0


def draw_fault(seed: str, mix: str, spans: Mapping[LinkDirection, int]) -> LinkFault | None:
    """What this seed says: none in one of eight cases. ``spans`` is how long the stream is; one
    position of three is in the handshake, and one of ten behind the end.
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
