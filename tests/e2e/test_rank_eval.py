"""Our `_rank_eval` next to that of a real OpenSearch: the same figures for the same order, and the same refusals."""

from __future__ import annotations

import json
import random
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

INDEX = "films-rated"
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
LOVE = {"query": {"match": {"text": "love robot"}}}
RATED = [
    {"_index": INDEX, "_id": "1", "rating": 0},
    {"_index": INDEX, "_id": "2", "rating": 3},
    {"_index": INDEX, "_id": "5", "rating": 1},
    {"_index": INDEX, "_id": "none", "rating": 2},
]
SOURCE = {"source": {"query": {"match": {"text": "{{words}}"}}}}
METRICS: tuple[dict[str, dict[str, Any]], ...] = (
    {"precision": {}},
    {"precision": {"k": 3, "relevant_rating_threshold": 2, "ignore_unlabeled": True}},
    {"recall": {"k": 7}},
    {"mean_reciprocal_rank": {"k": 4, "relevant_rating_threshold": 2}},
    {"dcg": {}},
    {"dcg": {"k": 6, "normalize": True}},
    {"dcg": {"k": 6, "normalize": "true", "unknown_doc_rating": 1}},
    {"expected_reciprocal_rank": {"maximum_relevance": 3}},
    {"expected_reciprocal_rank": {"maximum_relevance": 2, "k": "5", "unknown_doc_rating": 1}},
)


@pytest.fixture(scope="module")
def system(opensearch: Engine, system_on: Callable[[Engine], System]) -> System:
    """Films in OpenSearch, and the system before it."""
    chance = random.Random(3)
    films = {
        str(number): {"title": f"Film {number}", "text": " ".join(chance.choices(WORDS, k=chance.randint(3, 20)))}
        for number in range(60)
    }
    opensearch.load(INDEX, films)
    return system_on(opensearch)


def asked(url: str, body: Any) -> tuple[int, Any]:
    """Status and answer of a request with this body."""
    try:
        return 200, send_json(url, body, method="POST")
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def unreranked(body: dict[str, Any]) -> dict[str, Any]:
    """The same evaluation, with reranking turned off in each search and in each template."""
    off = {"ext": {"es_rerank": {"rerank": False}}}
    changed = dict(body)
    if "requests" in body:
        changed["requests"] = [
            {**one, "request": {**one["request"], **off}} if "request" in one else one for one in body["requests"]
        ]
    for one in changed.get("templates", ()):
        source = one["template"].get("source")
        if source is not None:
            parsed = json.loads(source) if isinstance(source, str) else source
            written = json.dumps({**parsed, **off}) if isinstance(source, str) else {**parsed, **off}
            changed["templates"] = [{**one, "template": {**one["template"], "source": written}}]
    return changed


def assert_same(engine: Any, ours: Any) -> None:
    """Two answers are the same, but for the last digits of a metric."""
    assert type(engine) is type(ours)
    if isinstance(engine, dict):
        assert engine.keys() == ours.keys()
        for name, value in engine.items():
            assert_same(value, ours[name])
    elif isinstance(engine, list | tuple):
        assert len(engine) == len(ours)
        for value, other in zip(engine, ours, strict=True):
            assert_same(value, other)
    else:
        assert ours == (pytest.approx(engine, rel=1e-12) if isinstance(engine, float) else engine)


def evaluation(chance: random.Random) -> dict[str, Any]:
    """An evaluation by chance: any metric, several requests, odd ratings, and some searches that fail."""
    requests = []
    for number in range(chance.randint(1, 4)):
        search: dict[str, Any] = {"query": {"match": {"text": " ".join(chance.choices(WORDS, k=2))}}}
        search |= chance.choice(({}, {}, {"from": 2}, {"size": 3}, {"_source": ["title"]}, {"sort": ["nothing"]}))
        keys = chance.sample(range(80), chance.randint(0, 30))
        rated = [
            {"_index": INDEX, "_id": str(key), "rating": chance.choice((-1, 0, 1, 2, 3, "2", 1.5, 40))} for key in keys
        ]
        one: dict[str, Any] = {"id": f"q{number % 3}", "request": search, "ratings": rated}
        requests.append({**one, **chance.choice(({}, {"summary_fields": ["title"]}))})
    return {"requests": requests, "metric": chance.choice(METRICS), "max_concurrent_searches": chance.randint(1, 3)}


@pytest.mark.parametrize("seed", range(40))
def test_what_is_not_reranked_has_the_engine_s_own_figures(seed: int, opensearch: Engine, system: System) -> None:
    """For every metric, hits, ratings, details and failures are those that OpenSearch answers itself."""
    body = evaluation(random.Random(seed))
    direct = asked(f"{opensearch.url}/{INDEX}/_rank_eval", body)
    ours = asked(f"{system.url}/_es_rerank/{INDEX}/_rank_eval", unreranked(body))
    assert_same(direct, ours)


def rated(**changes: Any) -> dict[str, Any]:
    """One request for films about a robot in love."""
    return {"id": "q1", "request": LOVE, "ratings": RATED, **changes}


def body_of(*requests: Any, metric: Any = None, **changes: Any) -> dict[str, Any]:
    """An evaluation of these requests."""
    return {"requests": [*requests], "metric": metric or {"precision": {"k": 5}}, **changes}


ODD: dict[str, Any] = {
    "no such metric": body_of(rated(), metric={"nothing": {}}),
    "unknown parameter": body_of(rated(), metric={"precision": {"nothing": 1}}),
    "no metric": {"requests": [rated()]},
    "no requests": {"metric": {"precision": {}}},
    "nothing": {},
    "empty requests": body_of(),
    "unknown key": body_of(rated(), nothing=1),
    "unknown key of a request": body_of(rated(nothing=1)),
    "a document twice": body_of(rated(ratings=[*RATED, RATED[0]])),
    "no rating": body_of(rated(ratings=[{"_index": INDEX, "_id": "1"}])),
    "unknown key of a rating": body_of(rated(ratings=[{**RATED[0], "nothing": 1}])),
    "rating of words": body_of(rated(ratings=[{**RATED[0], "rating": "high"}])),
    "rating that is true": body_of(rated(ratings=[{**RATED[0], "rating": True}])),
    "rating that is too large": body_of(rated(ratings=[{**RATED[0], "rating": 3_000_000_000}])),
    "no search": body_of({"id": "q1", "ratings": RATED}),
    "no ratings": body_of({"id": "q1", "request": LOVE}),
    "no id": body_of({"request": LOVE, "ratings": RATED}),
    "k of 0": body_of(rated(), metric={"recall": {"k": 0}}),
    "negative threshold": body_of(rated(), metric={"mean_reciprocal_rank": {"relevant_rating_threshold": -1}}),
    "no maximum": body_of(rated(), metric={"expected_reciprocal_rank": {}}),
    "two metrics": body_of(rated(), metric={"precision": {}, "recall": {}}),
    "aggregations": body_of(rated(request={**LOVE, "aggs": {"a": {"max": {"field": "year"}}}})),
    "suggestions": body_of(rated(request={**LOVE, "suggest": {"a": {"text": "x", "term": {"field": "text"}}}})),
    "highlights": body_of(rated(request={**LOVE, "highlight": {"fields": {"text": {}}}})),
    "explain": body_of(rated(request={**LOVE, "explain": True})),
    "profile": body_of(rated(request={**LOVE, "profile": True})),
    "no concurrency": body_of(rated(), max_concurrent_searches=0),
    "template and search": body_of(rated(template_id="t")),
    "parameters and search": body_of(rated(params={"words": "x"})),
    "template without parameters": body_of({"id": "q1", "template_id": "t", "ratings": RATED}),
    "parameters without template": body_of({"id": "q1", "params": {"words": "x"}, "ratings": RATED}),
    "stored template that is missing": body_of(
        {"id": "q1", "template_id": "t", "params": {"words": "x"}, "ratings": RATED},
        templates=[{"id": "t", "template": {"id": "nothing"}}],
    ),
    "unknown query": body_of(rated(request={"query": {"nothing": {}}})),
    "query that makes no sense": body_of(
        rated(request={"query": {"match": {"text": {"query": "a", "fuzziness": "x"}}}}), rated(id="q2")
    ),
    "no ratings at all": body_of(rated(ratings=[])),
    "search that fails": body_of(rated(request={**LOVE, "sort": ["nothing"]}), rated(id="q2")),
    "all searches fail": body_of(rated(request={**LOVE, "sort": ["nothing"]})),
    "page too deep": body_of(rated(request={**LOVE, "from": 20_000})),
    "template": body_of(
        {"id": "q1", "template_id": "t", "params": {"words": "robot love"}, "ratings": RATED},
        templates=[{"id": "t", "template": SOURCE}],
    ),
    "template as text": body_of(
        {"id": "q1", "template_id": "t", "params": {"words": "robot love"}, "ratings": RATED},
        templates=[{"id": "t", "template": {"source": json.dumps(SOURCE["source"]), "lang": "mustache"}}],
    ),
}


def words_of(error: Any) -> str:
    """What the engine says in the end of a refusal, without the place in the body."""
    while "caused_by" in error:
        error = error["caused_by"]
    return re.sub(r"^\[\d+:\d+\] (\[\w+\] )?| did you mean .*$", "", error["reason"])


# Where the engines speak of tokens, we speak of the field.
OWN_WORDS = ("two metrics", "rating that is true", "rating that is too large", "unknown query")


@pytest.mark.parametrize("name", ODD)
def test_odd_evaluations_are_taken_or_refused_alike(name: str, opensearch: Engine, system: System) -> None:
    """What OpenSearch refuses is refused with its status and its words; what it answers is answered alike."""
    status, direct = asked(f"{opensearch.url}/{INDEX}/_rank_eval", ODD[name])
    our_status, ours = asked(f"{system.url}/_es_rerank/{INDEX}/_rank_eval?status", unreranked(ODD[name]))
    assert our_status == status
    if status == 200:
        statuses = ours.pop("_es_rerank")
        assert_same(direct, ours)
        assert all(one["reason"] == "asked_off" for one in statuses.values())
    elif name not in OWN_WORDS:
        assert words_of(direct["error"]) in ours["error"]["reason"]


@pytest.mark.parametrize("target", ["nothing", f"{INDEX},nothing", f"{INDEX},nothing?ignore_unavailable=true"])
def test_a_missing_index_is_a_failure_of_each_request(target: str, opensearch: Engine, system: System) -> None:
    """An index that does not exist is told in `failures`, and `ignore_unavailable` means what it means."""
    index, _, query = target.partition("?")
    direct = asked(f"{opensearch.url}/{index}/_rank_eval?{query}", body_of(rated()))
    ours = asked(f"{system.url}/_es_rerank/{index}/_rank_eval?{query}", unreranked(body_of(rated())))
    assert_same(direct, ours)


def test_without_an_index_all_are_searched(opensearch: Engine, system: System) -> None:
    """The path without an index means all of them."""
    assert_same(
        asked(f"{opensearch.url}/_rank_eval", body_of(rated())),
        asked(f"{system.url}/_es_rerank/_rank_eval", body_of(rated())),
    )


def test_the_reranked_order_is_evaluated_and_the_engine_s_beside_it(opensearch: Engine, system: System) -> None:
    """Hits are those of the reranked search; `?engine` has just what OpenSearch itself would answer."""
    body = body_of(rated(request={"query": {"match": {"text": "robot in love on an island"}}}))
    url = f"{system.url}/_es_rerank/{INDEX}/_rank_eval"
    status, ours = asked(f"{url}?engine=true&status=true", body)
    assert status == 200
    assert ours["_es_rerank"]["q1"]["status"] == "full"
    found = send_json(f"{system.url}/{INDEX}/_search?size=5", body["requests"][0]["request"], method="POST")
    evaluated = [one["hit"] for one in ours["details"]["q1"]["hits"]]
    assert [(hit["_id"], hit["_score"]) for hit in evaluated] == [
        (hit["_id"], hit["_score"]) for hit in found["hits"]["hits"]
    ]
    assert "_source" not in evaluated[0]
    assert_same(asked(f"{opensearch.url}/{INDEX}/_rank_eval", body)[1], ours["engine"])
    assert ours["engine"]["details"]["q1"]["hits"] != ours["details"]["q1"]["hits"]
    assert set(asked(url, body)[1]) == {"metric_score", "details", "failures"}
