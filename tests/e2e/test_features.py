"""What else a search may ask for, through the whole system on every engine, next to the engine itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import send_json
from tests.e2e.features import ALL_HITS, INDEX, KEPT, LACKING, LEFT, MATCH, REFUSING, Pair, hits_of, load_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

    from tests.conftest import Engine, System

VOLATILE = ("took", "profile")


@pytest.fixture(scope="module")
def pair(any_engine: Engine, system_on: Callable[[Engine], System]) -> Pair:
    """Each engine with its films, and the system before it."""
    return load_pair(any_engine, system_on(any_engine))


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


def test_what_fails_behind_the_page_costs_no_search(pair: Pair) -> None:
    """A text in the window, but not on the page, is too long to be highlighted: the client gets the engine's page."""
    if pair.engine.name == "osmem":
        pytest.skip("osmem highlights texts of any length")
    index = f"{INDEX}-long"
    documents = {str(number): {"text": "a robot " * (5 - number)} for number in range(4)}
    pair.engine.load(index, {**documents, "long": {"text": "robot " + "rain " * 100}})
    try:
        send_json(f"{pair.engine.url}/{index}/_settings", {"index.highlight.max_analyzed_offset": 99}, method="PUT")
        search = {"query": {"match": {"text": "robot"}}, "size": 3, "highlight": {"fields": {"text": {}}}}
        target = f"/{index}/_search"
        assert pair.ask(target, {**search, "size": 5}, through=False)[0] == 400
        status, direct = pair.ask(target, search, through=False)
        through_status, through = pair.ask(target, search, through=True, headers={"es-rerank": "include=status"})
        assert (status, through_status) == (200, 200)
        assert json.loads(through)["_es_rerank"]["reason"] == "engine_refused"
        assert json.loads(through)["hits"] == json.loads(direct)["hits"]
    finally:
        send_json(f"{pair.engine.url}/{index}", method="DELETE")
