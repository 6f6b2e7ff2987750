"""Many searches in one request, through the whole system: next to the engine itself, and next to each search alone."""

from __future__ import annotations

import json
import random
import re
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT
from tests.conftest import Engine, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.conftest import System

COUNTED_LIMIT_S = 30.0
INDEX = "films-many"
NARROW = "films-narrow"
OTHER = "books-many"
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
TOOK = re.compile(rb'"took"( ?: ?)[0-9]+')
MATCH = {"query": {"match": {"text": "a robot who finds love on an island"}}}
HEADERS = st.sampled_from(
    [
        {"index": INDEX},
        {"index": [INDEX]},
        {"index": OTHER},
        {"index": f"{INDEX}-none"},
        {"index": [INDEX, f"{INDEX}-none"], "ignore_unavailable": True},
        {"index": NARROW},
        {"index": INDEX, "preference": "_local", "search_type": "dfs_query_then_fetch", "routing": "x"},
    ]
)
SEARCHES = st.fixed_dictionaries(
    {
        "query": st.sampled_from(
            [
                MATCH["query"],
                {"bool": {"must": [{"match": {"text": "queen of glass"}}], "filter": [{"exists": {"field": "title"}}]}},
                {"match_all": {}},
                {"term": {"title": "film"}},
            ]
        )
    },
    optional={
        "from": st.sampled_from([0, 3, 25, 120]),
        "size": st.sampled_from([0, 1, 7, 40]),
        "_source": st.sampled_from([False, ["title"], {"excludes": ["te*"]}, "n*"]),
        "track_total_hits": st.booleans(),
        "sort": st.sampled_from([["_score"], [{"n": "asc"}]]),
        "aggs": st.just({"most": {"max": {"field": "n"}}}),
        "highlight": st.just({"fields": {"text": {}}}),
    },
)
PARAMETERS = st.sampled_from(
    ["", "?typed_keys", "?rest_total_hits_as_int=true", "?max_concurrent_searches=2", "?search_type=query_then_fetch"]
)


@pytest.fixture(scope="module", params=("osmem", "opensearch", "elasticsearch"))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Films on an engine, in an index that takes no window, and in one that no rule covers."""
    if request.param == "osmem":
        engine = Engine("osmem", request.getfixturevalue("osmem_url"))
    else:
        engine = request.getfixturevalue(request.param)
    chance = random.Random(5)
    films = {
        f"f{number}": {"title": f"Film {number}", "n": number, "text": " ".join(chance.choices(WORDS, k=12))}
        for number in range(40)
    }
    for index in (INDEX, NARROW, OTHER):
        engine.load(index, films)
    if engine.name != "osmem":
        send_json(f"{engine.url}/{NARROW}/_settings", {"index.max_result_window": 50}, method="PUT")
    return engine


@pytest.fixture(scope="module")
def system(engine: Engine, system_on: Callable[[Engine], System]) -> System:
    """The system before it."""
    return system_on(engine)


def ask(url: str, target: str, body: bytes, media_type: str = "application/x-ndjson") -> tuple[int, bytes]:
    """Status and body of an answer, without the times that the engine took."""
    request = urllib.request.Request(url + target, body, {"content-type": media_type}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, TOOK.sub(rb'"took"\g<1>0', reply.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def lines_of(pairs: Sequence[tuple[Any, Any]]) -> bytes:
    """The body of an `_msearch`."""
    return b"".join(json.dumps(line).encode() + b"\n" for pair in pairs for line in pair)


def split(body: bytes) -> list[bytes]:
    """The answers in an answer, each as its own bytes."""
    return [bytes(one) for one in RAW_LIST.decode(RAW_OBJECT.decode(body)["responses"])]


def hits_in(answer: bytes) -> list[dict[str, Any]]:
    """The hits of one answer."""
    hits: list[dict[str, Any]] = json.loads(answer)["hits"]["hits"]
    return hits


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(HEADERS, SEARCHES), min_size=1, max_size=6), parameters=PARAMETERS)
def test_each_answer_is_that_of_its_search_alone(
    engine: Engine, system: System, pairs: list[tuple[dict[str, Any], dict[str, Any]]], parameters: str
) -> None:
    """Through us as a search of its own does, hit by hit; and where it is not ours, the engine's own bytes."""
    status, direct = ask(engine.url, f"/_msearch{parameters}", lines_of(pairs))
    through = ask(system.url, f"/_msearch{parameters}", lines_of(pairs))
    assert through[0] == status == 200
    for pair, own, ours in zip(pairs, split(direct), split(through[1]), strict=True):
        blocked = [(pair[0], {**pair[1], "ext": {"es_rerank": {"include": ["status"]}}})]
        [told] = split(ask(system.url, f"/_msearch{parameters}", lines_of(blocked))[1])
        block = json.loads(told).get("_es_rerank", {"status": "refused"})
        if block["status"] != "full" or not block["window"]:
            assert ours == own
            continue
        index = pair[0]["index"] if isinstance(pair[0]["index"], str) else ",".join(pair[0]["index"])
        wanted = [f"{key}={str(value).lower()}" for key, value in pair[0].items() if key != "index"]
        if "typed" in parameters or "rest_total" in parameters:
            wanted.append(parameters[1:])
        alone = ask(
            system.url, f"/{index}/_search?{'&'.join(wanted)}", json.dumps(pair[1]).encode(), "application/json"
        )
        assert {**json.loads(ours), "status": 0} == {**json.loads(alone[1]), "status": 0}


def test_a_window_that_the_engine_refuses_costs_no_search_its_hits(engine: Engine, system: System) -> None:
    """The index takes no more than 50 hits: its searches keep the engine's order, and the other one is reranked."""
    if engine.name == "osmem":
        pytest.skip("the embedded engine does not refuse a window")
    wish = {**MATCH, "ext": {"es_rerank": {"include": ["status"]}}}
    pairs = [({"index": INDEX}, wish), ({"index": NARROW}, wish), ({"index": NARROW}, MATCH)]
    first, second, third = split(ask(system.url, "/_msearch", lines_of(pairs))[1])
    assert json.loads(first)["_es_rerank"]["status"] == "full"
    assert json.loads(second)["_es_rerank"]["reason"] == "engine_refused"
    assert [third] == split(ask(engine.url, "/_msearch", lines_of([({"index": NARROW}, MATCH)]))[1])


def test_two_hundred_searches_come_back_in_order(engine: Engine, system: System) -> None:
    """Pages of one hit tile the list that one page has; every second search is the engine's."""
    pairs = [
        ({"index": OTHER if place % 2 else INDEX}, {**MATCH, "from": place // 2 % 30, "size": 1})
        for place in range(200)
    ]
    answers = split(ask(system.url, "/_msearch", lines_of(pairs))[1])
    for index, url, given_answers in ((INDEX, system.url, answers[::2]), (OTHER, engine.url, answers[1::2])):
        [whole] = split(ask(url, "/_msearch", lines_of([({"index": index}, {**MATCH, "size": 30})]))[1])
        expected = hits_in(whole)
        for place, answer in enumerate(given_answers):
            assert hits_in(answer) == expected[place % 30 : place % 30 + 1]


@pytest.mark.parametrize("target", [f"/{INDEX}/_msearch", f"/_msearch?index={INDEX}", "/_msearch"])
def test_an_index_in_the_path_holds_for_empty_header_lines(engine: Engine, system: System, target: str) -> None:
    """Lines `{}` and empty ones too; without any index, no rule covers the search."""
    wish = json.dumps({**MATCH, "ext": {"es_rerank": {"include": ["status"]}}}).encode()
    status, body = ask(system.url, target, b"{}\n%b\n\n%b\n" % (wish, wish))
    plain = json.dumps(MATCH).encode()
    assert status == ask(engine.url, target, b"{}\n%b\n\n%b\n" % (plain, plain))[0]
    if status == 200:
        reasons = [json.loads(answer)["_es_rerank"]["reason"] for answer in split(body)]
        assert reasons == [None if INDEX in target else "no_rule"] * 2


@pytest.mark.parametrize(
    "body",
    [
        b"{}\n{}",
        b"\n{}\n",
        b"\n\n{}\n",
        b"{}\n",
        b"",
        b'{"index":"films-many"}\n{"query":{"match":{"text":"love"}}}\n{}\n',
        b'{"odd":1}\n{"query":{"match":{"text":"love"}}}\n',
        b'{"index":"films-many"}\n{"query":{"match":{"text":"love"}},"odd":1}\n',
        b'{"index":"films-many"}\n{"query":{"match":{"text":"love"}}}\n{}\n{"size":-5}\n',
        b'{"index":"films-many"}\r\n{"query":{"match_all":{}},"size":1}\r\n',
        b'{"index":"films-many"}\n[]\n',
        b'{"index":7}\n{"query":{"match":{"text":"love"}}}\n',
    ],
)
def test_what_an_engine_refuses_as_a_whole_is_refused_in_its_words(engine: Engine, system: System, body: bytes) -> None:
    """A missing last line end, lines that are no JSON, keys that it does not know."""
    direct, through = ask(engine.url, "/_msearch", body), ask(system.url, "/_msearch", body)
    assert through[0] == direct[0]
    if b'"match"' not in body or direct[0] != 200:
        assert through == direct


PIECES = st.sampled_from(
    [
        b"{}",
        b"\n",
        b"\r\n",
        b" ",
        b'{"index":"films-many"}',
        b'{"index":["books-many"]}',
        b'{"index":',
        b"]",
        b"\x00",
        b"\xff",
        json.dumps(MATCH).encode(),
        b'{"query":{"match":{"text":"love"}},"size":1}',
        b'{"size":1,"size":2}',
        b"7",
        b'"a"',
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(PIECES, max_size=8).map(b"".join) | st.binary(max_size=40))
def test_no_body_gets_another_status_than_from_the_engine(engine: Engine, system: System, body: bytes) -> None:
    """Broken lines of every kind: no failure of ours, and an answer that is not reranked is the engine's."""
    direct, through = ask(engine.url, "/_msearch", body), ask(system.url, "/_msearch", body)
    assert through[0] == direct[0]
    if b"match" not in body:
        assert through == direct


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/x-ndjson; charset=utf-8",
        "application/vnd.elasticsearch+x-ndjson;compatible-with=8",
    ],
)
def test_lines_are_read_under_every_media_type_of_the_engine(engine: Engine, system: System, media_type: str) -> None:
    """Where the engine takes a media type, the search in it is reranked."""
    wish = {**MATCH, "ext": {"es_rerank": {"include": ["status"]}}}
    status, body = ask(system.url, "/_msearch", lines_of([({"index": INDEX}, wish)]), media_type)
    assert status == ask(engine.url, "/_msearch", lines_of([({"index": INDEX}, MATCH)]), media_type)[0]
    if status == 200:
        assert json.loads(split(body)[0])["_es_rerank"]["status"] == "full"


def test_filtered_and_printed_answers_have_the_engines_form(engine: Engine, system: System) -> None:
    """`filter_path` leads from the top of the whole answer, and `pretty` prints all of it."""
    pairs = [({"index": OTHER}, MATCH), ({"index": INDEX}, {**MATCH, "size": 1})]
    target = "/_msearch?pretty&filter_path=responses.hits.hits._index,responses.hits.total,responses.status"
    assert ask(system.url, target, lines_of(pairs)) == ask(engine.url, target, lines_of(pairs))


def test_a_wrong_wish_is_an_error_among_answers(engine: Engine, system: System) -> None:
    """The other answers are as they always are."""
    wrong = {**MATCH, "ext": {"es_rerank": {"alpha": 2}}}
    pairs = [({"index": OTHER}, MATCH), ({"index": INDEX}, wrong)]
    first, second = split(ask(system.url, "/_msearch", lines_of(pairs))[1])
    assert [first] == split(ask(engine.url, "/_msearch", lines_of(pairs[:1]))[1])
    assert (json.loads(second)["status"], json.loads(second)["error"]["type"]) == (400, "illegal_argument_exception")


def test_searches_that_no_rule_covers_are_not_touched(engine: Engine, system: System) -> None:
    """The whole answer is the engine's."""
    body = lines_of([({"index": OTHER}, MATCH), ({"index": ".kibana"}, MATCH)])
    assert ask(system.url, "/_msearch", body) == ask(engine.url, "/_msearch", body)


def test_each_search_is_counted_and_logged_once(engine: Engine, system: System) -> None:
    """With its own rule and reason; a request that no rule covers leaves nothing."""

    def counted() -> int:
        return int(send_json(f"{system.url}/_es_rerank/_stats")["searches"]["total"])

    before = counted()
    for pairs in (
        [({"index": OTHER}, MATCH)] * 2,
        [({"index": OTHER}, MATCH), ({"index": INDEX}, MATCH), ({"index": INDEX}, {"size": 0})],
    ):
        assert ask(system.url, "/_msearch", lines_of(pairs))[0] == 200
    expected = [(OTHER, "no_rule"), (INDEX, None), (INDEX, "size_zero")]
    give_up_s = time.monotonic() + COUNTED_LIMIT_S  # an answer is counted when it is sent, and a thread writes the log
    while True:
        logged = [line for line in system.log_lines() if "index" in line]
        last = [(line["index"], line["reason"]) for line in logged[-3:]]
        if last == expected and counted() == before + 3:
            break
        assert time.monotonic() < give_up_s, last
        time.sleep(0.05)
