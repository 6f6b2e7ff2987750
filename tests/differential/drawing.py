"""Requests by chance, over every family of endpoints that clients use: what they may ask, and what is wrong.

`INDEX` is under a rule, `OTHER` is not. A request that writes does so in `SCRATCH`, of which each side has its own, so
both see the same writes in the same order.
"""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.differential.wire import Asked

INDEX = "films-drawn"
OTHER = "books-drawn"
SCRATCH = "side-drawn"
MISSING = "none-drawn"
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
# Each side puts in its own: the latest it was given.
SCROLL, PIT = "(scroll)", "(pit)"


def as_json(value: Any) -> bytes:
    """A body."""
    return json.dumps(value).encode()


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Any of these values, or of those that the strategies among them draw."""
    return st.one_of(*(value if isinstance(value, st.SearchStrategy) else st.just(value) for value in values))


QUESTIONS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
# Queries that ask for words, and so have a window to rerank.
TEXT_QUERIES = one_of(
    QUESTIONS.map(lambda text: {"match": {"text": text}}),
    QUESTIONS.map(lambda text: {"match": {"text": {"query": text, "operator": "or", "boost": 2.5}}}),
    QUESTIONS.map(lambda text: {"multi_match": {"query": text, "fields": ["title", "text^2"]}}),
    QUESTIONS.map(lambda text: {"query_string": {"query": f"text:({text})"}}),
    QUESTIONS.map(lambda text: {"simple_query_string": {"query": text, "fields": ["text"]}}),
    QUESTIONS.map(
        lambda text: {"bool": {"must": [{"match": {"text": text}}], "filter": [{"range": {"n": {"gte": 5}}}]}}
    ),
    QUESTIONS.map(
        lambda text: {"bool": {"should": [{"match": {"text": text}}], "must_not": [{"term": {"kind": "b"}}]}}
    ),
    QUESTIONS.map(lambda text: {"dis_max": {"queries": [{"match": {"text": text}}, {"match": {"title": text}}]}}),
)
OTHER_QUERIES = st.sampled_from(
    [
        {"match_all": {}},
        {"term": {"kind": "a"}},
        {"range": {"n": {"gte": 3, "lt": 30}}},
        {"ids": {"values": ["1", "2", "none"]}},
        {"exists": {"field": "none"}},
        {"bool": {}},
    ]
)
BAD_QUERIES: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"nonsense": {}},
        {"match": {"text": {"quary": "x"}}},
        {"match": {}},
        {"match": []},
        {"bool": {"must": 7}},
        {"range": {"n": {"gte": "x"}}},
        {"query_string": {"query": "text:(x"}},
        [],
        "x",
        None,
    ]
)
# What may stand beside a query and leaves it one by relevance.
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "from": st.sampled_from([0, 1, 3, 25, 29]),
    "size": st.sampled_from([1, 7, 10, 30, 45]),
    "_source": st.sampled_from([True, False, "title", ["n", "ti*"], {"excludes": ["te*"]}, {"includes": []}]),
    "track_total_hits": st.sampled_from([True, False, 5]),
    "track_scores": st.booleans(),
    "sort": st.sampled_from([["_score"], "_score", [{"_score": "desc"}], ["_score", {"n": "asc"}]]),
    "aggs": st.sampled_from([{"most": {"max": {"field": "n"}}}, {"kinds": {"terms": {"field": "kind"}}}]),
    "highlight": st.sampled_from([{"fields": {"text": {}}}, {"fields": {"t*": {"number_of_fragments": 0}}}]),
    "post_filter": st.just({"term": {"kind": "a"}}),
    "min_score": st.sampled_from([0, 0.1]),
    "docvalue_fields": st.sampled_from([["n"], [{"field": "kind"}]]),
    "fields": st.sampled_from([["n"], ["t*"]]),
    "stored_fields": st.sampled_from(["_source", ["kind"]]),
    "version": st.booleans(),
    "seq_no_primary_term": st.booleans(),
    "explain": st.booleans(),
    "timeout": st.just("10s"),
    "collapse": st.just({"field": "n"}),
    "suggest": st.just({"s": {"text": "robt", "term": {"field": "text"}}}),
}
# What makes a search one that is not reranked.
UNRANKED: dict[str, st.SearchStrategy[Any]] = {
    "sort": st.sampled_from([["n"], [{"n": "desc"}], [{"_score": "asc"}], ["_doc"], {"none": "asc"}]),
    "size": st.just(0),
    "terminate_after": st.just(3),
    "rescore": st.just({"window_size": 5, "query": {"rescore_query": {"match": {"title": "robot"}}}}),
    "search_after": st.just([1]),
    "slice": st.just({"id": 0, "max": 2}),
    "stored_fields": st.just("_none_"),
    "knn": st.just({"field": "none", "query_vector": [1], "k": 1, "num_candidates": 2}),
    "nonsense": st.just(1),
}


def searches(queries: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Searches with up to four options."""
    names = st.lists(st.sampled_from(sorted(OPTIONS)), max_size=4, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {"query": queries, **{name: OPTIONS[name] for name in chosen if name not in more}, **more}
        )
    )


RELEVANT = searches(TEXT_QUERIES)
UNTOUCHED = st.sampled_from(sorted(UNRANKED)).flatmap(
    lambda name: searches(one_of(TEXT_QUERIES, OTHER_QUERIES), **{name: UNRANKED[name]})
)
ANYTHING = one_of(
    RELEVANT, UNTOUCHED, searches(OTHER_QUERIES), searches(BAD_QUERIES), st.fixed_dictionaries({}, optional=OPTIONS)
)
BAD_BODIES = st.sampled_from(
    [b"", b"{", b"[]", b"null", b"7", b"{}{}", b"\xff", b'{"query":', b'{"a":1,"a":2}', b'{"query":{}}', b"\n", b"{}\n"]
)
QUERY_BODIES = one_of(TEXT_QUERIES, OTHER_QUERIES, BAD_QUERIES).map(lambda query: as_json({"query": query}))
DOCUMENTS = st.fixed_dictionaries(
    {"text": QUESTIONS}, optional={"n": one_of(1, 2.50, -7, "x"), "kind": st.just("a"), "deep": st.just({"a": [{}]})}
)
KEYS = st.sampled_from(["1", "2", "x", "a b", "ü", "a/b", "none"])
PATH_KEYS = KEYS.map(lambda key: quote(key, safe=""))
PARAMETERS = st.sampled_from(
    [
        "pretty",
        "pretty=false",
        "human",
        "filter_path=took,hits.hits._id,error.type,count,*.found",
        "filter_path=-hits.hits._source,-_shards",
        "format=yaml",
        "format=json",
        "unknown=1",
        "routing=x",
        "preference=_local",
        "ignore_unavailable=true",
        "allow_no_indices=false",
        "expand_wildcards=none",
        "rest_total_hits_as_int=true",
        "typed_keys",
        "error_trace=false",
        "a=%C3%A9&a=2",
        "",
    ]
)
MEDIA_TYPES = st.sampled_from(
    [
        "application/json",
        "application/json; charset=UTF-8",
        "application/x-ndjson",
        "application/yaml",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/vnd.elasticsearch+json;compatible-with=7",
        "application/vnd.elasticsearch+json; compatible-with=8",
        "application/vnd.elasticsearch+json;compatible-with=9",
    ]
)
ACCEPTED = st.sampled_from(
    [
        "*/*",
        "application/json",
        "application/yaml",
        "text/html",
        "application/vnd.elasticsearch+json;compatible-with=8",
        "application/vnd.elasticsearch+json;compatible-with=9",
    ]
)
MORE_HEADERS = st.sampled_from(
    [
        ("X-Opaque-Id", "drawn"),
        ("Accept-Encoding", "gzip"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("Authorization", "Basic bm9ib2R5Om5v"),
        ("X-Elastic-Product-Origin", "kibana"),
        ("Origin", "http://x"),
    ]
)
INDICES = st.sampled_from([OTHER, OTHER, INDEX, SCRATCH, MISSING, "books-dr*", f"{OTHER},{MISSING}", "*-drawn"])
LINES = ("Content-Type", "application/x-ndjson")


@st.composite
def dressed(
    draw: st.DrawFn,
    methods: tuple[str, ...],
    targets: st.SearchStrategy[str],
    bodies: st.SearchStrategy[bytes | None],
    *,
    media_type: str = "application/json",
) -> Asked:
    """A request of a family, at times with parameters, headers, chunks or another media type."""
    asked = Asked(method=draw(st.sampled_from(methods)), target=draw(targets), body=draw(bodies))
    headers: list[tuple[str, str]] = []
    plain = draw(st.booleans())
    if asked.body is not None:
        headers.append(("Content-Type", media_type if plain else draw(one_of(media_type, MEDIA_TYPES))))
    if plain:
        return Asked(method=asked.method, target=asked.target, headers=tuple(headers), body=asked.body)
    if draw(st.booleans()):
        headers.append(("Accept", draw(ACCEPTED)))
    headers += draw(st.lists(MORE_HEADERS, max_size=2, unique_by=lambda header: header[0]))
    body = asked.body
    if body is not None and draw(st.integers(0, 7)) == 0:
        body = gzip.compress(body, mtime=0)
        headers.append(("Content-Encoding", "gzip"))
    dressed = Asked(
        method=asked.method, target=asked.target, headers=tuple(headers), body=body, chunked=draw(st.booleans())
    )
    return dressed.with_parameters(draw(PARAMETERS)) if draw(st.booleans()) else dressed


def lines_of(pairs: list[tuple[Any, Any]]) -> bytes:
    """The body of an `_msearch`."""
    return b"".join(as_json(line) + b"\n" for pair in pairs for line in pair)


NO_BODY: st.SearchStrategy[bytes | None] = st.none()
PASSED_SEARCHES = one_of(
    st.tuples(st.sampled_from([OTHER, MISSING, "*-drawn", f"{OTHER},{INDEX}"]), ANYTHING),
    st.tuples(st.just(INDEX), UNTOUCHED),
)
BULK_LINES = st.lists(
    one_of(
        st.builds(lambda key, body: [{"index": {"_id": key}}, body], KEYS, DOCUMENTS),
        st.builds(lambda key, body: [{"create": {"_id": key}}, body], KEYS, DOCUMENTS),
        st.builds(lambda key, body: [{"update": {"_id": key}}, {"doc": body}], KEYS, DOCUMENTS),
        st.builds(lambda key: [{"delete": {"_id": key}}], KEYS),
        st.just([{"nonsense": {}}]),
    ),
    max_size=4,
).map(lambda found: b"".join(as_json(line) + b"\n" for lines in found for line in lines))

READS = (
    dressed(("GET", "POST"), INDICES.map(lambda name: f"/{name}/_count"), one_of(None, QUERY_BODIES, BAD_BODIES)),
    dressed(
        ("GET", "POST"), INDICES.map(lambda name: f"/{name}/_validate/query?explain"), one_of(QUERY_BODIES, BAD_BODIES)
    ),
    dressed(
        ("GET", "POST"),
        st.tuples(INDICES, PATH_KEYS).map(lambda found: f"/{found[0]}/_explain/{found[1]}"),
        one_of(QUERY_BODIES, BAD_BODIES),
    ),
    dressed(("GET", "POST"), INDICES.map(lambda name: f"/{name}/_field_caps?fields=t*,n"), one_of(None, b"{}")),
    dressed(
        ("GET", "POST"),
        INDICES.map(lambda name: f"/{name}/_mget"),
        one_of(BAD_BODIES, st.lists(KEYS, max_size=3).map(lambda keys: as_json({"ids": keys}))),
    ),
    dressed(
        ("GET", "HEAD"),
        st.tuples(INDICES, st.sampled_from(["_doc", "_source"]), PATH_KEYS).map(lambda found: "/" + "/".join(found)),
        NO_BODY,
    ),
    dressed(("GET",), INDICES.map(lambda name: f"/_cat/indices/{name}?h=index,docs.count&s=index"), NO_BODY),
    dressed(("GET",), st.sampled_from([f"/_cat/count/{OTHER}?h=count", "/_cat", "/_cat/nothing"]), NO_BODY),
    dressed(("HEAD", "GET"), st.sampled_from([f"/{OTHER}", f"/{MISSING}", "/", f"/{OTHER}/_mapping"]), NO_BODY),
    dressed(
        ("GET", "POST", "PUT", "HEAD", "OPTIONS"),
        st.sampled_from(
            [
                f"/{OTHER}/_nothing",
                "/_nothing",
                f"/{OTHER}//_search",
                f"/{OTHER}/_search/nothing",
                "/%zz",
                f"/{OTHER}/_SEARCH",
                "/_async_search/none",
                f"/{OTHER}/_async_search",
                f"/{OTHER}/_eql/search",
                "/_sql",
                f"/{OTHER}/_termvectors/1?fields=text",
                f"/{OTHER}/_knn_search",
                "/_nodes?filter_path=nodes.*.version",
                f"/{OTHER}/_settings?flat_settings",
                f"/{OTHER}/_analyze?error_trace=false",
            ]
        ),
        one_of(None, QUERY_BODIES),
    ),
    dressed(
        ("GET", "POST"),
        st.just(f"/{OTHER}/_analyze"),
        one_of(QUESTIONS.map(lambda text: as_json({"field": "text", "text": text})), BAD_BODIES),
    ),
)
SEARCHED = (
    PASSED_SEARCHES.flatmap(
        lambda found: dressed(("GET", "POST"), st.just(f"/{found[0]}/_search"), st.just(as_json(found[1])))
    ),
    dressed(("GET", "POST", "PUT", "DELETE"), st.just(f"/{OTHER}/_search"), one_of(None, BAD_BODIES)),
    PASSED_SEARCHES.flatmap(
        lambda found: dressed(
            ("GET", "POST"),
            st.just(f"/{found[0]}/_search?source={quote(as_json(found[1]))}&source_content_type=application/json"),
            NO_BODY,
        )
    ),
    dressed(
        ("GET", "POST"),
        st.sampled_from(
            [
                f"/{OTHER}/_search?q=text:robot&size=3",
                f"/{OTHER}/_search?q=text:(x",
                f"/{OTHER}/_search?size=-1",
                f"/{OTHER}/_search?size=x",
                f"/{OTHER}/_search?from=9999&size=2",
                f"/{OTHER}/_search?sort=n:desc&_source=n",
                f"/{INDEX}/_search?sort=n:desc&size=2",
                f"/{INDEX}/_search?q=text:robot&sort=n",
            ]
        ),
        one_of(None, b"{}"),
    ),
    dressed(
        ("GET", "POST"),
        st.sampled_from(["/_msearch", f"/{OTHER}/_msearch", f"/{MISSING}/_msearch"]),
        one_of(
            st.lists(st.tuples(st.just({"index": OTHER}), ANYTHING), max_size=4).map(lines_of),
            st.lists(PASSED_SEARCHES.map(lambda found: ({"index": found[0]}, found[1])), max_size=3).map(lines_of),
            BAD_BODIES,
        ),
        media_type=LINES[1],
    ),
)
STEPS = (
    dressed(("POST", "GET"), st.just(f"/{INDEX}/_search?scroll=5m"), RELEVANT.map(as_json)),
    dressed(("POST", "GET"), st.just("/_search/scroll"), st.just(as_json({"scroll": "5m", "scroll_id": SCROLL}))),
    dressed(("DELETE",), st.just("/_search/scroll"), st.just(as_json({"scroll_id": SCROLL}))),
    dressed(
        ("POST",),
        st.sampled_from([f"/{OTHER}/_pit?keep_alive=5m", f"/{OTHER}/_search/point_in_time?keep_alive=5m"]),
        NO_BODY,
    ),
    dressed(
        ("POST", "GET"),
        st.just("/_search"),
        searches(TEXT_QUERIES, pit=st.just({"id": PIT, "keep_alive": "5m"}), sort=st.just(["n"])).map(as_json),
    ),
    dressed(("DELETE",), st.just("/_pit"), st.just(as_json({"id": PIT}))),
    dressed(("DELETE",), st.just("/_search/point_in_time"), st.just(as_json({"pit_id": [PIT]}))),
)
WRITES = (
    dressed(
        ("PUT", "POST"),
        PATH_KEYS.map(lambda key: f"/{SCRATCH}/_doc/{key}"),
        one_of(DOCUMENTS.map(as_json), BAD_BODIES),
    ),
    dressed(("PUT", "POST"), PATH_KEYS.map(lambda key: f"/{SCRATCH}/_create/{key}"), DOCUMENTS.map(as_json)),
    dressed(
        ("POST",),
        PATH_KEYS.map(lambda key: f"/{SCRATCH}/_update/{key}"),
        one_of(DOCUMENTS.map(lambda found: as_json({"doc": found})), BAD_BODIES),
    ),
    dressed(("DELETE",), PATH_KEYS.map(lambda key: f"/{SCRATCH}/_doc/{key}"), NO_BODY),
    dressed(("POST", "PUT"), st.just(f"/{SCRATCH}/_bulk"), one_of(BULK_LINES, BAD_BODIES), media_type=LINES[1]),
    dressed(("POST", "GET"), st.just(f"/{SCRATCH}/_refresh"), NO_BODY),
)
REQUESTS: st.SearchStrategy[Asked] = st.one_of(*READS, *SEARCHED, *SEARCHED, *STEPS, *WRITES)
