"""What scoring is asked for, and what it gives: frozen values that know neither searches nor Redis. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.judgment import Judgment, ScoreRule
    from es_rerank.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One round of scoring: how long the model may think about a document, and about how many of the best.

    A `budget_tokens` of 0 is an answer without thinking; a `top` of None is the whole window.
    """

    budget_tokens: int
    top: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """By which scorer documents are judged, for what question, and how.

    `stages` run one after the other, and a document's judgment is that of its last stage. `score` is the score by which
    the best documents are chosen for a stage that is only about the best.
    """

    fingerprint: str
    question: str
    instruction: str
    stages: tuple[Stage, ...]
    score: ScoreRule
    keep_reasoning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One window's texts to be judged: parallel to its hits, None for a hit without text."""

    scoring: Scoring
    texts: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScores:
    """The judgments that came in time; the lists are parallel to the window, None for gaps.

    `keys` are the cache keys of the judgments. `from_cache`, parallel too, says whose judgment came from the cache.
    `missing_text` counts hits without text. `reason` is the word for why hits with text have no judgment, or only one
    that was cut; None if all have a full one.
    """

    judgments: tuple[Judgment | None, ...]
    keys: tuple[str | None, ...]
    from_cache: tuple[bool, ...]
    missing_text: int
    reason: Reason | None

    @property
    def scored(self) -> int:
        """How many hits have a judgment."""
        return sum(judgment is not None for judgment in self.judgments)

    @property
    def cached(self) -> int:
        """How many hits were judged from the cache."""
        return sum(self.from_cache)

    @property
    def cut(self) -> int:
        """How many hits were judged before their thinking ended, because of a deadline."""
        return sum(judgment is not None and judgment.cut == "deadline" for judgment in self.judgments)

    @property
    def low_mass(self) -> int:
        """How many judgments are of a model that would probably have answered something else than a number."""
        return sum(judgment is not None and judgment.low_mass for judgment in self.judgments)

    @property
    def truncated(self) -> int:
        """How many judgments are of a query or document that was cut, because it was too long for the model."""
        return sum(judgment is not None and judgment.truncated for judgment in self.judgments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How Redis is now, and how many live workers serve each scorer, parallel to the fingerprints that were asked for.

    `writable` means that it takes what a search writes, and `readable` that scores of workers can be read. `error` is
    what Redis says where it is not well. `workers` is None where Redis can't say.
    """

    reachable: bool
    writable: bool
    readable: bool
    error: str | None
    workers: tuple[int, ...] | None
