"""What is asked of scoring, and what comes back: frozen values, without searches and without Redis. Pure."""

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

    `stages` come one after the other, and a document's judgment is that of its last. `score` tells which documents
    are the best so far, where a stage is about those only.
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
    """What could be had; the lists are parallel to the window, None for gaps.

    `keys` are those under which the judgments were looked for. `cached` counts hits judged from the cache,
    `missing_text` hits without text. `reason` is the word for why hits with text have no judgment, or none that is
    full; None where all have one.
    """

    judgments: tuple[Judgment | None, ...]
    keys: tuple[str | None, ...]
    cached: int
    missing_text: int
    reason: Reason | None

    @property
    def scored(self) -> int:
        """How many hits have a judgment."""
        return sum(judgment is not None for judgment in self.judgments)

    @property
    def cut(self) -> int:
        """How many hits were judged before their thinking ended, because of a deadline."""
        return sum(judgment is not None and judgment.cut == "deadline" for judgment in self.judgments)

    @property
    def low_mass(self) -> int:
        """How many judgments are of a model that was about to answer something else."""
        return sum(judgment is not None and judgment.low_mass for judgment in self.judgments)

    @property
    def truncated(self) -> int:
        """How many judgments are of a query or document that was longer than the model is given."""
        return sum(judgment is not None and judgment.truncated for judgment in self.judgments)
