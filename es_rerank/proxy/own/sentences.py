"""What each reason word means for one search, as a sentence for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.reasons import Reason

RERANKED = "Every hit of the window that has text has a rank score."
SENTENCES: dict[Reason, str] = {
    "no_rule": "No rule covers all of the indices that are asked for.",
    "several_rules": "The indices fall under different rules, and a search has one rule.",
    "system_index": "A system index is named, or one of them was found: they are never reranked.",
    "scroll": "The search scrolls, which is a paging of its own.",
    "search_after": "The search pages by search_after.",
    "slice": "The search is a slice of a larger one.",
    "pit": "The search reads a point in time for which no rule is known, or whose rule leaves those alone.",
    "retriever": "The search has a retriever, and the rule takes words only, or its order is not that of scores.",
    "knn": "The search has knn, and the rule takes words only.",
    "rank": "The search has rank, and the rule takes words only, or the engine ranks fewer hits than are asked for.",
    "sub_searches": "The search has sub_searches, and the rule takes words only.",
    "rescore": "The search has rescore, and the rule takes words only, or more are rescored than limits.max_window.",
    "terminate_after": "The search ends early by terminate_after, so its first hits are not the best ones.",
    "search_pipeline": "The search goes through a search pipeline that may change its hits.",
    "product_origin": "A page of Kibana or OpenSearch Dashboards asks, and the rule leaves those alone.",
    "asked_off": "The request says that it is not to be reranked.",
    "async_search": "It is an async search, and the rule leaves those alone.",
    "template": "It is a search template, and the rule does not have those rendered.",
    "no_text_query": "The query has no text that scores.",
    "not_bm25": "The query scores by pins, or by vectors or models and the rule takes words only.",
    "sort": "The first key of the sort is not _score, descending.",
    "past_window": "The page begins behind the window.",
    "size_zero": "No hits are asked for.",
    "unreadable_page": "from or size is not a plain whole number, so the engine judges them.",
    "stored_fields": "The search asks for hits without _id.",
    "format": "The answer is not to be JSON.",
    "body_too_large": "The body is longer than limits.max_request_bytes.",
    "unreadable_body": "The body is not one JSON object, or has another media type or an unknown coding.",
    "partial_answer": "Shards or clusters failed or ran out of time, so the window is not the true one.",
    "language": "The scorer reads one language, and the window is in another one.",
    "deadline": "The deadline came before all rank scores; a longer ext.es_rerank.deadline_s may help.",
    "no_redis": "Redis can't be reached.",
    "redis_refuses": "Redis answers with an error; GET /_es_rerank/health has its words.",
    "no_worker": "No worker serves the rule's scorer.",
    "overloaded": "limits.max_in_flight searches were waiting already, so only the cache was used.",
    "scorer_failed": "The model failed on the whole query.",
    "document_failed": "The model failed on some documents.",
    "claim_lost": "The worker did not find what it was to score.",
    "claim_unreadable": "The worker could not read what it was to score.",
    "claim_too_large": "The texts to be scored are too long together.",
    "missing_text": "No hit has text: look at the rule's fields.",
    "memory_full": "limits.max_held_bytes were held for other requests.",
    "engine_refused": "The engine did not accept the search for the window, for example because it is too large.",
    "window_lost": "The engine's answer for the window broke off, or made no sense.",
    "answer_too_large": "The window's answer is longer than limits.max_answer_bytes.",
    "index_changed": "The index changed between the async search and its window, so the engine's page is shown.",
    "unreadable_answer": "The engine's answer does not hold hits with scores.",
    "internal_error": "A fault of es-rerank; its log has it.",
    "no_engine": "No engine host answered.",
}
