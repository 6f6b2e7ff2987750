"""What a scorer is: the contract that MiniLM on a CPU and an LLM on a GPU both keep.

Knows nothing of Celery, Redis or HTTP. A scorer lives as long as its worker process and is driven from one event
loop for all that time (vLLM's engine dies with the loop that first touched it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """One query and the documents to score for it.

    `texts` are whole documents; cutting them to what the model reads is the scorer's work. `deadline_s` is the
    time, in seconds since the epoch, at which the asker stops waiting: a scorer may cut its work short for it, but
    one that cannot simply goes on, because late scores still fill the cache.
    """

    query: str
    instruction: str
    texts: tuple[str, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentScore:
    """What became of one document.

    `index` is its position in `ScoreJob.texts`. With status `ok`, `rank_score` is finite and lies in 0..10, as
    ERank's does; with `failed` it is None and `reason` says why, for people.
    """

    index: int
    status: Literal["ok", "failed"]
    rank_score: float | None = None
    reason: str = ""


class Scorer(Protocol):
    """Scores documents for queries, many queries at a time."""

    @property
    def fingerprint(self) -> str:
        """Name of everything that changes a score: model, weights, precision, truncation, scale. Known before start."""
        ...

    async def start(self) -> None:
        """Load and warm up. Raises WorkerStartError, with what to do, when the model cannot be used here."""
        ...

    def score(self, job: ScoreJob) -> AsyncIterator[Sequence[DocumentScore]]:
        """Yield each document's outcome exactly once, in any order, in batches, as soon as it is known.

        Several calls run at once and share the hardware fairly. One bad document fails alone. Closing the iterator
        early drops the rest of the job. An exception means that the scorer itself is broken.
        """
        ...

    async def close(self) -> None:
        """Free the hardware. Called once, when no call of `score` is running."""
        ...
