"""How the engine ranks a search before we do: what it asks there, what scores, how many hits may be asked for. Pure.

Facts from the reference pages of both engines. How `size` bounds neighbours and rescored hits was measured on
Elasticsearch 8.19 and 9.1 and on OpenSearch 2.19.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.search.clauses import lacks_k, model_text, read_query
from es_rerank.proxy.search.question import Question, question_in_url, question_of_reading
from es_rerank.proxy.search.retriever import DEFAULT_WINDOW, read_retriever, rescore_window, window_limit
from es_rerank.reasons import STAGE_KEYS

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.clauses import ScoredBy
    from es_rerank.reasons import FirstStage, StageKey

RETRIEVER_STAGES: dict[str, FirstStage] = {"rrf": "rrf", "linear": "linear", "rescorer": "rescore"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStageReading:
    """The first stage of a search. `key` is the key of the search that makes it, where the query is not all.

    With `foreign` it is not ours to rerank; with `own_order` it scores by something that the rule does not take.
    `window` is the window of its rescorers, None without one: behind it, hits have another kind of score. `most` is the
    largest `size` that the engine takes, None for any. With `size_counts` the hits that are found depend on `size`, so
    the client's own has to be asked for. `first_page_only` says that the engine takes no `from` but 0.
    """

    name: FirstStage
    question: Question
    key: StageKey | None = None
    foreign: bool = False
    own_order: bool = False
    window: int | None = None
    most: int | None = None
    size_counts: bool = False
    first_page_only: bool = False


def query_alone(call: SearchCall) -> FirstStageReading:
    """The first stage for a rule that takes words of texts only: the parameter `q` if it is there, else the query."""
    search = call.search or {}
    key = next((name for name in STAGE_KEYS if is_set(search.get(name))), None)
    question = _question_in_url(call) or question_of_reading(read_query(search.get("query")))
    return FirstStageReading(
        name="bm25", question=question, key=key, foreign=key is not None, own_order=question.not_bm25
    )


def any_stage(call: SearchCall) -> FirstStageReading:
    """The first stage for a rule that takes any."""
    search = call.search or {}
    if is_set(search.get("retriever")):
        return _retriever_stage(search["retriever"])
    queries = [one.get("query") if isinstance(one, dict) else None for one in _list(search.get("sub_searches"))]
    reading = read_query([search.get("query"), *queries])
    neighbours = [one for one in _list(search.get("knn")) if isinstance(one, dict)]
    clauses = (*reading.clauses, *(clause for one in neighbours for clause in model_text("knn", one)))
    vectors: frozenset[ScoredBy] = frozenset({"vectors"}) if neighbours else frozenset()
    question = _question_in_url(call) or Question(clauses, reading.scored_by | vectors)
    stage = FirstStageReading(
        name=_name_of(question),
        question=question,
        own_order="own_order" in question.scored_by,
        size_counts=reading.k_is_size or any(lacks_k(one) for one in neighbours),
        first_page_only=_lacks_depth(search.get("query")),
    )
    rank, rescore = search.get("rank"), search.get("rescore")
    if is_set(rank):
        return _ranked(stage, rank)
    if is_set(rescore):
        return replace(stage, name="rescore", key="rescore", window=rescore_window(rescore))
    return stage


def is_set(value: Any) -> bool:
    """Whether the value of a key of a search asks for anything."""
    return value not in (None, False, 0, [], {})


def _retriever_stage(retriever: Any) -> FirstStageReading:
    reading = read_retriever(retriever)
    question = question_of_reading(reading.query)
    most = window_limit(retriever)
    return FirstStageReading(
        name=RETRIEVER_STAGES.get(reading.kind) or _name_of(question),
        question=question,
        key="retriever",
        foreign=reading.ordered_otherwise,
        window=most if reading.kind == "rescorer" else None,
        most=most,
        size_counts=reading.query.k_is_size,
    )


def _ranked(stage: FirstStageReading, rank: Any) -> FirstStageReading:
    """The stage whose lists of hits are fused by `rank`, which knows the reciprocal ranks alone."""
    fusion = rank.get("rrf") if isinstance(rank, dict) and len(rank) == 1 else None
    if not isinstance(fusion, dict):
        return replace(stage, key="rank", foreign=True)
    size = fusion.get("rank_window_size", fusion.get("window_size"))
    whole = isinstance(size, int) and not isinstance(size, bool) and size > 0
    return replace(stage, name="rrf", key="rank", most=size if whole else DEFAULT_WINDOW)


def _name_of(question: Question) -> FirstStage:
    """What a query is called by what it scores by."""
    scored_by = question.scored_by
    if "fusion" in scored_by or {"words", "vectors"} <= scored_by:
        return "hybrid"
    return "vectors" if "vectors" in scored_by else "bm25"


def _question_in_url(call: SearchCall) -> Question | None:
    if "q" not in call.parameters:
        return None
    return question_in_url(call.parameters["q"], call.parameters.get("df", ""))


def _lacks_depth(query: Any) -> bool:
    """Whether OpenSearch refuses all pages of a `hybrid` query but the first, since it has no `pagination_depth`."""
    hybrid = query.get("hybrid") if isinstance(query, dict) else None
    return isinstance(hybrid, dict) and hybrid.get("pagination_depth") is None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
