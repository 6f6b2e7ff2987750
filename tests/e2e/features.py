"""Searches with every feature that the engines have beside the query, and the films that they search."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.conftest import send_json

if TYPE_CHECKING:
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
        "rating": "none" if number % 2 else number,
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
        "rating": {"type": "integer", "ignore_malformed": True},
        "notes": {"type": "nested"},
        "place": {"type": "geo_point"},
    }
}
# By name: parameters, what the body has beside or instead of the query, and a key that the answer or its first hit has.
KEPT: dict[str, tuple[str, dict[str, Any], str]] = {
    "aggs": ("", {"aggs": GROUPS}, "aggregations"),
    "typed_keys": ("typed_keys=true", {"aggs": GROUPS}, "aggregations"),
    "post_filter": ("", {"aggs": GROUPS, "post_filter": {"term": {"group": "a"}}}, "aggregations"),
    "q": ("q=robots%20love&df=text&analyzer=standard&default_operator=OR&lenient=true", {}, "hits"),
    "min_score": ("", {"min_score": 1.0}, "hits"),
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
    "ignored": ("", {}, "_ignored"),
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
    "search pipeline": ("search_pipeline=films-none", {}),
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
    "search pipeline": (*ELASTICSEARCH, "opensearch"),
}


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


def load_pair(engine: Engine, system: System) -> Pair:
    """Films on three shards, two of them with a routing of their own, in an engine and behind the system."""
    with contextlib.suppress(urllib.error.HTTPError):
        send_json(f"{engine.url}/{INDEX}", method="DELETE")
    settings = {"number_of_shards": 3, "number_of_replicas": 0}
    send_json(f"{engine.url}/{INDEX}", {"settings": settings, "mappings": MAPPINGS}, method="PUT")
    with contextlib.suppress(urllib.error.HTTPError):  # only Elasticsearch has vectors without a plug-in
        vector = {"type": "dense_vector", "dims": 2, "similarity": "l2_norm"}
        send_json(f"{engine.url}/{INDEX}/_mapping", {"properties": {"vector": vector}}, method="PUT")
    for number, document in enumerate(DOCUMENTS):
        routed = "&routing=r" if number in (0, 2) else ""
        send_json(f"{engine.url}/{INDEX}/_doc/{number}?refresh=true{routed}", document, method="PUT")
    return Pair(engine, system)


def hits_of(answer: Any) -> list[dict[str, Any]]:
    """The hits without what reranking changes."""
    return [
        {**hit, "_score": 0, **({"sort": hit["sort"][1:]} if "sort" in hit else {})} for hit in answer["hits"]["hits"]
    ]
