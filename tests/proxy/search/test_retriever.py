"""Retriever trees: what they ask, what scores, how many hits a search with them may be asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.question import question_of_reading
from es_rerank.proxy.search.retriever import DEFAULT_WINDOW, read_retriever, rescore_window, window_limit

FOX: dict[str, Any] = {"match": {"text": "red fox"}}
WORDS: dict[str, Any] = {"standard": {"query": FOX}}
VECTOR: dict[str, Any] = {"knn": {"field": "v", "query_vector": [1], "k": 5, "num_candidates": 9}}
EMBEDDED: dict[str, Any] = {
    "knn": {"field": "v", "query_vector_builder": {"text_embedding": {"model_id": "m", "model_text": "a fox"}}}
}
RRF: dict[str, Any] = {"rrf": {"retrievers": [WORDS, VECTOR], "rank_window_size": 50}}
WINDOWS = {"window_size": 30, "query": {"rescore_query": FOX}}


@pytest.mark.parametrize(
    ("retriever", "kind", "words", "scored_by"),
    [
        (WORDS, "standard", "red fox", {"words"}),
        (VECTOR, "knn", "", {"vectors"}),
        (EMBEDDED, "knn", "a fox", {"vectors"}),
        (RRF, "rrf", "red fox", {"words", "vectors"}),
        ({"rrf": {"retrievers": [{"retriever": WORDS, "weight": 2}]}}, "rrf", "red fox", {"words"}),
        ({"linear": {"retrievers": [{"retriever": EMBEDDED, "weight": 2}]}}, "linear", "a fox", {"vectors"}),
        ({"linear": {"query": " red  fox ", "fields": ["text^2"]}}, "linear", "red fox", {"words"}),
        ({"rescorer": {"retriever": RRF, "rescore": WINDOWS}}, "rescorer", "red fox", {"words", "vectors"}),
        ({"standard": {"query": {"semantic": {"field": "s", "query": "a fox"}}}}, "standard", "a fox", {"vectors"}),
        ({"standard": {"query": {"term": {"year": 1}}}}, "standard", "", set()),
    ],
    ids=str,
)
def test_a_tree_asks_what_its_leaves_ask(retriever: Any, kind: str, words: str, scored_by: set[str]) -> None:
    """The question is made of the texts of all retrievers in the tree, and what scores there is known."""
    reading = read_retriever(retriever)
    assert (reading.kind, {*reading.query.scored_by}) == (kind, scored_by)
    assert question_of_reading(reading.query).text == words
    assert not reading.ordered_otherwise


@pytest.mark.parametrize(
    "retriever",
    [
        {"pinned": {"ids": ["1"], "retriever": WORDS}},
        {"rule": {"ruleset_ids": ["1"], "retriever": WORDS}},
        {"text_similarity_reranker": {"field": "text", "inference_text": "fox", "retriever": WORDS}},
        {"diversify": {"type": "mmr", "field": "v", "retriever": WORDS}},
        {"standard": {"query": FOX, "sort": ["year"]}},
        {"standard": {"query": {"pinned": {"ids": ["1"], "organic": FOX}}}},
        {"rrf": {"retrievers": [{"pinned": {"ids": ["1"], "retriever": WORDS}}]}},
        {"made_up": {"retriever": WORDS}},
        {"standard": {}, "knn": {}},
        {},
        [],
        "standard",
        None,
    ],
    ids=str,
)
def test_an_order_of_its_own_is_seen(retriever: Any) -> None:
    """Pins, sorts, reranking by the engine, unknown kinds and what is no retriever are not ours to rerank."""
    assert read_retriever(retriever).ordered_otherwise


def test_a_sort_inside_a_fusion_is_a_ranking() -> None:
    """What a fused retriever sorts by is a part of how the engine ranks."""
    sorted_one = {"standard": {"query": FOX, "sort": ["year"]}}
    assert not read_retriever({"rrf": {"retrievers": [sorted_one, WORDS]}}).ordered_otherwise


@pytest.mark.parametrize(
    ("retriever", "limit"),
    [
        (WORDS, None),
        (VECTOR, None),
        (RRF, 50),
        ({"rrf": {"retrievers": [WORDS]}}, DEFAULT_WINDOW),
        ({"linear": {"retrievers": [], "rank_window_size": 70}}, 70),
        ({"linear": {"retrievers": [], "rank_window_size": "70"}}, DEFAULT_WINDOW),
        ({"linear": {"retrievers": [], "rank_window_size": True}}, DEFAULT_WINDOW),
        ({"text_similarity_reranker": {"retriever": RRF, "rank_window_size": 40}}, 40),
        ({"rescorer": {"retriever": RRF, "rescore": WINDOWS}}, 30),
        ({"rescorer": {"retriever": RRF, "rescore": [WINDOWS, {"query": {}}]}}, DEFAULT_WINDOW),
        ({"rescorer": {"retriever": RRF}}, DEFAULT_WINDOW),
        (None, None),
    ],
    ids=str,
)
def test_no_more_hits_are_asked_for_than_the_outermost_window_holds(retriever: Any, limit: int | None) -> None:
    """A fusing or rescoring retriever bounds the number of hits, by 10 where it says nothing; a leaf does not."""
    assert window_limit(retriever) == limit


def test_neighbours_as_many_as_hits_are_seen() -> None:
    """Only the outermost retriever finds as many neighbours as the search asks for hits."""
    assert read_retriever({"standard": {"query": EMBEDDED}}).query.k_is_size
    assert read_retriever(EMBEDDED).query.k_is_size
    assert not read_retriever(VECTOR).query.k_is_size
    assert not read_retriever({"rrf": {"retrievers": [EMBEDDED]}}).query.k_is_size


@pytest.mark.parametrize(
    ("rescore", "window"),
    [
        (None, None),
        ([], None),
        (WINDOWS, 30),
        ({"query": {}}, DEFAULT_WINDOW),
        ([WINDOWS, {"window_size": 80, "query": {}}], 80),
        ([{"window_size": 80, "query": {}}, {"window_size": 20, "learning_to_rank": {"model_id": "m"}}], 20),
    ],
    ids=str,
)
def test_the_window_of_rescorers_is_the_widest_but_for_a_model(rescore: Any, window: int | None) -> None:
    """The largest `window_size` counts, and that of a model by itself, since a model refuses to be asked for more."""
    assert rescore_window(rescore) == window


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["standard", "rrf", "linear", "knn", "rescorer", "retriever", "retrievers", "query", "rescore"]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_any_json_can_be_read(value: Any) -> None:
    """Whatever stands under `retriever` or `rescore`, reading it never fails, and a limit lets at least one hit in."""
    read_retriever(value)
    assert (window_limit(value) or 1) > 0
    assert (rescore_window(value) or 1) > 0


def test_deep_trees_are_not_followed_for_ever() -> None:
    """A tree deeper than any engine takes is not ours, instead of a fault."""
    tree: dict[str, Any] = WORDS
    for _ in range(500):
        tree = {"rrf": {"retrievers": [tree]}}
    assert read_retriever(tree).ordered_otherwise
