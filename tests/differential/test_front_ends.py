"""Batches as search front ends of the browser send them: one relevance search, and searches that count facets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.differential.comparing import answers_in, assert_reranked, hits_of, masked, name_of, plain_headers
from tests.differential.drawing import INDEX, lines_of
from tests.differential.pair import FILMS
from tests.differential.wire import JSON_TYPE, LINES_TYPE, Asked

if TYPE_CHECKING:
    from tests.differential.pair import Pair

WORDS = "a robot who finds love on an island"
FACET = {"kind": {"terms": {"field": "kind", "size": 20}}}
MARKS = {"pre_tags": ["<mark>"], "post_tags": ["</mark>"], "fields": {"title": {}, "text": {}}}


def multi(kind: str, *fields: str) -> dict[str, Any]:
    """A query for the words over some fields."""
    return {"multi_match": {"query": WORDS, "fields": list(fields), "type": kind}}


# Searchkit names the index in each header line, and calls the lines plain JSON.
SEARCHKIT_QUERY = {
    "bool": {
        "must": [
            {
                "bool": {
                    "should": [
                        {"bool": {"should": [multi("best_fields", "title^3", "text"), multi("bool_prefix", "text")]}},
                        multi("phrase", "title^3", "text"),
                    ]
                }
            }
        ],
        "filter": [{"bool": {"should": [{"term": {"kind": "a"}}]}}],
    }
}
SEARCHKIT = (
    Asked(method="POST", target="/_msearch", headers=(JSON_TYPE,)),
    [
        ({"index": INDEX}, {"aggs": FACET, "query": SEARCHKIT_QUERY, "size": FILMS, "from": 0, "highlight": MARKS}),
        ({"index": INDEX}, {"aggs": FACET, "query": {"match_all": {}}, "size": 0, "from": 0}),
    ],
)
# ReactiveSearch names it in the path, and the component in `preference`.
REACTIVE_QUERY = {
    "bool": {
        "must": [
            {
                "bool": {
                    "should": [multi("best_fields", "title^3", "text"), multi("phrase", "title^3", "text")],
                    "minimum_should_match": "1",
                }
            }
        ]
    }
}
REACTIVE = (
    Asked(method="POST", target=f"/{INDEX}/_msearch?", headers=(LINES_TYPE,)),
    [
        (
            {"preference": "SearchResult"},
            {"query": REACTIVE_QUERY, "size": FILMS, "_source": {"includes": ["*"], "excludes": []}},
        ),
        ({"preference": "Kinds"}, {"query": REACTIVE_QUERY, "size": 0, "aggs": FACET}),
    ],
)


@pytest.mark.parametrize(("asked", "pairs"), [SEARCHKIT, REACTIVE], ids=["searchkit", "reactivesearch"])
def test_a_batch_has_its_relevance_search_reranked_alone(
    pair: Pair, asked: Asked, pairs: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    """The first answer has the engine's hits in our order; the facets of the second are the engine's own bytes."""
    batch = Asked(method=asked.method, target=asked.target, headers=asked.headers, body=lines_of(pairs))
    direct, through = pair.direct.ask(batch), pair.through.ask(batch)
    assert through.status == direct.status == 200
    assert plain_headers(through, with_length=False) == plain_headers(direct, with_length=False)
    (own, own_facets), (ours, our_facets) = answers_in(direct.body), answers_in(through.body)
    assert masked(our_facets) == masked(own_facets)
    assert_reranked(batch, own, ours, hits_of(own))
    assert [name_of(hit) for hit in hits_of(ours)] != [name_of(hit) for hit in hits_of(own)]
