"""First stages of every kind: which are ours under a rule that takes any, and what is asked of the engine then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.decide import Page, Relay, Rerank, decide
from es_rerank.reasons import STAGE_KEYS, FirstStage, Reason
from tests.proxy.search.calls import call_of
from tests.proxy.search.test_decide import RULE, book_of

FOX: dict[str, Any] = {"match": {"text": "red fox"}}
WORDS: dict[str, Any] = {"standard": {"query": FOX}}
KNN: dict[str, Any] = {"field": "v", "query_vector": [1], "k": 5, "num_candidates": 9}
EMBEDDED: dict[str, Any] = {
    "field": "v",
    "k": 5,
    "query_vector_builder": {"text_embedding": {"model_id": "m", "model_text": "a fox"}},
}
NEURAL: dict[str, Any] = {"neural": {"v": {"query_text": "a fox", "model_id": "m", "k": 5}}}
RRF: dict[str, Any] = {"rrf": {"retrievers": [WORDS, {"knn": EMBEDDED}], "rank_window_size": 15}}
RESCORE: dict[str, Any] = {"window_size": 15, "query": {"rescore_query": FOX}}
BM25, ANY = book_of(RULE), book_of(RULE.model_copy(update={"first_stage": "any", "window": 20}))
FILTERED: dict[str, Any] = {"function_score": {"query": {"term": {"year": 1}}, "functions": []}}
TAKEN: list[tuple[FirstStage, dict[str, Any], str]] = [
    ("vectors", {"knn": EMBEDDED}, "a fox"),
    ("vectors", {"query": {"knn": EMBEDDED}}, "a fox"),
    ("vectors", {"query": NEURAL}, "a fox"),
    ("vectors", {"query": {"neural_sparse": {"v": {"query_text": "a fox"}}}}, "a fox"),
    ("vectors", {"query": {"semantic": {"field": "s", "query": "a fox"}}}, "a fox"),
    ("vectors", {"query": {"sparse_vector": {"field": "s", "inference_id": "m", "query": "a fox"}}}, "a fox"),
    ("vectors", {"query": {"text_expansion": {"s": {"model_id": "m", "model_text": "a fox"}}}}, "a fox"),
    ("vectors", {"retriever": {"knn": EMBEDDED}}, "a fox"),
    ("hybrid", {"query": FOX, "knn": KNN}, "red fox"),
    ("hybrid", {"query": FOX, "knn": [KNN, EMBEDDED]}, "red fox a fox"),
    ("hybrid", {"query": {"bool": {"should": [FOX, {"rank_feature": {"field": "r"}}]}}}, "red fox"),
    ("hybrid", {"query": {"hybrid": {"queries": [FOX, NEURAL]}}}, "red fox a fox"),
    ("rrf", {"retriever": RRF}, "red fox a fox"),
    ("rrf", {"query": FOX, "knn": KNN, "rank": {"rrf": {"window_size": 20}}}, "red fox"),
    ("rrf", {"sub_searches": [{"query": FOX}, {"query": NEURAL}], "rank": {"rrf": {}}}, "red fox a fox"),
    ("linear", {"retriever": {"linear": {"retrievers": [{"retriever": WORDS}]}}}, "red fox"),
    ("rescore", {"query": FOX, "rescore": RESCORE}, "red fox"),
    ("rescore", {"retriever": {"rescorer": {"retriever": RRF, "rescore": RESCORE}}}, "red fox a fox"),
    ("bm25", {"retriever": WORDS}, "red fox"),
    ("bm25", {"sub_searches": [{"query": FOX}]}, "red fox"),
    ("bm25", {"query": FOX}, "red fox"),
]


def reranked(search: dict[str, Any], **asked: Any) -> Rerank:
    """The decision to rerank a search under a rule that takes any first stage."""
    decision = decide(call_of(search), asked, ANY)
    assert isinstance(decision, Rerank), decision
    return decision


def reason_of(search: dict[str, Any], **asked: Any) -> Reason:
    """Why a search is not reranked under such a rule."""
    decision = decide(call_of(search), asked, ANY)
    assert isinstance(decision, Relay), decision
    return decision.reason


@pytest.mark.parametrize(("stage", "search", "words"), TAKEN, ids=str)
def test_any_first_stage_is_taken_where_the_rule_says_so(stage: FirstStage, search: dict[str, Any], words: str) -> None:
    """The decision says which stage it is, and the question is made of the texts wherever they stand."""
    decision = reranked(search)
    assert (decision.first_stage, decision.scoring.question) == (stage, words)


@pytest.mark.parametrize(("stage", "search", "words"), TAKEN, ids=str)
def test_without_the_rules_word_only_words_are_taken(stage: FirstStage, search: dict[str, Any], words: str) -> None:
    """By default everything but a query of words passes, with the key that makes its first stage."""
    decision = decide(call_of(search), {}, BM25)
    key = next((key for key in STAGE_KEYS if key in search), None)
    if isinstance(decision, Relay):
        assert decision.reason == (key or "not_bm25")
    else:
        assert (stage, key, decision.first_stage, decision.scoring.question) == ("bm25", None, "bm25", words)


@pytest.mark.parametrize(
    "search",
    [
        {"knn": KNN},
        {"query": {"knn": KNN}},
        {"query": FILTERED},
        {"query": {"script_score": {"query": {"match_all": {}}, "script": {}}}},
        {"retriever": {"knn": KNN}},
        {"query": {"match_all": {}}, "rescore": RESCORE},
        {},
    ],
    ids=str,
)
def test_a_question_is_still_needed(search: dict[str, Any]) -> None:
    """Without a text anywhere, a search needs the words of a person."""
    assert reason_of(search) == "no_text_query"
    assert reranked(search, query="a fox").scoring.question == "a fox"


@pytest.mark.parametrize(
    ("reason", "search"),
    [
        ("not_bm25", {"query": {"pinned": {"ids": ["1"], "organic": FOX}}}),
        ("not_bm25", {"query": {"bool": {"must": [FOX], "should": [{"percolate": {}}]}}}),
        ("not_bm25", {"query": {"rule": {"organic": FOX}}, "knn": KNN}),
        ("retriever", {"retriever": {"pinned": {"retriever": WORDS}}}),
        ("retriever", {"retriever": {"text_similarity_reranker": {"retriever": WORDS}}}),
        ("retriever", {"retriever": {"made_up": {}}}),
        ("retriever", {"retriever": RRF, "size": 16}),
        ("retriever", {"retriever": {"rrf": {"retrievers": [WORDS]}}, "size": 11}),
        ("rank", {"query": FOX, "rank": {"made_up": {}}}),
        ("rank", {"query": FOX, "rank": {"rrf": {}}, "size": 11}),
        ("rescore", {"query": FOX, "rescore": {"window_size": 201, "query": {}}}),
        ("search_pipeline", {"query": FOX, "search_pipeline": "p"}),
        ("pit", {"query": FOX, "knn": KNN, "pit": {"id": "1"}}),
        ("past_window", {"knn": {**EMBEDDED, "k": None}, "from": 5, "size": 5}),
        ("past_window", {"query": {"hybrid": {"queries": [FOX]}}, "from": 5, "size": 5}),
        ("past_window", {"retriever": RRF, "from": 15}),
        ("past_window", {"query": FOX, "rescore": RESCORE, "from": 15}),
    ],
    ids=str,
)
def test_some_orders_stay_the_engines(reason: Reason, search: dict[str, Any]) -> None:
    """Pins, unknown kinds, pages that the engine refuses or bounds otherwise, and pagings pass as before."""
    assert reason_of(search) == reason


@pytest.mark.parametrize(
    ("search", "window", "size"),
    [
        ({"knn": EMBEDDED}, 20, 20),
        ({"knn": EMBEDDED, "from": 15}, 20, 25),
        ({"knn": {**EMBEDDED, "k": None}}, 10, 10),
        ({"knn": {**EMBEDDED, "k": None}, "size": 3}, 3, 3),
        ({"query": {"knn": {**EMBEDDED, "k": None}}, "size": 30}, 20, 30),
        ({"retriever": WORDS}, 20, 20),
        ({"retriever": RRF}, 15, 15),
        ({"retriever": RRF, "from": 10, "size": 10}, 15, 15),
        ({"retriever": {"rrf": {"retrievers": [WORDS]}}}, 10, 10),
        ({"retriever": {"rrf": {"retrievers": [WORDS], "rank_window_size": 100}}}, 20, 20),
        ({"query": FOX, "rank": {"rrf": {"rank_window_size": 12}}}, 12, 12),
        ({"query": FOX, "rescore": RESCORE}, 15, 15),
        ({"query": FOX, "rescore": RESCORE, "size": 40}, 15, 40),
        ({"query": FOX, "rescore": {"window_size": 50, "query": {}}}, 50, 50),
        ({"query": FOX, "rescore": {"query": {}}}, 10, 10),
        ({"retriever": {"rescorer": {"retriever": RRF, "rescore": RESCORE}}, "from": 10}, 15, 15),
    ],
    ids=str,
)
def test_the_engine_is_asked_for_no_more_than_its_first_stage_gives(
    search: dict[str, Any], window: int, size: int
) -> None:
    """Windows of retrievers bound ours, that of rescorers is ours, and where `size` changes what is found it stays."""
    decision = reranked(search, query="fox")
    assert (decision.window, decision.size) == (window, size)
    assert decision.page == Page(start=search.get("from", 0), size=search.get("size", 10))


def test_a_question_in_the_url_takes_the_place_of_the_query() -> None:
    """With `q` the body's query does not count, its vectors neither."""
    decision = decide(call_of({"query": NEURAL}, "q=red+fox"), {}, ANY)
    assert isinstance(decision, Rerank)
    assert (decision.first_stage, decision.scoring.question) == ("bm25", "red fox")


@given(
    st.dictionaries(
        st.sampled_from(["query", *STAGE_KEYS, "from", "size"]),
        st.sampled_from([FOX, NEURAL, KNN, RRF, WORDS, RESCORE, {"rrf": {}}, [KNN], [], 0, 3, 30, None, "x"]),
    )
)
def test_no_search_is_asked_for_less_than_its_page(search: dict[str, Any]) -> None:
    """Whatever the first stage, deciding never fails, and a page that the engine gives is inside what is asked for."""
    decision = decide(call_of(search), {"query": "fox"}, ANY)
    if isinstance(decision, Rerank):
        assert 0 < decision.window <= decision.size
        assert decision.page.start < decision.window
        assert decision.page.size <= decision.size
