"""The cursor of `search_after`: where in a ranked list the page behind it begins. Pure.

In a point in time, the shown scores of a window lie above those of all hits behind it. So a cursor's score tells on
which side it is, and its other values tell which hit of the window it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.fusion.scale import to_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

Scalar = str | int | float | bool | None
SORT = msgspec.json.Decoder(list[Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The `sort` values of the last hit of a page: its score, and one or more tie-breakers."""

    score: float
    others: tuple[Scalar, ...]

    def is_behind(self, lowest: float) -> bool:
        """Whether no hit of a window can be meant whose lowest engine score is this one."""
        return not self.score > to_float32(lowest)


def read_cursor(values: Any, keys: int) -> Cursor | None:
    """The cursor of a search that sorts by so many keys; None for one that only the engine can judge.

    Elasticsearch adds a key of its own to those of a search in a point in time, and takes cursors with it and without.
    No engine gives a hit whose only key is `_score` a cursor that it takes.
    """
    if not isinstance(values, list) or len(values) not in {keys, keys + 1} or len(values) < 2:
        return None
    if not all(isinstance(value, Scalar) for value in values):
        return None
    score = _number(values[0])
    return None if score is None else Cursor(score=score, others=tuple(values[1:]))


def place_behind(cursor: Cursor, order: Sequence[int], shown: Sequence[float], sorts: Sequence[bytes]) -> int:
    """The place that follows the cursor's, in a window that it lies in.

    `order` has the index of the hit in each place, and `shown`, parallel to it, its shown score. `sorts`, by index, are
    the engine's own `sort` values.
    The cursor's place is the last one that shows just these values. If the list is not what it was, it is that of the
    only hit with these tie-breakers, or else the last one with no lower score.
    """
    same = [place for place, index in enumerate(order) if _others(sorts[index], len(cursor.others)) == cursor.others]
    exact = [place for place in same if shown[place] == cursor.score]
    if exact or len(same) == 1:
        return (exact or same)[-1] + 1
    return sum(score >= cursor.score for score in shown)


def _others(sort: bytes, count: int) -> tuple[Scalar, ...]:
    """The first so many values behind the score; () where the values can't be read."""
    try:
        return tuple(SORT.decode(sort)[1 : 1 + count])
    except ValueError:
        return ()


def _number(value: Any) -> float | None:
    """A score, which may be written as a text, as the engines keep it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return to_float32(number) if math.isfinite(number) else None
