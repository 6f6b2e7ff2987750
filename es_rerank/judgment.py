"""A scorer's verdict on one document, kept whole, so that every rank score can be computed from it later. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

ScoreRule = Literal["paper", "expected"]
Cut = Literal["", "budget", "deadline"]
LARGEST_SCORE = 10
# With less probability than this on the eleven allowed answers, the model was about to say something else.
LOW_MASS = 0.5
# Probabilities of different forward passes may add up to a little more than 1.
ROUNDING = 1e-3

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Judgment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Either one `rank_score` in 0..10, from a scorer that gives only that, or a whole `distribution`.

    `distribution` holds P(0) to P(10): how probable each answer was, raw, so that they add up to the `mass`.
    `think_tokens` is the length of the reasoning before the answer, 0 where there was none. `cut` says what ended
    it: '' the model itself, `budget` the length that was asked for, `deadline` the caller's deadline. `truncated` is
    True where query or document was longer than what the model is given.
    Raises ValueError for anything that is not a verdict, NaN included.
    """

    rank_score: Annotated[float, msgspec.Meta(ge=0, le=LARGEST_SCORE)] | None = None
    distribution: tuple[Probability, ...] | None = None
    think_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    cut: Cut = ""
    truncated: bool = False

    def __post_init__(self) -> None:
        """Refuse values that are not a verdict."""
        if (self.rank_score is None) == (self.distribution is None):
            raise ValueError("a judgment has either a rank score or a distribution")
        if self.rank_score is not None and not 0 <= self.rank_score <= LARGEST_SCORE:
            raise ValueError(f"a rank score of {self.rank_score}: allowed are 0 to {LARGEST_SCORE}")
        if self.distribution is not None:
            if len(self.distribution) != LARGEST_SCORE + 1:
                raise ValueError(f"a distribution over {len(self.distribution)} answers: there are 11")
            if not (all(share >= 0 for share in self.distribution) and 0 < sum(self.distribution) <= 1 + ROUNDING):
                raise ValueError(f"a distribution with a mass of {sum(self.distribution)}: above 0 and at most 1")

    @property
    def mass(self) -> float:
        """How probable it was that the answer is one of 0 to 10 at all; 1 for a scorer without a distribution."""
        return 1.0 if self.distribution is None else min(1.0, sum(self.distribution))

    @property
    def low_mass(self) -> bool:
        """Whether the model was more likely to answer something that is not a score: do not trust such a judgment."""
        return self.mass < LOW_MASS

    def score(self, rule: ScoreRule) -> float:
        """The rank score, 0..10.

        `paper` is s·Pr(s) of the most probable answer s, the lowest of equals (ERank, arXiv 2509.00520, section 3).
        `expected` is the mean answer, Σ s·P(s) / mass; without the division, a malformed answer would be a low score.
        A scorer's single number is itself under both.
        """
        if self.distribution is None:
            assert self.rank_score is not None  # noqa: S101  held by __post_init__
            return self.rank_score
        if rule == "paper":
            answer = max(range(LARGEST_SCORE + 1), key=self.distribution.__getitem__)
            return answer * self.distribution[answer]
        mean = sum(answer * share for answer, share in enumerate(self.distribution)) / sum(self.distribution)
        return min(float(LARGEST_SCORE), mean)
