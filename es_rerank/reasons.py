"""Every word that says why a search was not reranked, or not in full, and the outcomes that it can come with.

This is the only list: all code that gives a reason uses the type `Reason`, and the manual's tables (docs/search.md) are
checked against it. The words for first stages are here too, since a status tells them beside these.
"""

from __future__ import annotations

from typing import Literal, get_args

Outcome = Literal["full", "partial", "skipped", "failed"]

FirstStage = Literal["bm25", "vectors", "hybrid", "rrf", "linear", "rescore", "pipeline"]
"""How the engine ranked a window before it was reranked."""

NoRule = Literal["no_rule", "several_rules", "system_index"]
"""Why no rule holds for a search."""

StageKey = Literal["retriever", "knn", "rank", "sub_searches", "rescore"]
"""The search has a first stage of its own; the word is the name of its key."""

Foreign = Literal["scroll", "search_after", "slice", "pit", StageKey, "terminate_after", "search_pipeline"]
"""The search has an order, a first stage or a paging of its own; the word is the name of its key."""

NotOurs = Literal[
    "async_search",
    "product_origin",
    "asked_off",
    "template",
    "no_text_query",
    "not_bm25",
    "sort",
    "past_window",
    "size_zero",
    "unreadable_page",
    "stored_fields",
    "format",
    "body_too_large",
    "unreadable_body",
    "partial_answer",
    "language",
]
"""The search isn't ours to rerank for another reason."""

Gap = Literal[
    "deadline",
    "no_redis",
    "redis_refuses",
    "no_worker",
    "overloaded",
    "scorer_failed",
    "document_failed",
    "claim_lost",
    "claim_unreadable",
    "claim_too_large",
]
"""Some or all of a window's hits have no score, or not the one that was asked for."""

Failure = Literal[
    "missing_text",
    "memory_full",
    "engine_refused",
    "window_lost",
    "answer_too_large",
    "unreadable_answer",
    "index_changed",
    "internal_error",
    "no_engine",
]
"""Nothing could be scored."""

Reason = Literal[NoRule, Foreign, NotOurs, Gap, Failure]

STAGE_KEYS: tuple[StageKey, ...] = get_args(StageKey)

OUTCOMES: dict[str, frozenset[Outcome]] = {
    **dict.fromkeys(get_args(Literal[NoRule, Foreign, NotOurs]), frozenset[Outcome]({"skipped"})),
    **dict.fromkeys(get_args(Gap), frozenset[Outcome]({"partial", "failed"})),
    **dict.fromkeys(get_args(Failure), frozenset[Outcome]({"failed"})),
    # If the engine refuses the caller's own search too, the failure is not ours.
    "engine_refused": frozenset[Outcome]({"failed", "skipped"}),
}
"""By reason: the outcomes that it can come with."""

WORKER_REASONS: dict[str, Gap] = {
    "scorer_failed": "scorer_failed",
    "claim_lost": "claim_lost",
    "claim_unreadable": "claim_unreadable",
    "redis_refuses": "redis_refuses",
}
"""What a worker may say about a whole query; any other word from a worker means that its scorer failed."""
