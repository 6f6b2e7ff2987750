"""What Dev Tools asks below `/_es_rerank`, by ordinary HTTP through the whole running system, on every engine."""

from __future__ import annotations

import http.client
import json
import random
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import send_json
from tests.proxy.own.system import await_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conftest import Engine, System

INDEX = "films-asked"
QUERY = {"query": {"match": {"text": "a robot who finds love on an island"}}}
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
# What the Dev Tools of OpenSearch Dashboards add to each request.
MARKED = {"X-OpenSearch-Product-Origin": "opensearch-dashboards"}


@pytest.fixture(scope="module")
def engine(any_engine: Engine) -> Engine:
    """Films on an engine."""
    chance = random.Random(11)
    films = {
        f"f{number}": {"title": f"Film {number}", "text": " ".join(chance.choices(WORDS, k=12))} for number in range(30)
    }
    any_engine.load(INDEX, films)
    return any_engine


@pytest.fixture(scope="module")
def system(engine: Engine, system_on: Callable[[Engine], System]) -> System:
    """The system before it."""
    return system_on(engine)


def ask(
    url: str, target: str, body: Any = None, *, method: str = "POST", headers: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Status, media type and body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url + target, data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.headers["content-type"], reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def explained(system: System, target: str = f"/{INDEX}", body: Any = None, query: str = "") -> Any:
    """What `_explain` says of a search."""
    status, _, said = ask(system.url, f"/_es_rerank{target}/_explain{query}", QUERY if body is None else body)
    assert status == 200, said
    return json.loads(said)


def test_a_reranked_search_is_explained_hit_by_hit(engine: Engine, system: System) -> None:
    """Hits, scores, ranks and texts are those of the search itself, and of the engine's own answer."""
    body = {**QUERY, "size": 12, "ext": {"es_rerank": {"window": 10, "include": ["scores"]}}}
    answered = send_json(f"{system.url}/{INDEX}/_search", body, method="POST")["hits"]["hits"]
    direct = send_json(f"{engine.url}/{INDEX}/_search", {**QUERY, "size": 12}, method="POST")["hits"]["hits"]
    told = explained(system, body=body)
    assert told["status"]["status"] == "full"
    assert told["status"]["took_ms"]["total"] > 0
    assert (told["rule"]["name"], told["rule"]["text"]) == ("films", {"fields": ["title", "text"]})
    assert told["question"] == "a robot who finds love on an island"
    assert told["rules"]["by_name"] == {INDEX: "films"}
    assert told["window"]["request"]["target"] == f"/{INDEX}/_search?from=0&size=12"
    assert [(hit["_id"], hit["_score"]) for hit in told["hits"]] == [(hit["_id"], hit["_score"]) for hit in answered]
    assert [hit["place"] for hit in told["hits"]] == list(range(1, 13))
    for hit, shown in zip(told["hits"], answered, strict=True):
        engine_hit = direct[hit["engine_rank"] - 1]
        assert (engine_hit["_id"], engine_hit["_score"]) == (hit["_id"], hit["engine_score"])
        assert hit["in_window"] == (hit["engine_rank"] <= 10)
        if hit["in_window"]:
            source = engine_hit["_source"]
            assert hit["text"] == f"{source['title']}\n{source['text']}"
            scores = shown["_es_rerank"]
            assert (hit["rank_score"], hit["fused_score"]) == (scores["rank_score"], scores["fused_score"])
            assert hit["cached"]
    ranks = [hit["rank_score_rank"] for hit in sorted(told["hits"][:10], key=lambda hit: -hit["rank_score"])]
    assert ranks == list(range(1, 11))


def test_the_url_says_page_and_question_too(system: System) -> None:
    """`q`, `from` and `size` mean what they mean in a search; without a body as well."""
    told = explained(system, body={}, query="?q=text:robot&size=3&from=2")
    assert [hit["place"] for hit in told["hits"]] == [3, 4, 5]
    assert told["question"] == "robot"
    with closing(http.client.HTTPConnection(urlsplit(system.url).netloc)) as connection:
        connection.request("GET", f"/_es_rerank/{INDEX}/_explain?q=text:robot&size=1")
        assert len(json.load(connection.getresponse())["hits"]) == 1


@pytest.mark.parametrize(
    ("target", "body", "reason", "by_name"),
    [
        (f"/{INDEX}", {**QUERY, "sort": ["_doc"]}, "sort", {INDEX: "films"}),
        (f"/{INDEX}", {"query": {"match_all": {}}}, "no_text_query", {INDEX: "films"}),
        (f"/{INDEX}", {**QUERY, "ext": {"es_rerank": {"rerank": False}}}, "asked_off", {INDEX: "films"}),
        ("/*-asked", QUERY, "no_rule", {"*-asked": None}),
        (f"/{INDEX},prose*", QUERY, "several_rules", {INDEX: "films", "prose*": "prose"}),
    ],
)
def test_a_search_that_is_not_reranked_says_why(
    system: System, target: str, body: Any, reason: str, by_name: dict[str, str | None]
) -> None:
    """The reason word, a sentence, and which rules were tried for which name; the hits are the engine's."""
    told = explained(system, target, body)
    assert (told["status"]["status"], told["status"]["reason"]) == ("skipped", reason)
    assert told["why"].endswith(".")
    assert told["rules"]["by_name"] == by_name
    assert told["rules"]["tried"] == [
        {"rule": "films", "indices": ["films*"]},
        {"rule": "prose", "indices": ["prose*"]},
    ]
    assert (told["decision"], told["window"]) == (None, None)
    assert len(told["hits"]) == 10


def test_dev_tools_of_dashboards_is_no_page(system: System) -> None:
    """The mark of OpenSearch Dashboards on an `_explain` does not make its search one of a page."""
    status, _, said = ask(system.url, f"/_es_rerank/{INDEX}/_explain", QUERY, headers=MARKED)
    assert (status, json.loads(said)["status"]["status"]) == (200, "full")


@pytest.fixture
def chunked(system: System) -> Iterator[Callable[..., tuple[int, str]]]:
    """Sends as Dev Tools does: a body in chunks, as JSON, with any method."""
    connection = http.client.HTTPConnection(urlsplit(system.url).netloc)

    def send(method: str, target: str, *parts: bytes) -> tuple[int, str]:
        connection.request(method, target, iter(parts), {"content-type": "application/json"}, encode_chunked=True)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()

    yield send
    connection.close()


def test_a_get_may_have_a_body_in_chunks(chunked: Callable[..., tuple[int, str]]) -> None:
    """What Dev Tools sends arrives: GET, a body in chunks, NDJSON's last line end included."""
    body = json.dumps(QUERY).encode()
    status, said = chunked("GET", f"/_es_rerank/{INDEX}/_explain?pretty&size=1", body[:9], body[9:], b"\n")
    assert (status, said[:4]) == (200, "{\n  ")
    rated = {"requests": [{"id": "a", "request": QUERY, "ratings": []}], "metric": {"precision": {"k": 3}}}
    status, said = chunked("GET", f"/_es_rerank/{INDEX}/_rank_eval", json.dumps(rated).encode())
    assert (status, len(json.loads(said)["details"]["a"]["hits"])) == (200, 3)


def test_what_the_engine_refuses_is_its_own_answer(engine: Engine, system: System) -> None:
    """An index that is missing and a query that makes no sense are the engine's own errors, in the form asked for."""
    for target, body in ((f"/{INDEX}-none", QUERY), (f"/{INDEX}", {"query": {"nothing": {}}})):
        status, _, direct = ask(engine.url, f"{target}/_search", body)
        answered = ask(system.url, f"/_es_rerank{target}/_explain", body)
        assert (answered[0], json.loads(answered[2])["error"]["type"]) == (status, json.loads(direct)["error"]["type"])
        status, kind, said = ask(system.url, f"/_es_rerank{target}/_explain?format=yaml", body)
        assert (kind, said[:4]) == ("application/yaml", "---\n")


def test_a_wrong_wish_is_refused_in_the_form_asked_for(system: System) -> None:
    """An error of ours is JSON, pretty or YAML as the engines' errors are."""
    wrong = {**QUERY, "ext": {"es_rerank": {"alpha": 2}}}
    target = f"/_es_rerank/{INDEX}/_explain"
    assert json.loads(ask(system.url, target, wrong)[2])["status"] == 400
    assert ask(system.url, f"{target}?pretty", wrong)[2].startswith('{\n  "error" : {\n')
    assert ask(system.url, f"{target}?format=yaml", wrong)[1:][0] == "application/yaml"
    assert ask(system.url, "/_es_rerank/nothing/at/all?pretty")[2].startswith('{\n  "error" : {\n')
    assert ask(system.url, target, wrong, headers={"accept": "application/yaml"})[1] == "application/yaml"


def test_explain_on_a_search_has_our_part_on_top(engine: Engine, system: System) -> None:
    """`explain` in the body or the URL is reranked, and the engine's explanation is the last detail, unchanged."""
    body = {**QUERY, "size": 12}
    asked = {**body, "explain": True, "ext": {"es_rerank": {"window": 10, "include": ["status", "scores"]}}}
    direct = send_json(f"{engine.url}/{INDEX}/_search?explain=true", body, method="POST")["hits"]["hits"]
    own = {hit["_id"]: hit.get("_explanation") for hit in direct}
    answered = send_json(f"{system.url}/{INDEX}/_search", asked, method="POST")
    assert answered["_es_rerank"]["status"] == "full"
    for hit in answered["hits"]["hits"]:
        scores = hit["_es_rerank"]
        if scores["rank_score"] is None:
            assert hit.get("_explanation") == own[hit["_id"]]
            continue
        if engine.name == "osmem" and "_explanation" not in hit:  # it explains nothing
            continue
        told = hit["_explanation"]
        assert told["value"] == hit["_score"]
        assert told["details"][0]["value"] == scores["fused_score"]
        assert told["details"][-1] == own[hit["_id"]]
    by_url = send_json(f"{system.url}/{INDEX}/_search?explain=true", body, method="POST")["hits"]["hits"]
    assert all("_explanation" not in hit or hit["_explanation"]["value"] == hit["_score"] for hit in by_url)


def test_tables_are_written_as_the_engines_do(system: System) -> None:
    """Text in columns by default, `v`, `h`, `s`, `help`, JSON and YAML; what is unknown names what is allowed."""
    status, kind, said = ask(system.url, "/_es_rerank/_cat/rules?v&h=name,window,scorer", method="GET")
    assert (status, kind) == (200, "text/plain; charset=UTF-8")
    assert said == "name  window scorer\nfilms    100 minilm\nprose    100 minilm\n"
    said = ask(system.url, "/_es_rerank/_cat/rules?h=n*&s=name:desc", method="GET")[2]
    assert said == "prose\nfilms\n"
    found = json.loads(ask(system.url, "/_es_rerank/_cat/rules?format=json", method="GET")[2])
    assert [(one["name"], one["origin"], one["window"]) for one in found] == [
        ("films", "file", "100"),
        ("prose", "file", "100"),
    ]
    [scorer] = json.loads(ask(system.url, "/_es_rerank/_cat/scorers?format=json", method="GET")[2])
    assert (scorer["name"], scorer["workers"] != "0", scorer["used_by"]) == ("minilm", True, "films,prose")
    assert ask(system.url, "/_es_rerank/_cat/rules?help", method="GET")[2].startswith("name       |  | the rule's name")
    assert "/_es_rerank/_cat/runs" in ask(system.url, "/_es_rerank/_cat", method="GET")[2]
    for wrong in ("h=nothing", "s=nothing", "format=cbor", "nothing=1"):
        status, _, said = ask(system.url, f"/_es_rerank/_cat/rules?{wrong}", method="GET")
        assert status == 400
        assert "nothing" in said or "must be one of [text, json, yaml]" in said


def test_runs_need_the_store(system: System) -> None:
    """Without the table [store] the runs say what they need."""
    status, _, said = ask(system.url, "/_es_rerank/_cat/runs", method="GET")
    assert status == 501
    assert "needs the table [store] in the configuration" in said


def test_what_there_is_is_listed(system: System) -> None:
    """The root has versions and every path; HEAD has its head alone, and another method says what is allowed."""
    listed = json.loads(ask(system.url, "/_es_rerank", method="GET")[2])
    assert {"path": "/_es_rerank/{index}/_explain", "methods": ["GET", "POST"]}.items() <= next(
        one for one in listed["paths"] if one["path"].endswith("_explain")
    ).items()
    assert ask(system.url, "/_es_rerank", method="HEAD")[2] == ""
    assert ask(system.url, "/_es_rerank", method="DELETE")[0] == 405


def test_searches_are_counted(system: System) -> None:
    """Each search is counted by status, reason and rule, and so are its hits and the time of its steps."""

    def counted() -> Any:
        return json.loads(ask(system.url, "/_es_rerank/_stats", method="GET")[2])

    before = counted()
    send_json(f"{system.url}/{INDEX}/_search", QUERY, method="POST")
    send_json(f"{system.url}/{INDEX}/_search", {**QUERY, "sort": ["_doc"]}, method="POST")
    explained(system)  # is no search of a caller
    after = counted()
    assert after["searches"]["total"] == before["searches"]["total"] + 2
    assert after["searches"]["reason"]["sort"] == before["searches"]["reason"].get("sort", 0) + 1
    assert after["searches"]["rule"]["films"]["full"] == before["searches"]["rule"]["films"]["full"] + 1
    assert after["hits"]["scored"] > before["hits"]["scored"]
    assert after["took_ms"]["total"]["count"] == before["took_ms"]["total"]["count"] + 2
    assert after["searches"]["in_flight"] == 0


def test_runs_are_those_that_the_caller_may_read(
    engine: Engine, run_system: Callable[..., System], redis_url: str
) -> None:
    """`_cat/runs` has the newest jobs first; one that no proxy runs any more is interrupted."""
    rules = '[store]\n[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'
    system = run_system(engine.url, extra=rules)
    await_store(engine.url)  # else the first job would make the index, with other fields
    assert ask(system.url, "/_es_rerank/_cat/runs", method="GET")[0] == 200
    for number, state in enumerate(("done", "running"), start=1):
        job = {"id": f"r{number}", "kind": "replay", "state": state, "index": INDEX, "done": number, "total": 9}
        job["timestamp"] = job["updated"] = f"2106-11-0{number}T00:00:00Z"  # newer than those of other tests
        ask(engine.url, f"/es-rerank-jobs/_doc/r{number}?refresh=true", job, method="PUT")
    said = ask(system.url, "/_es_rerank/_cat/runs?h=id,state,done,total&size=2", method="GET")[2]
    stale = {"state": "running", "updated": "2026-11-02T00:00:00Z"}
    ask(engine.url, "/es-rerank-jobs/_update/r2?refresh=true", {"doc": stale}, method="POST")
    later = ask(system.url, "/_es_rerank/_cat/runs?h=id,state&size=1", method="GET")[2]
    for number in (1, 2):
        ask(engine.url, f"/es-rerank-jobs/_doc/r{number}?refresh=true", method="DELETE")
    assert [line.split() for line in said.splitlines()] == [["r2", "running", "2", "9"], ["r1", "done", "1", "9"]]
    assert later.split() == ["r2", "interrupted"]


def test_hits_that_were_not_scored_say_so(
    engine: Engine, run_system: Callable[..., System], own_redis_url: str
) -> None:
    """Without a worker a search fails, and its explanation has the texts, no rank score, and what is wrong."""
    system = run_system(engine.url, redis=own_redis_url)
    told = explained(system)
    assert (told["status"]["status"], told["status"]["reason"]) == ("failed", "no_worker")
    assert told["why"] == "No worker serves the rule's scorer."
    for place, hit in enumerate(told["hits"], start=1):
        assert (hit["place"], hit["engine_rank"]) == (place, place)
        assert (hit["rank_score"], hit["rank_score_rank"], hit["fused_score"], hit["cached"]) == (None,) * 4
        assert hit["text"]
    rated = {"requests": [{"id": "a", "request": QUERY, "ratings": []}], "metric": {"precision": {"k": 3}}}
    request = urllib.request.Request(
        f"{system.url}/_es_rerank/{INDEX}/_rank_eval", json.dumps(rated).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert "1 of 1 requests were not reranked in full (no_worker)" in reply.headers["warning"]


def test_a_template_needs_an_engine_that_fills_it(engine: Engine, system: System) -> None:
    """Where the engine fills templates, they are evaluated; where it can't, its own refusal comes back."""
    script = {"source": {"query": {"match": {"text": "{{words}}"}}}}
    status, _, said = ask(engine.url, "/_render/template", {**script, "params": {"words": "robot"}})
    requests = [{"id": "a", "template_id": "t", "params": {"words": "robot"}, "ratings": []}]
    templates = [{"id": "t", "template": script}]
    body = {"requests": requests, "templates": templates, "metric": {"precision": {"k": 3}}}
    answered, _, told = ask(system.url, f"/_es_rerank/{INDEX}/_rank_eval", body)
    assert answered == status
    if status == 200:
        assert len(json.loads(told)["details"]["a"]["hits"]) == 3
    else:
        assert json.loads(told)["error"] == json.loads(said)["error"]
