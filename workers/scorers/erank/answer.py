"""From the log-probabilities of a few tokens to the distribution over the answers 0 to 10. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.scorers.erank.engine import Reading

DIGITS = 10
# math.exp overflows a little above this.
LARGEST_EXPONENT = 700.0


def read_distribution(reading: Reading) -> tuple[float, ...] | None:
    """P(0) to P(10), raw; None where no answer has any probability, or where a number is NaN.

    `reading` holds the labels 0 to 9 and the token that closes the answer, right after the opening tag and after a
    1. "10" is two tokens, so the probability of a 1 is divided between 1 and 10 by what may follow it:
    P(10) = p(1)·c and P(1) = p(1)·(1 - c), with c = q(0) / (q(0) + q(close)). For the other answers the closing tag
    counts as certain: it nearly is, and equally for all.
    """
    if any(math.isnan(value) for value in (*reading.first, *reading.second)):
        return None
    probabilities = [math.exp(min(0.0, value)) for value in reading.first[:DIGITS]]
    to_ten, to_close = reading.second[0], reading.second[DIGITS]
    share = 0.0 if math.isinf(to_ten) else 1 / (1 + math.exp(min(LARGEST_EXPONENT, to_close - to_ten)))
    one = probabilities[1]
    probabilities[1] = one * (1 - share)
    probabilities.append(one * share)
    return tuple(probabilities) if sum(probabilities) > 0 else None
