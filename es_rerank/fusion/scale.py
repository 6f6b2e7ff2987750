"""Maps fused scores onto the engine's own scale, so that `_score` stays what clients know: non-negative, falling.

Formula, over the window, with e the engine's scores and f the fused ones::

    _score = e_min + (e_max - e_min) * (f - f_min) / (f_max - f_min)

The lowest reranked `_score` is the window's lowest engine score, so pages past the window go on below it; the
highest is the engine's `max_score`, so every page names the same one. Where all e are equal, their width counts as
1. Where all f are equal, the engine's scores stay. Engines keep scores as 32-bit floats, so values are rounded to
one, and raised to the next where rounding would make two different f equal. So the highest `_score` can lie some such
steps above the engine's. Where a score has to tell whether a hit is of the window, e_min is the next float above it.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.fusion.fuse import Ranking

LARGEST_FLOAT32 = 3.4028234663852886e38
MANTISSA_BITS = 23
SMALLEST_EXPONENT = -125  # of `math.frexp`, for 32-bit floats that are not subnormal


def scale_to_engine(
    engine_scores: Sequence[float], ranking: Ranking, *, above_lowest: bool = False
) -> tuple[float, ...]:
    """The `_score` of every place of the ranking: parallel to `ranking.order`, never rising, exact 32-bit floats.

    A document without a fused score takes the value of the nearest scored one above it, or the engine's maximum.
    `engine_scores` is parallel to the window. With `above_lowest`, and unless all f are equal, every value is above the
    lowest of them, and so above the scores of all hits behind the window.
    """
    fused = [score for score in ranking.fused_scores if score is not None]
    if not fused or min(fused) == max(fused):
        return tuple(to_float32(engine_scores[index]) for index in ranking.order)
    low, high = min(engine_scores), max(engine_scores)
    if above_lowest:
        low = next_float32(to_float32(low))
    width = high - low if high > low else 1.0
    fused_low, fused_width = min(fused), max(fused) - min(fused)
    value_of: dict[int, float] = {}
    below = fused_below = None
    for index in reversed(ranking.order):
        score = ranking.fused_scores[index]
        if score is None:
            continue
        value = to_float32(low + width * ((score - fused_low) / fused_width))
        if below is not None and fused_below is not None and value <= below:
            value = next_float32(below) if score > fused_below else below
        value_of[index] = below = value
        fused_below = score
    values: list[float] = []
    for index in ranking.order:
        above = values[-1] if values else max(to_float32(high), *value_of.values())
        values.append(value_of.get(index, above))
    return tuple(values)


def to_float32(value: float) -> float:
    """The nearest finite 32-bit float."""
    near = max(-LARGEST_FLOAT32, min(value, LARGEST_FLOAT32))
    return float(struct.unpack("<f", struct.pack("<f", near))[0])


def next_float32(value: float) -> float:
    """The smallest 32-bit float above another one; the largest stays as it is."""
    if value >= LARGEST_FLOAT32:
        return value
    # The bits count up from 0, and down from -0, which has to be 0 here.
    bits = struct.unpack("<i", struct.pack("<f", value or 0.0))[0]
    return float(struct.unpack("<f", struct.pack("<i", bits + (1 if value >= 0 else -1)))[0])


def float32_text(value: float) -> str:
    """The JSON number that reads back as the same 32-bit float, as engines print scores.

    It is the shortest such number, except for values below 1e-38, which have fewer digits than are tried here.
    """
    # Half the step to the next larger 32-bit float. The step to the next smaller one is as wide, or half as wide.
    half_step = math.ldexp(1.0, max(math.frexp(value)[1], SMALLEST_EXPONENT) - MANTISSA_BITS - 2)
    shortest = None
    for digits in (8, 7, 6):  # fewer digits are never nearer
        near = float(f"{value:.{digits}g}")
        away = abs(near - value)
        if away >= half_step / 2 and (away > half_step or to_float32(near) != value):
            break
        shortest = near
    return repr(float(f"{value:.9g}") if shortest is None else shortest)
