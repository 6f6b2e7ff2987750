"""How far a new order is from the engine's: the figures of an event. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEPTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """What became of the first DEPTH places, or of all where there are fewer.

    `overlap` is the share of the engine's first hits that are among the new first ones. `mean` and `most` say how many
    places the new first hits have moved, up or down.
    """

    overlap: float
    mean: float
    most: int


def movement_of(order: Sequence[int]) -> Movement | None:
    """The movement to an order, a permutation of the engine's places from 0 on, best first; None for no hits."""
    first = order[:DEPTH]
    if not first:
        return None
    moved = [abs(index - place) for place, index in enumerate(first)]
    return Movement(
        overlap=sum(index < len(first) for index in first) / len(first),
        mean=sum(moved) / len(moved),
        most=max(moved),
    )
