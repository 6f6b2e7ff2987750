"""What a scorer is: the contract that MiniLM on a CPU and an LLM on a GPU both keep.

Knows nothing of Celery, Redis or HTTP. A scorer lives as long as its worker process and is driven from one event
loop for all that time (vLLM's engine dies with the loop that first touched it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from es_rerank.judgment import Judgment


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """One query and the documents to score for it.

    `texts` are whole documents; the scorer cuts them to what its model reads. `due_s` is the event loop's time at
    which the caller stops waiting. A scorer that thinks cuts its thinking short for this deadline, and has dropped all
    work of the job a second later. A scorer that doesn't think may go on, because late scores still fill the cache, as
    long as no other job waits.
    `budget_tokens` is how long the scorer may think about each document, 0 for not at all; a scorer that doesn't think
    ignores it. `thought` holds, by index into `texts`, the token ids of thinking that an earlier deadline cut: the
    scorer goes on from there.
    """

    query: str
    instruction: str
    texts: tuple[str, ...]
    due_s: float
    budget_tokens: int = 0
    thought: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentScore:
    """What became of one document.

    `index` is its position in `ScoreJob.texts`. With status `ok` there is a `judgment`; with `failed` there is none
    and `reason` says why, for people. `thought` are the token ids of the whole thinking, and `reasoning` is its text,
    both empty where there was none.
    """

    index: int
    status: Literal["ok", "failed"]
    judgment: Judgment | None = None
    reason: str = ""
    thought: tuple[int, ...] = ()
    reasoning: str = ""


class Scorer(Protocol):
    """Scores documents for queries, many queries at a time."""

    @property
    def fingerprint(self) -> str:
        """Name of everything in the settings that changes a score: model, precision, truncation, scale.

        Known before start. What it leaves open is in `identity`.
        """
        ...

    @property
    def identity(self) -> str:
        """What it has loaded, where the fingerprint leaves that open: all workers of a fingerprint must have the same.

        Known once `start` has returned. Empty where the fingerprint says everything.
        """
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

    async def broken(self) -> str:
        """Wait until the scorer can never score again, and return the reason. Most scorers never break."""
        ...

    async def close(self) -> None:
        """Free the hardware. Called once, when no call of `score` is running."""
        ...
