"""What a replay records: the whole window of each query of a set. From it any setting can be tried later.

No engine, Redis or model is asked for that. A recording holds ids, scores and judgments, never a document's text.
"""

from __future__ import annotations

import msgspec

from es_rerank.fusion.fuse import Method  # noqa: TC001  msgspec reads annotations at run time
from es_rerank.fusion.rank import Recipe
from es_rerank.judgment import Judgment, ScoreRule  # noqa: TC001  as above
from es_rerank.reasons import Outcome, Reason  # noqa: TC001  as above

Hit = tuple[str, str]
"""`_index` and `_id` of a hit."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One way to order a recorded window: how many of its first hits are reranked, and by what recipe."""

    window: int
    method: Method
    alpha: float
    score: ScoreRule = "paper"

    @property
    def recipe(self) -> Recipe:
        """The setting without its window."""
        return Recipe(method=self.method, alpha=self.alpha, score=self.score)

    def __str__(self) -> str:
        return f"alpha {self.alpha:g}, {self.method}, window {self.window}, {self.score}"


class RecordedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One query of a replay, and the window that its search had.

    `ids`, `engine_scores` and `judgments` are parallel, in engine order; a judgment is None for a hit that has none.
    `status` and `reason` are those of the search: a search that was `skipped` has no judgments, and no setting changes
    its order. All three are empty for a search that found nothing.
    """

    query_id: str
    user_query: str
    group: str = ""
    status: Outcome
    reason: Reason | None = None
    ids: tuple[Hit, ...]
    engine_scores: tuple[float, ...]
    judgments: tuple[Judgment | None, ...]


class RecordingHead(msgspec.Struct, frozen=True, kw_only=True):
    """What all queries of a replay have in common.

    `window` is how many hits of each query were recorded at most, and so the largest window that can be tried.
    `setting` is the one in force when it was recorded; its window is never larger. `mode` is the mode of a scorer that
    thinks, else None. `time` is UTC, as in 2026-11-28T09:00:00Z.
    """

    id: str
    time: str
    index: str
    rule: str
    rules_version: str
    scorer: str
    fingerprint: str
    mode: str | None = None
    window: int
    setting: Setting


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A whole replay. `queries` are in the order of the query set."""

    head: RecordingHead
    queries: tuple[RecordedQuery, ...]
