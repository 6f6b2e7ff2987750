"""Searches by chance that are reranked, in every form: the engine's own hits in another order, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.differential.carriers import CARRIERS, Carrier
from tests.differential.comparing import assert_equal, assert_reranked, hits_of, name_of, plain_headers
from tests.differential.drawing import INDEX, RELEVANT, TEXT_QUERIES
from tests.differential.pair import DRAWN, FILMS, WINDOW, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.differential.wire import Answer

SEARCHES = 25
LISTS = 4
# What the embedded engine answers in its own way, whoever asks.
OWN_WAY = frozenset({"fields", "stored_fields"})
STATUS = {"es_rerank": {"include": ["status"]}}


@pytest.fixture(params=CARRIERS, ids=lambda carrier: carrier.name)
def carrier(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Carrier]:
    """Each form that the engine has."""
    found: Carrier = request.param
    if pair.engine.name not in found.engines:
        pytest.skip(f"{pair.engine.name} has no such form")
    sides = (pair.direct, pair.through)
    for side in sides:
        if found.before is not None:
            assert side.ask(found.before(pair.engine.name, INDEX)).status == 200
    yield found
    for side in sides:
        if found.after is not None:
            assert side.ask(found.after(pair.engine.name, INDEX)).status == 200


def told(answer: bytes) -> dict[str, Any]:
    """What es-rerank says of a search."""
    block: dict[str, Any] = json.loads(answer)["_es_rerank"]
    return block


def is_found(answer: Answer, carrier: Carrier) -> bool:
    """Whether the engine found what it was asked for."""
    return answer.status == 200 and b'"hits"' in carrier.answer(answer.body)


@settings(DRAWN, max_examples=SEARCHES)
@given(search=RELEVANT)
def test_a_reranked_search_has_the_engines_hits(pair: Pair, carrier: Carrier, search: dict[str, Any]) -> None:
    """Its window is the engine's in another order, what is behind it stays; all else is the engine's, byte for byte."""
    assume(pair.engine.name != "osmem" or not OWN_WAY & search.keys())
    asked = carrier.asking(INDEX, search)
    direct, through = pair.direct.ask(asked), pair.through.ask(carrier.asking(INDEX, {**search, "ext": STATUS}))
    if not is_found(direct, carrier):
        assert_equal(asked, direct, pair.through.ask(asked))
        return
    assert through.status == 200
    assert plain_headers(through, with_length=False) == plain_headers(direct, with_length=False)
    own, ours = carrier.answer(direct.body), carrier.answer(through.body)
    status = told(ours)
    assert (status["status"], status["reason"]) == ("full", None), (asked, status)
    everything = pair.direct.ask(carrier.asking(INDEX, {**search, "from": 0, "size": FILMS}))
    pool = hits_of(carrier.answer(everything.body))
    assert_reranked(asked, own, ours, pool)
    names, first = [name_of(hit) for hit in pool], search.get("from", 0)
    for place, hit in enumerate(hits_of(ours), start=first):
        rank = names.index(name_of(hit))
        assert rank == place if place >= WINDOW else rank < WINDOW, asked


@settings(DRAWN, max_examples=LISTS)
@given(query=TEXT_QUERIES, size=st.sampled_from([4, 7, 11, 45]))
def test_the_pages_of_a_search_tile_one_list(pair: Pair, carrier: Carrier, query: dict[str, Any], size: int) -> None:
    """Pages of any size, one after the other, are the list that a page of everything has: none twice, none missing."""

    def page(first: int, length: int) -> list[dict[str, Any]]:
        body = pair.through.ask(carrier.asking(INDEX, {"query": query, "from": first, "size": length})).body
        hits: list[dict[str, Any]] = json.loads(carrier.answer(body))["hits"]["hits"]
        return hits

    whole = page(0, FILMS)
    assert [hit for first in range(0, FILMS, size) for hit in page(first, size)] == whole


def test_an_order_is_ours(pair: Pair, carrier: Carrier) -> None:
    """In each form, a question that the model reads another way than the engine moves hits."""
    search = {"query": {"match": {"text": "a robot who finds love on an island"}}, "size": WINDOW}
    asked = carrier.asking(INDEX, search)
    orders = [
        [name_of(hit) for hit in hits_of(carrier.answer(side.ask(asked).body))] for side in (pair.direct, pair.through)
    ]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
