"""The one request that fetches the window, and what is read from its answer: hits, scores and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.query_string import parse_query
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from tests.proxy.search.calls import call_of, decision_of

GOLDEN = {
    name: json.loads((Path(__file__).parents[2] / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("opensearch", "elasticsearch")
}
FOX = {"query": {"match": {"text": "fox"}}}
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("start", "page_size", "size"), [(0, 10, 100), (90, 10, 100), (95, 10, 105), (99, 1, 100), (0, 500, 500)]
)
def test_the_window_and_the_page_are_fetched_at_once(start: int, page_size: int, size: int) -> None:
    """The request asks for hits from the first one on: as many as the window has, more only if the page needs more."""
    plan = plan_window(call_of(FOX), decision_of("text", start=start, size=page_size))
    assert plan.request.target == b"/notes/_search?from=0&size=%d" % size


def test_body_and_headers_stay_as_they_are() -> None:
    """The page is asked for in the URL, where it wins, so that the engine's request cache still knows the body."""
    call = call_of({**FOX, "from": 20, "size": 5}, "size=7&pretty&from=1&typed_keys", (b"X-Opaque-Id", b"7"))
    plan = plan_window(call, decision_of("text"))
    assert plan.request.target == b"/notes/_search?pretty&typed_keys&from=0&size=100"
    assert plan.request.body == call.carrier.request.body
    assert plan.request.headers == call.carrier.request.headers
    assert plan.cut is None


def test_parameters_go_with_the_window_as_they_were_written() -> None:
    """How a search is run, and on what: unknown, repeated and empty ones too, to the letter and in their order."""
    query = (
        "project_routing=_alias:p*&preference=a%20b&routing=r&search_type=dfs_query_then_fetch&batched_reduce_size=2"
        "&max_concurrent_shard_requests=3&pre_filter_shard_size=4&ccs_minimize_roundtrips=false&ignore_unavailable"
        "&allow_no_indices=false&expand_wildcards=open,hidden&ignore_throttled=false&request_cache=true&timeout=1s"
        "&cancel_after_time_interval=2s&allow_partial_search_results=false&rest_total_hits_as_int=true&typed_keys"
        "&human&error_trace=true&lenient=&&x=1&x=2&%6eew=%2F+"
    )
    call = call_of(FOX, query)
    asked = plan_window(call, decision_of("text")).request.target
    assert asked == b"/notes/_search?" + query.encode() + b"&from=0&size=100"
    assert plan_plain(call).target == b"/notes/_search?" + query.encode()


@pytest.mark.parametrize("filter_path", ["hits.hits._id", "-hits.hits._source", "took"])
def test_a_filter_is_kept_from_the_engine(filter_path: str) -> None:
    """The engine gets a filter that hides nothing but makes it write values as it does when it filters."""
    target = plan_window(call_of(FOX, f"filter_path={filter_path}&pretty"), decision_of("text")).request.target
    assert parse_query(target.partition(b"?")[2]) == {
        "pretty": "",
        "filter_path": "**",
        "from": "0",
        "size": "100",
    }
    plain = plan_plain(call_of(FOX, f"from=3&filter_path={filter_path}&pretty"))
    assert plain.target == b"/notes/_search?from=3&pretty&filter_path=%2A%2A"


@pytest.mark.parametrize("query", ["", "from=3&pretty", "filter_path=", "filter_path=,"])
def test_a_filter_for_nothing_is_none(query: str) -> None:
    """A filter without any path changes nothing, so none is sent."""
    assert b"*" not in plan_plain(call_of(FOX, query)).target
    assert b"%2A" not in plan_plain(call_of(FOX, query)).target


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [(None, None), (b"gzip, br", b"gzip"), (b"br", b"identity")],
)
def test_only_readable_codings_are_asked_for(accepted: bytes | None, asked: bytes | None) -> None:
    """The engine is asked only for codings that we can read, whatever the client accepts."""
    headers = () if accepted is None else ((b"Accept-Encoding", accepted),)
    for request in (
        plan_window(call_of(FOX, "", *headers), decision_of("text")).request,
        plan_plain(call_of(FOX, "", *headers)),
    ):
        assert request.header(b"accept-encoding") == asked


@pytest.mark.parametrize(
    ("search", "query", "asked"),
    [
        ({}, "", {}),
        ({"_source": ["title", "te*"]}, "", {}),
        ({"_source": {"excludes": ["vector"]}}, "pretty", {"pretty": ""}),
        ({"_source": False}, "", {"_source_includes": "title,text"}),
        ({"stored_fields": ["title"]}, "", {"_source_includes": "title,text"}),
        ({"_source": ["year"]}, "_source_includes=title&pretty", {"pretty": "", "_source_includes": "title,text"}),
        ({"_source": {"excludes": ["text", "vector"]}}, "", {"_source_excludes": "vector"}),
    ],
)
def test_hidden_text_is_asked_for_in_the_url(search: dict[str, Any], query: str, asked: dict[str, str]) -> None:
    """If `_source` would lack some of the text, parameters ask for it beside what the client sees; the body stays."""
    call = call_of({**FOX, **search}, query)
    plan = plan_window(call, decision_of("title", "text"))
    sent = parse_query(plan.request.target.partition(b"?")[2])
    assert sent == {**asked, "from": "0", "size": "100"}
    assert plan.request.body == call.carrier.request.body
    assert (plan.cut is not None) is any(name.startswith("_source") for name in asked)


def test_hidden_text_is_asked_for_where_there_is_no_body() -> None:
    """A search in its URL alone gets no body, and so no media type that the engine could refuse."""
    call = call_of(None, "q=fox&_source=false", (b"Accept", b"application/vnd.elasticsearch+json; compatible-with=8"))
    plan = plan_window(call, decision_of("text"))
    assert plan.request.target == b"/notes/_search?q=fox&from=0&size=100&_source_includes=text"
    assert plan.request.body is None
    assert plan.request.headers == call.carrier.request.headers


def test_a_filter_that_is_too_long_for_a_url_is_not_sent() -> None:
    """If the first line of the request would become too long for an engine, all of `_source` is asked for instead."""
    long = {"_source": [f"a_field_of_a_long_name_{number}" for number in range(300)]}
    plan = plan_window(call_of({**FOX, **long}), decision_of("text"))
    assert plan.request.target == b"/notes/_search?from=0&size=100&_source_includes=%2A"
    assert plan.cut is not None
    assert list(plan.cut.includes) == long["_source"]


@pytest.mark.parametrize("engine", GOLDEN)
def test_a_real_answer_is_opened(engine: str) -> None:
    """Every hit of an engine's answer, compact or pretty, is there with its score, in order."""
    for look in ("plain", "everything", "pretty"):
        answer = read_answer(GOLDEN[engine][look].encode())
        assert answer is not None
        expected = json.loads(GOLDEN[engine]["plain"])
        assert [json.loads(bytes(hit["_source"])) for hit in answer.hits] == [
            hit["_source"] for hit in expected["hits"]["hits"]
        ]
        assert list(answer.scores) == [hit["_score"] for hit in expected["hits"]["hits"]]
        assert answer.complete
        assert list(answer.top) == list(expected)


def answer_of(*hits: Any, **top: Any) -> bytes:
    """An engine's answer with these hits."""
    return json.dumps({"took": 1, **top, "hits": {"max_score": 1.0, "hits": hits}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"---\ntook: 1\n",
        b'{"took":1',
        b'{"hits":null}',
        b'{"hits":{}}',
        b'{"hits":{"hits":{}}}',
        b'{"hits":{"hits":[1]}}',
        answer_of({"_id": "1"}),
        answer_of({"_id": "1", "_score": None}),
        answer_of({"_id": "1", "_score": "1.0"}),
        answer_of({"_id": "1", "_score": 1.0}, _shards=None),
        answer_of({"_id": "1", "_score": 7}).replace(b"7", b"1e999"),
        answer_of({"_id": "1", "_score": 7}).replace(b"7", b"NaN"),
        answer_of({"_id": "1", "_score": 1e300}),
        answer_of({"_id": "1", "_score": 7}).replace(b"7", b"[" * 5000 + b"]" * 5000),
    ],
)
def test_what_is_no_ranked_answer_is_not_read(body: bytes) -> None:
    """An error, another format, hits without scores or JSON that can't be read gives None."""
    assert read_answer(body) is None


@pytest.mark.parametrize(
    "spoiled",
    [
        rb'{"other":"\ud800","text":"a"}',
        rb'{"other":"\ud800 } ] , \" \\","text":"a"}',
        b'{"other":' + b"[" * 2000 + b"]" * 2000 + b',"text":"a"}',
        b'{"other":"\xff","text":"a"}',
    ],
)
def test_a_field_that_cannot_be_read_spoils_nothing_else(spoiled: bytes) -> None:
    """Half a surrogate pair or deep nesting in a field that nobody reads costs no text, and no byte of the answer."""
    hits = b'{"_score":2.0,"_source":%s},{"_score":1.0,"_source":{"text":"b"}}' % spoiled
    answer = read_answer(b'{"took":1,"hits":{"max_score":2.0,"hits":[%s]}}' % hits)
    assert answer is not None
    assert read_texts(answer, decision_of("text")).texts == ("a", "b")
    assert bytes(answer.hits[0]["_source"]) == spoiled


@pytest.mark.parametrize("text", [rb"\ud800", b"\xff"])
def test_a_text_that_cannot_be_read_spoils_itself(text: bytes) -> None:
    """The one document whose text has half a surrogate pair has no text."""
    body = b'{"hits":{"hits":[{"_score":2.0,"_source":{"text":"%s"}},{"_score":1.0,"_source":{"text":"b"}}]}}' % text
    answer = read_answer(body)
    assert answer is not None
    assert read_texts(answer, decision_of("text")).texts == (None, "b")


def test_an_answer_without_hits_is_read() -> None:
    """An answer without hits and without totals is read too."""
    answer = read_answer(b'{"hits":{"max_score":null,"hits":[]}}')
    assert answer is not None
    assert (answer.hits, answer.scores, answer.complete) == ((), (), True)


@pytest.mark.parametrize(
    ("top", "complete"),
    [
        ({}, True),
        ({"timed_out": False, "_shards": {"total": 2, "failed": 0}}, True),
        ({"timed_out": True}, False),
        ({"timed_out": None}, False),
        ({"_shards": {"total": 2, "failed": 1, "failures": [{}]}}, False),
        ({"_clusters": {"total": 2, "successful": 2, "skipped": 0}}, True),
        ({"_clusters": {"total": 2, "successful": 1, "skipped": 1}}, False),
    ],
)
def test_a_partial_answer_is_known_as_one(top: dict[str, Any], complete: bool) -> None:
    """An answer with a time-out, a failed shard or a skipped cluster is not complete."""
    answer = read_answer(answer_of({"_score": 1.0}, **top))
    assert answer is not None
    assert answer.complete is complete


@given(SOME_JSON, st.sampled_from(["top", "hits", "inner", "hit"]))
def test_reading_an_answer_never_fails(value: Any, place: str) -> None:
    """Whatever JSON stands anywhere in an answer, reading it gives an answer or None."""
    bodies = {
        "top": value,
        "hits": {"hits": value},
        "inner": {"hits": {"hits": value}},
        "hit": {"hits": {"hits": [value]}},
    }
    read_answer(json.dumps(bodies[place]).encode())


def test_only_the_window_is_read_and_every_hit_of_it() -> None:
    """Texts are parallel to the window's hits: as many as there are, at most as many as it holds."""
    hits = [{"_score": 1.0, "_source": {"text": f"t{number}"}} for number in range(5)]
    answer = read_answer(answer_of(*hits))
    assert answer is not None
    assert read_texts(answer, decision_of("text", window=3)).texts == ("t0", "t1", "t2")
    assert read_texts(answer, decision_of("text", window=9)).texts == ("t0", "t1", "t2", "t3", "t4")


def test_a_hit_that_cannot_be_read_is_alone_without_text() -> None:
    """A hit without a readable source (missing, not an object, not Unicode, too deep) costs no other hit its text."""
    sources = [b'{"text":"a"}', b"7", b"null", b'{"text":"\xff"}', b'{"text":' + b"[" * 700 + b"]" * 700 + b"}"]
    hits = b",".join(b'{"_score":1.0,"_source":' + source + b"}" for source in sources)
    answer = read_answer(b'{"hits":{"hits":[' + hits + b',{"_score":1.0},{"_score":1.0,"_source":{"text":"b"}}]}}')
    assert answer is not None
    assert read_texts(answer, decision_of("text")).texts == ("a", None, None, None, None, None, "b")


def test_hits_are_known_by_index_and_id() -> None:
    """Each hit has its two names, whatever characters are in them, and empty ones where the engine left them out."""
    hits = [
        {"_index": "notes", "_id": 'a"\u00e9/1', "_score": 2.0},
        {"_index": "eu:notes", "_score": 1.0},
        {"_score": 0.5},
    ]
    answer = read_answer(answer_of(*hits))
    assert answer is not None
    assert answer.ids == (("notes", 'a"é/1'), ("eu:notes", ""), ("", ""))


@pytest.mark.parametrize(
    ("index", "system"),
    [("notes", False), (".kibana", True), ("eu:.kibana", True), ("eu:notes", False), ("no.tes", False), (None, False)],
)
def test_hits_of_system_indices_are_known(index: str | None, system: bool) -> None:
    """One hit of a system index among others is found, on a remote cluster too."""
    hit = {"_score": 1.0} if index is None else {"_score": 1.0, "_index": index}
    answer = read_answer(answer_of({"_score": 2.0, "_index": "notes"}, hit))
    assert answer is not None
    assert answer.has_system_hits is system
