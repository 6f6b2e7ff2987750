"""The one request that fetches the window, and what is read from its answer: hits, scores and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.query_string import parse_query
from es_rerank.proxy.search.window import WindowPlan, plan_plain, plan_window, read_answer, read_texts
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


def planned(search: Any = FOX, query: str = "", fields: tuple[str, ...] = ("text",)) -> tuple[WindowPlan, Any]:
    """The plan for a search, and the body that it sends."""
    plan = plan_window(call_of(search, query), decision_of(*fields))
    assert isinstance(plan.request.body, bytes | None)
    return plan, json.loads(plan.request.body or b"null")


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
    assert not plan.text_in_fields
    assert not plan.added_fields


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
    ("search", "query"),
    [
        ({}, ""),
        ({"_source": True}, ""),
        ({"_source": "*"}, ""),
        ({"_source": ["*"]}, ""),
        ({"_source": []}, ""),
        ({"_source": {}}, ""),
        ({"_source": False}, "_source=true"),
        ({"_source": ["title"]}, "_source=*"),
        ({"stored_fields": ["title"], "_source": True}, ""),
        ({"docvalue_fields": ["year"], "fields": ["title"]}, ""),
    ],
)
def test_a_search_with_all_of_its_source_is_sent_as_it_is(search: dict[str, Any], query: str) -> None:
    """If every hit has its whole `_source`, the text is in it, and the search is sent unchanged."""
    plan, body = planned({**FOX, **search}, query)
    assert body == {**FOX, **search}
    assert not plan.text_in_fields


@pytest.mark.parametrize(
    ("search", "query", "added"),
    [
        ({"_source": False}, "", ["text", "title"]),
        ({"_source": ["title"]}, "", ["text", "title"]),
        ({"_source": "title"}, "", ["text", "title"]),
        ({"_source": {"excludes": ["text"]}}, "", ["text", "title"]),
        ({"stored_fields": []}, "", ["text", "title"]),
        ({"stored_fields": ["title"]}, "", ["text"]),
        ({"script_fields": {"x": {"script": "1"}}}, "", ["text", "title"]),
        ({}, "_source=false", ["text", "title"]),
        ({}, "_source=title", ["text", "title"]),
        ({}, "_source_includes=title", ["text", "title"]),
        ({}, "_source_excludes=text", ["text", "title"]),
        ({"_source": True}, "_source_excludes=text", ["text", "title"]),
        ({}, "_source=true&_source_excludes=text", ["text", "title"]),
        ({}, "stored_fields=title", ["text"]),
    ],
)
def test_hidden_text_is_asked_for_as_fields(search: dict[str, Any], query: str, added: list[str]) -> None:
    """If `_source` may lack the text, the rule's fields are asked for as `fields`, and noted as added by us."""
    plan, body = planned({**FOX, **search}, query, ("title", "text"))
    assert plan.text_in_fields
    assert plan.added_fields == set(added)
    assert body == {**FOX, **search, "fields": added}


@pytest.mark.parametrize(
    ("search", "query", "added", "fields"),
    [
        ({"fields": ["text"]}, "", set(), ["text"]),
        ({"fields": [{"field": "te*"}]}, "", set(), [{"field": "te*"}]),
        ({"fields": ["year"]}, "", {"text"}, ["year", "text"]),
        (
            {"fields": [{"field": "year", "format": "x"}, 7]},
            "",
            {"text"},
            [{"field": "year", "format": "x"}, 7, "text"],
        ),
        ({"fields": "year"}, "", {"text"}, ["year", "text"]),
        ({"fields": None}, "", {"text"}, [None, "text"]),
        ({"docvalue_fields": ["text"]}, "", set(), None),
        ({"docvalue_fields": [{"field": "text"}]}, "", set(), None),
        ({"stored_fields": "text"}, "", set(), None),
        ({"script_fields": {"text": {}}}, "", set(), None),
        ({"script_fields": [1]}, "", {"text"}, ["text"]),
        ({"collapse": {"field": "text"}}, "", set(), None),
        ({}, "docvalue_fields=year,text", set(), None),
        ({}, "stored_fields=text", set(), None),
    ],
)
def test_what_the_client_asks_itself_is_the_client_s(
    search: dict[str, Any], query: str, added: set[str], fields: list[Any] | None
) -> None:
    """A field that the answer's `fields` would hold anyway is neither asked for again nor taken out later."""
    search = {**FOX, "_source": False, **search}
    plan, body = planned(search, query)
    assert plan.added_fields == added
    assert body == (search if fields is None else {**search, "fields": fields})


def test_hidden_text_is_asked_for_without_a_body() -> None:
    """A URI search that hides its source gets a body for the fields alone."""
    plan = plan_window(call_of(None, "q=fox&_source=false"), decision_of("text"))
    assert plan.request.body == b'{"fields":["text"]}'
    assert plan.request.target == b"/notes/_search?q=fox&_source=false&from=0&size=100"


def test_hidden_text_is_asked_for_in_a_source_parameter() -> None:
    """If the body is in the URL, the fields are added to it there."""
    target = b'/_search?source={"_source":false,"size":1}&source_content_type=application/json'
    plan = plan_window(call_of(None, target=target), decision_of("text"))
    sent = parse_query(plan.request.target.partition(b"?")[2])
    assert json.loads(sent["source"]) == {"_source": False, "size": 1, "fields": ["text"]}
    assert (sent["from"], sent["size"]) == ("0", "100")
    assert plan.request.body is None


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
        answer_of({"_id": "1", "_score": 1.0, "_source": {"text": "\ud800"}}),
        answer_of({"_id": "1", "_score": 1.0, "_source": 7}).replace(b"7", b"[" * 5000 + b"]" * 5000),
    ],
)
def test_what_is_no_ranked_answer_is_not_read(body: bytes) -> None:
    """An error, another format, hits without scores or JSON that can't be read gives None."""
    assert read_answer(body) is None


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


@pytest.mark.parametrize("engine", GOLDEN)
def test_hidden_text_is_found_in_a_real_answer(engine: str) -> None:
    """Both engines answer `fields` in their own way, nested ones too, and both give the same texts."""
    answer = read_answer(GOLDEN[engine]["hidden"]["window"].encode())
    assert answer is not None
    plan = plan_window(call_of(GOLDEN[engine]["hidden"]["search"]), decision_of("title", "parts.head", "text"))
    assert read_texts(answer, plan, decision_of("title", "parts.head", "text")) == (
        "Fox two fox again\nfirst head second head\nfox fox fox",
        "a fox in a forest",
        "Fox one\nthe quick brown fox jumps over the lazy dog",
    )


def test_only_the_window_is_read_and_every_hit_of_it() -> None:
    """Texts are parallel to the window's hits: as many as there are, at most as many as it holds."""
    plan = WindowPlan(request=call_of(FOX).carrier.request, text_in_fields=False, added_fields=frozenset())
    hits = [{"_score": 1.0, "_source": {"text": f"t{number}"}} for number in range(5)]
    answer = read_answer(answer_of(*hits))
    assert answer is not None
    assert read_texts(answer, plan, decision_of("text", window=3)) == ("t0", "t1", "t2")
    assert read_texts(answer, plan, decision_of("text", window=9)) == ("t0", "t1", "t2", "t3", "t4")


def test_a_hit_that_cannot_be_read_is_alone_without_text() -> None:
    """A hit without a readable source (missing, not an object, not Unicode, too deep) costs no other hit its text."""
    plan = WindowPlan(request=call_of(FOX).carrier.request, text_in_fields=False, added_fields=frozenset())
    sources = [b'{"text":"a"}', b"7", b"null", b'{"text":"\xff"}', b'{"text":' + b"[" * 700 + b"]" * 700 + b"}"]
    hits = b",".join(b'{"_score":1.0,"_source":' + source + b"}" for source in sources)
    answer = read_answer(b'{"hits":{"hits":[' + hits + b',{"_score":1.0},{"_score":1.0,"_source":{"text":"b"}}]}}')
    assert answer is not None
    assert read_texts(answer, plan, decision_of("text")) == ("a", None, None, None, None, None, "b")


def test_texts_are_read_where_the_plan_says() -> None:
    """If the text was asked for as `fields`, it is read only from `fields`, else only from `_source`."""
    answer = read_answer(answer_of({"_score": 1.0, "_source": {"text": "source"}, "fields": {"text": ["field"]}}))
    assert answer is not None
    for in_fields, text in ((False, "source"), (True, "field")):
        plan = WindowPlan(request=call_of(FOX).carrier.request, text_in_fields=in_fields, added_fields=frozenset())
        assert read_texts(answer, plan, decision_of("text")) == (text,)


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
