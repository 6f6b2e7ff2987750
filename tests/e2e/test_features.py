"""What else a search may ask for, through the whole system on every engine, next to the engine itself."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import RULES, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    from tests.conftest import Engine, System

INDEX = "films-features"
MATCH: dict[str, Any] = {"match": {"text": {"query": "a robot who finds love", "_name": "words"}}}
WITH_NOTES: dict[str, Any] = {
    "nested": {"path": "notes", "query": {"match": {"notes.said": "robot"}}, "inner_hits": {"_source": False}}
}
ALL_HITS = 50
GROUPS = {"groups": {"terms": {"field": "group"}}}
DOCUMENTS = [
    {
        "title": f"Film {number}",
        "text": text,
        "group": "abc"[number % 3],
        "year": 1990 + number,
        "code": "x" * (10 * number),
        "notes": [{"said": f"a robot {number}"}, {"said": "nothing"}],
        "place": {"lat": number, "lon": number},
        "vector": [number, 1],
    }
    for number, text in enumerate(
        (
            "a robot finds love at sea",
            "two robots, and a robot, on an island of robots",
            "the robot queen sails home",
            "love, love and love again",
            "who finds the old sailor",
            "a robot who repairs a robot who finds a robot",
            "a machine learns what tenderness is and falls in love with an enemy",
            "a film about rain",
        )
    )
]
MAPPINGS = {
    "properties": {
        "title": {"type": "text"},
        "text": {"type": "text"},
        "group": {"type": "keyword"},
        "year": {"type": "integer"},
        "code": {"type": "keyword", "ignore_above": 35},
        "notes": {"type": "nested"},
        "place": {"type": "geo_point"},
    }
}
# By name: parameters, what the body has beside or instead of the query, and a key that the answer or its first hit has.
KEPT: dict[str, tuple[str, dict[str, Any], str]] = {
    "aggs": ("", {"aggs": GROUPS}, "aggregations"),
    "typed_keys": ("typed_keys=true", {"aggs": GROUPS}, "aggregations"),
    "post_filter": ("", {"aggs": GROUPS, "post_filter": {"term": {"group": "a"}}}, "aggregations"),
    "min_score": ("", {"min_score": 0.5}, "hits"),
    "collapse": ("", {"collapse": {"field": "group", "inner_hits": {"name": "more", "size": 4}}}, "inner_hits"),
    "inner_hits": ("", {"query": {"bool": {"must": [MATCH], "should": [WITH_NOTES]}}}, "inner_hits"),
    "suggest": ("", {"suggest": {"near": {"text": "robbot", "term": {"field": "text"}}}}, "suggest"),
    "highlight": ("", {"highlight": {"fields": {"text": {}}}}, "highlight"),
    "fields": ("", {"fields": ["year", "title"]}, "fields"),
    "docvalue_fields": ("", {"docvalue_fields": ["year"]}, "fields"),
    "script_fields": ("", {"script_fields": {"next": {"script": "doc['year'].value + 1"}}}, "fields"),
    "runtime_mappings": ("", {"runtime_mappings": {"day": {"type": "keyword"}}, "fields": ["day", "year"]}, "fields"),
    "indices_boost": ("", {"indices_boost": [{INDEX: 2.5}]}, "hits"),
    "dfs": ("search_type=dfs_query_then_fetch", {}, "hits"),
    "function_score": ("", {"query": {"function_score": {"query": MATCH, "boost": 3}}}, "hits"),
    "constant_score": ("", {"query": {"constant_score": {"filter": MATCH}}}, "hits"),
    "boosting": (
        "",
        {"query": {"boosting": {"positive": MATCH, "negative": {"term": {"group": "a"}}, "negative_boost": 0.5}}},
        "hits",
    ),
    "total": ("", {"track_total_hits": True}, "hits"),
    "no total": ("", {"track_total_hits": False}, "hits"),
    "total up to 2": ("track_total_hits=2", {}, "hits"),
    "total as a number": ("rest_total_hits_as_int=true", {}, "hits"),
    "versions": ("", {"version": True, "seq_no_primary_term": True}, "_seq_no"),
    "matched_queries": ("", {}, "matched_queries"),
    "ignored": ("", {"query": {"match": {"text": "tenderness"}}}, "_ignored"),
    "routing": ("routing=r", {}, "_routing"),
    "preference": (
        "preference=_local&request_cache=true&batched_reduce_size=2",
        {"timeout": "60s"},
        "num_reduce_phases",
    ),
    "shards": (
        "max_concurrent_shard_requests=1&pre_filter_shard_size=1&allow_partial_search_results=false",
        {},
        "hits",
    ),
    "human": ("human=true&error_trace=true", {"stats": ["mine"]}, "hits"),
    "profile": ("", {"profile": True}, "profile"),
    "ties": ("sort=_score:desc,year:desc", {"track_scores": True}, "sort"),
}
# What an engine at hand does not have: it refuses the search, or answers without the key.
LACKING = {
    "script_fields": ("elasticsearch", "elasticsearch9"),
    "runtime_mappings": ("opensearch",),
    "ignored": ("opensearch",),
}
LEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "sort by field": ("", {"sort": [{"year": "desc"}]}),
    "track_scores": ("", {"sort": [{"year": "desc"}], "track_scores": True}),
    "_doc": ("", {"sort": ["_doc"]}),
    "worst first": ("", {"sort": [{"_score": "asc"}]}),
    "by distance": ("", {"sort": [{"_geo_distance": {"place": "3,3", "order": "asc"}}]}),
    "search_after": ("", {"sort": ["_score", {"year": "asc"}], "search_after": [0.5, 0]}),
    "scroll": ("scroll=1s", {}),
    "slice": ("scroll=1s", {"slice": {"id": 0, "max": 2}}),
    "terminate_after": ("", {"terminate_after": 1}),
    "terminate_after in the url": ("terminate_after=1", {}),
    "rescore": ("", {"rescore": {"window_size": 5, "query": {"rescore_query": {"match": {"text": "love"}}}}}),
    "size 0": ("request_cache=true", {"size": 0, "aggs": GROUPS}),
    "past the window": ("from=100", {}),
    "page that no engine takes": ("from=9990&size=100", {}),
    "suggest alone": ("", {"query": None, "suggest": {"near": {"text": "robbot", "term": {"field": "text"}}}}),
    "no query": ("", {"query": None}),
    "match_all": ("", {"query": {"function_score": {"query": {"match_all": {}}}}}),
    "ids": ("", {"query": {"ids": {"values": ["1", "3"]}}}),
    "geo": ("", {"query": {"geo_distance": {"distance": "900km", "place": "3,3"}}}),
    "more like this": ("", {"query": {"more_like_this": {"like": [{"_id": "3"}], "fields": ["text"]}}}),
    "stored fields none": ("", {"stored_fields": "_none_"}),
    "knn": ("", {"knn": {"field": "vector", "query_vector": [1, 2], "k": 2, "num_candidates": 5}}),
    "retriever": ("", {"query": None, "retriever": {"standard": {"query": MATCH}}}),
    "rank": ("", {"rank": {"rrf": {}}}),
    "search pipeline": ("search_pipeline=_none", {}),
    "yaml": ("format=yaml", {}),
    "cbor": ("format=cbor", {}),
}  # fmt: skip
# What the engines at hand refuse of these: a missing feature, or what is refused everywhere.
ELASTICSEARCH = ("elasticsearch", "elasticsearch9")
REFUSING = {
    "page that no engine takes": (*ELASTICSEARCH, "opensearch"),
    "knn": ("opensearch",),
    "retriever": ("opensearch",),
    "rank": (*ELASTICSEARCH, "opensearch"),
    "search pipeline": ELASTICSEARCH,
}
VOLATILE = ("took", "profile")


class Pair:
    """An engine and the system before it, with the same films."""

    def __init__(self, engine: Engine, system: System) -> None:
        self.engine = engine
        self.system = system

    def ask(self, target: str, body: Any, *, through: bool, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of the answer, whatever it says."""
        url = self.system.url if through else self.engine.url
        sent = {"content-type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url + target, data, sent), timeout=120) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@pytest.fixture(scope="module")
def pair(any_engine: Engine, system_on: Callable[[Engine], System]) -> Pair:
    """Films on three shards, two of them with a routing of their own."""
    with contextlib.suppress(urllib.error.HTTPError):
        send_json(f"{any_engine.url}/{INDEX}", method="DELETE")
    settings = {"number_of_shards": 3, "number_of_replicas": 0}
    send_json(f"{any_engine.url}/{INDEX}", {"settings": settings, "mappings": MAPPINGS}, method="PUT")
    with contextlib.suppress(urllib.error.HTTPError):  # only Elasticsearch has vectors without a plug-in
        vector = {"type": "dense_vector", "dims": 2, "similarity": "l2_norm"}
        send_json(f"{any_engine.url}/{INDEX}/_mapping", {"properties": {"vector": vector}}, method="PUT")
    for number, document in enumerate(DOCUMENTS):
        routed = "&routing=r" if number < 2 else ""
        send_json(f"{any_engine.url}/{INDEX}/_doc/{number}?refresh=true{routed}", document, method="PUT")
    return Pair(any_engine, system_on(any_engine))


def hits_of(answer: Any) -> list[dict[str, Any]]:
    """The hits without what reranking changes."""
    return [
        {**hit, "_score": 0, **({"sort": hit["sort"][1:]} if "sort" in hit else {})} for hit in answer["hits"]["hits"]
    ]


def around(answer: Any) -> dict[str, Any]:
    """An answer without its hits and their best score, and without what changes from call to call."""
    steady = {key: None if key in VOLATILE else value for key, value in answer.items()}
    return {**steady, "hits": {**answer["hits"], "hits": [], "max_score": None}}


@pytest.mark.parametrize("name", KEPT)
def test_what_a_search_asks_for_comes_with_its_reranked_hits(pair: Pair, name: str) -> None:
    """Each hit has what the engine gives it, all around is the engine's, and pages are cut from one list."""
    if (pair.engine.name, name) == ("osmem", "script_fields"):
        pytest.skip("osmem shows `_source` beside script fields, which the engines don't")
    query, changes, key = KEPT[name]
    target = f"/{INDEX}/_search?{query}"
    search = {"query": MATCH, "size": ALL_HITS, **changes}
    status, direct = pair.ask(target, search, through=False)
    told = {"es-rerank": "include=status"}
    through_status, through = pair.ask(target, search, through=True, headers=told)
    assert through_status == status
    if status != 200:
        assert pair.engine.name in (*LACKING.get(name, ()), "osmem")
        assert through == direct
        return
    before, after = json.loads(direct), json.loads(through)
    block = after.pop("_es_rerank")
    assert (block["status"], block["reason"]) == ("full", None)
    if pair.engine.name not in (*LACKING.get(name, ()), "osmem"):
        assert any(key in part for part in (before, *before["hits"]["hits"]))
    assert list(after) == list(before)
    assert around(after) == around(before)
    assert after["hits"]["max_score"] == after["hits"]["hits"][0]["_score"]
    assert sorted(hits_of(after), key=str) == sorted(hits_of(before), key=str)
    page = json.loads(pair.ask(target, {**search, "from": 1, "size": 2}, through=True)[1])
    assert page["hits"]["hits"] == after["hits"]["hits"][1:3]


@pytest.mark.parametrize("name", LEFT)
def test_what_has_an_order_or_a_first_stage_of_its_own_is_the_engines(pair: Pair, name: str) -> None:
    """Every byte of the answer is the engine's own, in its format, and so is a refusal."""
    query, changes = LEFT[name]
    target = f"/{INDEX}/_search?filter_path=-took,-_scroll_id&{query}"
    search = {key: value for key, value in {"query": MATCH, **changes}.items() if value is not None}
    direct = pair.ask(target, search, through=False)
    assert pair.ask(target, search, through=True) == direct
    if pair.engine.name not in (*REFUSING.get(name, ()), "osmem"):
        assert direct[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("_count", {"query": MATCH}),
        ("_validate/query?explain=true", {"query": MATCH}),
        ("_explain/3", {"query": MATCH}),
        ("_field_caps?fields=*", None),
        ("_terms_enum", {"field": "group", "string": "a"}),
        ("_search_shards", None),
        ("_rank_eval", {"requests": [], "metric": {"precision": {"k": 3}}}),
        ("_knn_search", {"knn": {"field": "vector", "query_vector": [1, 2], "k": 2, "num_candidates": 5}}),
        ("_eql/search", {"query": "any where true"}),
        ("../_sql", {"query": f"SELECT * FROM {INDEX}"}),
        ("../_query", {"query": f"FROM {INDEX}"}),
        ("../_plugins/_ppl", {"query": f"source={INDEX}"}),
        ("../_search/scroll", {"scroll_id": "none"}),
        ("../_render/template", {"source": {"query": MATCH}}),
    ],
)
def test_other_questions_are_the_engines(pair: Pair, path: str, body: Any) -> None:
    """What asks for something other than a page of hits is answered by the engine alone, byte for byte."""
    target = f"/{path.removeprefix('../')}" if path.startswith("../") else f"/{INDEX}/{path}"
    target += f"{'&' if '?' in target else '?'}filter_path=-took"
    assert pair.ask(target, body, through=True) == pair.ask(target, body, through=False)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("OPTIONS", "/"),
        ("OPTIONS", f"/{INDEX}/_search"),
        ("HEAD", "/"),
        ("HEAD", f"/{INDEX}"),
        ("HEAD", f"/{INDEX}/_doc/3"),
        ("HEAD", f"/{INDEX}-none"),
        ("HEAD", "/_alias/none"),
    ],
)
def test_a_question_without_a_body_is_the_engines(pair: Pair, method: str, path: str) -> None:
    """OPTIONS and HEAD have the engine's status and headers, and the length of a body that HEAD does not send."""
    heads = []
    for url in (pair.engine.url, pair.system.url):
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, method=method)) as reply:
                heads.append((reply.status, heard(reply.headers), reply.read()))
        except urllib.error.HTTPError as error:
            with error:
                heads.append((error.code, heard(error.headers), error.read()))
    assert heads[1] == heads[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"accept": "application/vnd.elasticsearch+json;compatible-with=8"},
        {"accept": "application/vnd.elasticsearch+json;compatible-with=9"},
        {"accept": "application/json;charset=utf-8"},
    ],
)
def test_a_reranked_answer_has_the_engines_headers(pair: Pair, headers: dict[str, str]) -> None:
    """Media type, product, `X-Opaque-Id` and the engine's own Warnings; where reranking went well, no other."""
    deprecated = json.dumps({"query": MATCH, "indices_boost": {INDEX: 2.0}}).encode()
    answers = []
    for url in (pair.engine.url, pair.system.url):
        opaque_id = str(uuid.uuid4())  # OpenSearch warns each one only once
        sent = {"content-type": "application/json", "x-opaque-id": opaque_id, **headers}
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{url}/{INDEX}/_search", deprecated, sent)) as reply:
                status, lines = reply.status, heard(reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                status, lines = error.code, heard(error.headers)
        answers.append((status, [(name, value.replace(opaque_id, "mine")) for name, value in lines]))
    assert answers[1] == answers[0]
    if pair.engine.name == "opensearch" and status == 200:
        assert any(name == "warning" for name, _ in answers[1][1])


def heard(headers: Message) -> list[tuple[str, str]]:
    """Header lines in order of their names, but for those that are the connection's, or follow the digits of `took`."""
    own = ("content-length", "transfer-encoding", "connection", "date", "server")
    return sorted((name.lower(), value) for name, value in headers.items() if name.lower() not in own)


@pytest.mark.parametrize(
    ("expression", "query"),
    [
        (f"{INDEX},films-none", "ignore_unavailable=true"),
        ("films-feat*,-films-none*", "expand_wildcards=open&ignore_unavailable=true"),
        ("films-none*", "allow_no_indices=true"),
        ("films-none*", "allow_no_indices=false"),
        (f"{INDEX},films-none", "ignore_unavailable=false"),
    ],
)
def test_indices_that_are_missing_mean_what_they_mean(pair: Pair, expression: str, query: str) -> None:
    """The parameters about indices go with the window, so that what is found and what is refused is the engine's."""
    target = f"/{expression}/_search?{query}"
    search = {"query": MATCH, "size": ALL_HITS}
    status, direct = pair.ask(target, search, through=False)
    through_status, through = pair.ask(target, search, through=True, headers={"es-rerank": "include=status"})
    assert through_status == status
    if status != 200:
        assert through == direct
        return
    before, after = json.loads(direct), json.loads(through)
    assert after.pop("_es_rerank")["status"] == "full"
    assert sorted(hits_of(after), key=str) == sorted(hits_of(before), key=str)


@pytest.fixture(scope="module")
def far(pair: Pair, run_system: Callable[..., System]) -> Iterator[Pair]:
    """An engine that knows itself as a remote cluster and another one that is gone, and rules for remote clusters."""
    if pair.engine.name == "osmem":
        pytest.skip("osmem knows no remote clusters and no date math")
    [node] = send_json(f"{pair.engine.url}/_nodes/transport")["nodes"].values()
    remotes = {"me": [node["transport"]["publish_address"]], "gone": ["127.0.0.1:1"]}
    known = {name: {"seeds": seeds, "skip_unavailable": True} for name, seeds in remotes.items()}
    forgotten = {name: {"seeds": None, "skip_unavailable": None} for name in remotes}
    url = f"{pair.engine.url}/_cluster/settings"
    send_json(url, {"persistent": {"cluster": {"remote": known}}}, method="PUT")
    names = 'indices = ["*:films*", "<films-*"]'
    yield Pair(pair.engine, run_system(pair.engine.url, extra=RULES.replace('indices = ["films*"]', names)))
    send_json(url, {"persistent": {"cluster": {"remote": forgotten}}}, method="PUT")


@pytest.mark.parametrize("minimized", ["true", "false"])
def test_hits_of_a_remote_cluster_are_reranked(pair: Pair, far: Pair, minimized: str) -> None:
    """Where a rule names the cluster; `_index` has its name in front, and `_clusters` counts it."""
    target = f"/me:{INDEX}/_search?ccs_minimize_roundtrips={minimized}"
    search = {"query": MATCH, "size": ALL_HITS}
    before = json.loads(far.ask(target, search, through=False)[1])
    after = json.loads(far.ask(target, search, through=True, headers={"es-rerank": "include=status"})[1])
    assert after.pop("_es_rerank")["status"] == "full"
    assert {hit["_index"] for hit in after["hits"]["hits"]} == {f"me:{INDEX}"}
    assert sorted(hits_of(after), key=str) == sorted(hits_of(before), key=str)
    assert after["_clusters"]["successful"] == before["_clusters"]["successful"] == 1


def test_a_cluster_that_is_skipped_makes_no_window(pair: Pair, far: Pair) -> None:
    """The answer is then the engine's own, in its order, and the status says why."""
    target = f"/me:{INDEX},gone:{INDEX}/_search"
    before = json.loads(far.ask(target, {"query": MATCH}, through=False)[1])
    after = json.loads(far.ask(target, {"query": MATCH}, through=True, headers={"es-rerank": "include=status"})[1])
    assert after.pop("_es_rerank")["reason"] == "partial_answer"
    assert after["hits"] == before["hits"]
    assert after["_clusters"]["skipped"] == before["_clusters"]["skipped"] == 1


def test_date_math_is_one_more_name(pair: Pair, far: Pair) -> None:
    """A rule says so by a pattern for date math; another rule does not cover it, and the search passes."""
    today = f"films-{datetime.now(UTC):%Y.%m.%d}"
    with contextlib.suppress(urllib.error.HTTPError):
        send_json(f"{far.engine.url}/{today}", method="DELETE")
    try:
        for day in (today, f"films-{datetime.now(UTC) + timedelta(days=1):%Y.%m.%d}"):
            far.engine.load(day, {"1": {"text": "a robot"}, "2": {"text": "a robot who finds love"}})
        target = "/%3Cfilms-%7Bnow%2Fd%7D%3E/_search"
        search = {"query": MATCH}
        for system, reason in ((far, None), (pair, "no_rule")):
            answer = json.loads(system.ask(target, search, through=True, headers={"es-rerank": "include=status"})[1])
            assert answer["_es_rerank"]["reason"] == reason
            assert {hit["_id"] for hit in answer["hits"]["hits"]} == {"1", "2"}
    finally:
        for day in (today, f"films-{datetime.now(UTC) + timedelta(days=1):%Y.%m.%d}"):
            send_json(f"{far.engine.url}/{day}", method="DELETE")


def test_a_repeated_window_comes_from_the_engines_request_cache(pair: Pair) -> None:
    """With `request_cache`, the second window is the same request to the engine as the first one, on every shard."""
    if pair.engine.name == "osmem":
        pytest.skip("osmem has no request cache")

    def cached() -> int:
        stats = send_json(f"{pair.engine.url}/{INDEX}/_stats/request_cache")
        return int(stats["_all"]["total"]["request_cache"]["hit_count"])

    search = {"query": {"match": {"text": "an island of robots"}}}
    for page in range(3):
        pair.ask(f"/{INDEX}/_search?request_cache=true&from={page}&size=1", search, through=True)
        if page == 0:
            before = cached()
    assert cached() >= before + 2
