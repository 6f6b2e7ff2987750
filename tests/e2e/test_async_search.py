"""Async searches through the whole system, before an engine that records them and runs them on a real one."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from es_rerank.rawjson import RAW_OBJECT
from tests.async_engine import AsyncEngine
from tests.conftest import Engine, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

INDEX = "films-async"
PLAIN = "prose-async"
SHARED = "shared-async"
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
MATCH: dict[str, Any] = {"query": {"match": {"text": "a robot who finds love on an island"}}}
RULES = """
[limits]
max_deadline_s = 120.0
[[rules]]
name = "films"
indices = ["films-async"]
fields = ["text"]
any_language = true
deadline_s = 60.0
window = 20
async_search = true
[[rules]]
name = "prose"
indices = ["prose-async"]
fields = ["text"]
any_language = true
[[rules]]
name = "shared"
indices = ["shared-async"]
fields = ["text"]
any_language = true
deadline_s = 60.0
async_search = true
dashboards = "rerank"
"""
KIBANA = {"x-elastic-product-origin": "kibana", "kbn-version": "8.19.0"}
KIBANA_SUBMIT = (
    "batched_reduce_size=64&ccs_minimize_roundtrips=true&wait_for_completion_timeout=200ms&keep_on_completion=false"
    "&keep_alive=60000ms&ignore_unavailable=true&preference=1764336000000"
)
KIBANA_POLL = "wait_for_completion_timeout=200ms&keep_alive=60000ms"
DISCOVER: dict[str, Any] = {
    "size": 50,
    "sort": [{"_score": {"order": "desc"}}],
    "version": True,
    "fields": [{"field": "*", "include_unmapped": True}],
    "stored_fields": ["*"],
    "script_fields": {},
    "runtime_mappings": {},
    "_source": False,
    "track_total_hits": False,
    "highlight": {"pre_tags": ["<b>"], "post_tags": ["</b>"], "fields": {"*": {}}, "fragment_size": 2147483647},
    "query": {
        "bool": {
            "must": [{"query_string": {"query": "robot love", "analyze_wildcard": True}}],
            "filter": [],
            "should": [],
        }
    },
}


# What is tested there does not depend on the engine, and starts a proxy of its own.
ON_OSMEM = pytest.mark.parametrize("started", ["osmem"], indirect=True)


@dataclass(frozen=True, slots=True)
class Films:
    """Films in an engine that records, and the system before it."""

    engine: AsyncEngine
    system: System
    name: str

    def ask(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of an answer of the system."""
        data = None if body is None else json.dumps(body).encode()
        kind = {} if data is None else {"content-type": "application/json"}
        request = urllib.request.Request(self.system.url + target, data, {**kind, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.status, reply.read(), dict(reply.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def submit(self, body: Any, query: str = "", headers: dict[str, str] | None = None) -> Any:
        """The answer to a submit."""
        status, answer, _ = self.ask("POST", f"/{INDEX}/_async_search?{query}", body, headers)
        assert status == 200, answer
        return json.loads(answer)

    def poll(self, search_id: str, query: str = "", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of an answer to a request for a result."""
        status, answer, _ = self.ask("GET", f"/_async_search/{quote(search_id, safe='')}?{query}", None, headers)
        return status, answer

    def plain(self, body: Any, index: str = INDEX) -> Any:
        """What the system answers to the same as a plain search."""
        return send_json(f"{self.system.url}/{index}/_search", body, method="POST")


@pytest.fixture(scope="module", params=("osmem", "opensearch", "elasticsearch"))
def started(request: pytest.FixtureRequest, run_system: Callable[..., System]) -> Iterator[Films]:
    """Films on an engine, and the system before it."""
    if request.param == "osmem":
        real = Engine("osmem", request.getfixturevalue("osmem_url"))
    else:
        real = request.getfixturevalue(request.param)
    chance = random.Random(7)
    films = {f"f{number}": {"n": number, "text": " ".join(chance.choices(WORDS, k=12))} for number in range(40)}
    for index in (INDEX, PLAIN, SHARED):
        real.load(index, films)
    engine = AsyncEngine(real.url)
    system = run_system(engine.url, extra=RULES)
    if not system.workers():
        system.start_worker()
    yield Films(engine, system, real.name)
    engine.close()
    for index in (INDEX, PLAIN, SHARED):
        send_json(f"{real.url}/{index}", method="DELETE")


@pytest.fixture
def films(started: Films) -> Films:
    """The same, with nothing recorded, and searches that are complete at once."""
    engine = started.engine
    engine.polls = engine.failed_shards = engine.refuses = 0
    engine.requests.clear()
    engine.answers.clear()
    return started


def searches_logged(films: Films) -> int:
    """How many searches the log has by now; one that is known to be logged last is asked for it."""
    marked = films.system.proxy.log.read_text().count("no-such-index") + 1
    films.ask("POST", "/no-such-index/_search", MATCH, {"ES-Rerank": "off", "x-opaque-id": "no-such-index"})
    films.system.await_log("no-such-index", marked)
    return films.system.proxy.log.read_text().count('"index":"films-async"')


def without_hits(body: bytes) -> list[tuple[str, Any]]:
    """All bytes of an answer but those that reranking changes, in order."""
    top = RAW_OBJECT.decode(body)
    response = RAW_OBJECT.decode(top["response"])
    hits = RAW_OBJECT.decode(response["hits"])
    kept = [(name, bytes(value)) for name, value in hits.items() if name not in ("hits", "max_score")]
    members = [(name, bytes(value)) for name, value in response.items() if name != "hits"]
    return [*[(name, bytes(value)) for name, value in top.items() if name != "response"], *members, *kept]


def test_a_search_that_is_complete_at_once_is_reranked(films: Films) -> None:
    """Its hits are those of the plain search; everything else keeps its bytes, and the submit is the client's own."""
    body = {**MATCH, "aggs": {"most": {"max": {"field": "n"}}}}
    status, answer, _ = films.ask("POST", f"/{INDEX}/_async_search?wait_for_completion_timeout=5s", body)
    assert status == 200
    found = json.loads(answer)
    expected = films.plain(MATCH)
    assert found["response"]["hits"]["hits"] == expected["hits"]["hits"]
    assert found["response"]["hits"]["max_score"] == expected["hits"]["max_score"]
    assert without_hits(answer) == without_hits(films.engine.answers[-1])
    engine_order = json.loads(films.engine.answers[-1])["response"]["hits"]["hits"]
    assert [hit["_id"] for hit in engine_order] != [hit["_id"] for hit in expected["hits"]["hits"]]
    [submit] = films.engine.asked("/_async_search")
    assert submit.target == f"/{INDEX}/_async_search?wait_for_completion_timeout=5s"
    assert submit.body == json.dumps(body).encode()
    window = films.engine.asked(f"/{INDEX}/_search")[0]
    assert "aggs" not in json.loads(window.body)
    assert "wait_for" not in window.target


def test_a_search_that_runs_on_is_reranked_when_it_is_complete(films: Films) -> None:
    """Answers while it runs keep their bytes and tell nothing; the result is reranked, and told once."""
    films.engine.polls = 2
    logged = searches_logged(films)
    begun = films.submit({**MATCH, "ext": {"es_rerank": {"include": ["status"]}}}, "wait_for_completion_timeout=1ms")
    assert begun["is_running"]
    assert begun == json.loads(films.engine.answers[-1])
    _, still = films.poll(begun["id"])
    assert still == films.engine.answers[-1]
    assert not films.engine.asked(f"/{INDEX}/_search")
    _, answer = films.poll(begun["id"], "keep_alive=1m")
    found = json.loads(answer)
    status = found["response"].pop("_es_rerank")
    assert (status["status"], status["rule"], status["window"]) == ("full", "films", 20)
    assert found["response"]["hits"]["hits"] == films.plain(MATCH)["hits"]["hits"]
    assert found["id"] == begun["id"]
    _, again = films.poll(begun["id"])
    assert json.loads(again)["response"]["hits"] == found["response"]["hits"]
    assert searches_logged(films) == logged + 2  # this one, and the plain search


def test_a_stored_search_is_reranked_at_every_request(films: Films) -> None:
    """With `keep_on_completion`, a result is the same at submit and later."""
    begun = films.submit(MATCH, "keep_on_completion=true")
    for _ in range(2):
        _, answer = films.poll(begun["id"])
        assert json.loads(answer)["response"] == begun["response"]
    assert begun["response"]["hits"]["hits"] == films.plain(MATCH)["hits"]["hits"]


def test_a_partial_answer_is_never_reranked(films: Films) -> None:
    """One that ended without some shards goes out as it came, at submit and later."""
    films.engine.failed_shards = 1
    films.engine.polls = 1
    asked = {**MATCH, "ext": {"es_rerank": {"include": ["status"]}}}
    begun = films.submit(asked)
    _, answer = films.poll(begun["id"])
    found = json.loads(answer)
    assert found["response"].pop("_es_rerank")["reason"] == "partial_answer"
    assert found == json.loads(films.engine.answers[-1])
    films.engine.polls = 0
    _, answer, headers = films.ask("POST", f"/{INDEX}/_async_search", MATCH)
    assert answer == films.engine.answers[-1]
    assert "warning" not in headers
    assert not films.engine.asked(f"/{INDEX}/_search")


def test_what_is_gone_or_not_known_passes(films: Films) -> None:
    """An expired result, an id of another process, a status, a delete: the engine's bytes."""
    films.engine.polls = 1
    begun = films.submit(MATCH)
    stored = films.engine.searches.pop(begun["id"])
    assert films.poll(begun["id"]) == (404, films.engine.answers[-1])
    assert films.poll(begun["id"]) == (404, films.engine.answers[-1])
    films.engine.searches["unknown=="] = stored
    stored.running = 0
    assert films.poll("unknown==") == (200, films.engine.answers[-1])
    for method, path in (("GET", "/_async_search/status/unknown%3D%3D"), ("DELETE", "/_async_search/unknown%3D%3D")):
        status, answer, _ = films.ask(method, path)
        assert (status, answer) == (200, films.engine.answers[-1])
    assert not films.engine.asked(f"/{INDEX}/_search")


def test_each_caller_asks_with_its_own_headers(films: Films) -> None:
    """The window is fetched for who asks for the result; an id of another one is no way to anything."""
    films.engine.polls = 1
    ann, bob = {"authorization": "ApiKey ann"}, {"authorization": "ApiKey bob"}
    begun = films.submit(MATCH, headers=ann)
    assert films.poll(begun["id"], headers=bob)[0] == 404
    assert not films.engine.asked(f"/{INDEX}/_search")
    _, answer = films.poll(begun["id"], headers=ann)
    assert json.loads(answer)["response"]["hits"]["hits"] == films.plain(MATCH)["hits"]["hits"]
    assert films.engine.asked(f"/{INDEX}/_search")[0].headers["authorization"] == "ApiKey ann"


def test_a_window_that_the_engine_refuses_costs_nothing_but_the_order(films: Films) -> None:
    """The engine's own answer goes out, and the Warning says so."""
    films.engine.refuses = 429
    _, answer, headers = films.ask("POST", f"/{INDEX}/_async_search", MATCH)
    assert answer == films.engine.answers[-1]
    assert "engine_refused" in headers["warning"]


@ON_OSMEM
def test_without_a_worker_the_engine_answers(
    films: Films, own_redis_url: str, run_system: Callable[..., System]
) -> None:
    """The order is the engine's, its bytes too, and the status says why."""
    alone = Films(films.engine, run_system(films.engine.url, extra=RULES, redis=own_redis_url), films.name)
    _, answer, headers = alone.ask("POST", f"/{INDEX}/_async_search", MATCH)
    assert answer == films.engine.answers[-1]
    assert "no_worker" in headers["warning"]
    found = alone.submit({**MATCH, "ext": {"es_rerank": {"include": ["status"]}}})
    assert found["response"].pop("_es_rerank")["reason"] == "no_worker"
    assert found == json.loads(films.engine.answers[-1])


@pytest.mark.parametrize(("start", "size"), [(0, 40), (5, 7), (17, 6), (25, 5), (38, 10)])
def test_pages_are_those_of_the_plain_search(films: Films, start: int, size: int) -> None:
    """Inside the window, across its end, behind it, and past the last hit: all pages are cut from one list."""
    whole = films.plain({**MATCH, "size": 40})["hits"]["hits"]
    found = films.submit({**MATCH, "from": start, "size": size})
    assert [hit["_id"] for hit in found["response"]["hits"]["hits"]] == [
        hit["_id"] for hit in whole[start : start + size]
    ]


def test_a_search_without_hits_to_answer_passes(films: Films) -> None:
    """`size: 0` is not ours, as in a plain search."""
    _, answer, _ = films.ask("POST", f"/{INDEX}/_async_search", {**MATCH, "size": 0})
    assert answer == films.engine.answers[-1]
    assert not films.engine.asked(f"/{INDEX}/_search")


@pytest.mark.parametrize(
    "query",
    [
        "typed_keys=true",
        "rest_total_hits_as_int=true",
        "filter_path=response.hits.hits._id,id,is_running",
        "filter_path=-response.hits.hits._source&pretty",
        "pretty",
        "typed_keys&track_total_hits=true&request_cache=false&batched_reduce_size=5",
    ],
)
def test_parameters_of_the_answer_mean_what_they_mean(films: Films, query: str) -> None:
    """Each answer is the engine's own under the same parameters, with other hits in it."""
    body = {**MATCH, "aggs": {"most": {"max": {"field": "n"}}}}
    if films.name == "osmem" and "typed_keys" in query:
        body = MATCH
    status, answer, _ = films.ask("POST", f"/{INDEX}/_async_search?{query}", body)
    assert status == 200
    direct = AsyncEngine(films.engine.real)
    try:
        request = urllib.request.Request(
            f"{direct.url}/{INDEX}/_async_search?{query}",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            own = reply.read()
    finally:
        direct.close()
    ids = [hit["_id"] for hit in films.plain(MATCH)["hits"]["hits"]]
    found, expected = json.loads(answer), json.loads(own)
    assert [hit["_id"] for hit in found["response"]["hits"]["hits"]] == ids
    for one in (found, expected):
        one["response"].pop("took", None)
        del one["response"]["hits"]["hits"]
        one["response"]["hits"].pop("max_score", None)
    assert found == expected
    assert answer.startswith(own[:2])
    assert (b"\n" in answer) == (b"\n" in own)


def test_a_rule_that_does_not_opt_in_leaves_async_searches_alone(films: Films) -> None:
    """They pass as they come, with a reason; what was asked of es-rerank is taken out all the same."""
    status, answer, _ = films.ask("POST", f"/{PLAIN}/_async_search?keep_on_completion=true", MATCH)
    assert (status, answer) == (200, films.engine.answers[-1])
    assert films.poll(json.loads(answer)["id"]) == (200, films.engine.answers[-1])
    asked = {**MATCH, "ext": {"es_rerank": {"include": ["status"]}}}
    _, answer, _ = films.ask("POST", f"/{PLAIN}/_async_search", asked)
    assert json.loads(answer)["response"]["_es_rerank"]["reason"] == "async_search"
    assert not films.engine.asked("/_search")


def test_discover_works(films: Films) -> None:
    """Kibana's own requests are reranked where the rule takes dashboards, and else pass."""
    body = dict(DISCOVER)
    if films.name == "osmem":
        body = {name: body[name] for name in ("size", "query", "sort")}
    elif films.name == "opensearch":  # it does not know these of Kibana's
        del body["runtime_mappings"]
        body["fields"] = [{"field": "*"}]
    films.engine.polls = 1
    status, answer, _ = films.ask("POST", f"/{SHARED}/_async_search?{KIBANA_SUBMIT}", body, KIBANA)
    begun = json.loads(answer)
    assert (status, begun["is_running"]) == (200, True)
    status, answer = films.poll(begun["id"], KIBANA_POLL, KIBANA)
    found = json.loads(answer)
    plain = films.plain({name: value for name, value in body.items() if name != "track_total_hits"}, SHARED)
    assert found["response"]["hits"]["hits"] == plain["hits"]["hits"]
    assert without_hits(answer) == without_hits(films.engine.answers[-1])
    films.engine.polls = 0
    _, answer, _ = films.ask("POST", f"/{INDEX}/_async_search?{KIBANA_SUBMIT}", body, KIBANA)
    assert answer == films.engine.answers[-1]


def test_a_wish_that_is_not_allowed_submits_nothing(films: Films) -> None:
    """It is a 400 in the engine's form."""
    status, answer, _ = films.ask("POST", f"/{INDEX}/_async_search", {**MATCH, "ext": {"es_rerank": {"alpha": 2}}})
    assert (status, b"es_rerank.alpha" in answer) == (400, True)
    assert not films.engine.requests


def test_what_the_engine_refuses_is_its_own_answer(films: Films) -> None:
    """A query that it can't parse, under a rule that opts in."""
    body = {"query": {"match": {"text": {"query": "robot", "no_such_option": 1}}}}
    if films.name == "osmem":
        body = {"query": {"match": {"text": "robot"}, "nonsense": {}}}  # type: ignore[dict-item]
    _, answer, headers = films.ask("POST", f"/{INDEX}/_async_search", body)
    assert answer == films.engine.answers[-1]
    assert "warning" not in headers


@ON_OSMEM
def test_without_an_engine_a_submit_is_an_error(films: Films, run_system: Callable[..., System]) -> None:
    """As any search then; a poll is an error too, and tells nothing of its search."""
    engine = AsyncEngine(films.engine.real, polls=1)
    alone = Films(engine, run_system(engine.url, extra=RULES), films.name)
    begun = alone.submit(MATCH)
    engine.close()
    assert alone.poll(begun["id"])[0] == 502
    assert alone.ask("POST", f"/{INDEX}/_async_search", MATCH)[0] == 502
    assert alone.system.await_log("no_engine").count("no_engine") == 1


def test_a_wish_at_a_poll_counts(films: Films) -> None:
    """`ES-Rerank: off` gets the engine's order, `include=status` the status."""
    begun = films.submit(MATCH, "keep_on_completion=true")
    assert films.poll(begun["id"], headers={"ES-Rerank": "off"}) == (200, films.engine.answers[-1])
    _, answer = films.poll(begun["id"], headers={"ES-Rerank": "include=status"})
    assert json.loads(answer)["response"]["_es_rerank"]["status"] == "full"
    assert all("es-rerank" not in request.headers for request in films.engine.requests)


@pytest.mark.parametrize(
    "path", [f"/_plugins/_asynchronous_search?index={INDEX}", f"/{INDEX}/_plugins/_asynchronous_search?human=false"]
)
def test_the_asynchronous_search_of_opensearch_is_reranked(films: Films, path: str) -> None:
    """Its own paths and states, with the index in the URL's query or path."""
    if films.name == "osmem" and "index=" in path:
        pytest.skip("this engine reads no index in a parameter")
    films.engine.polls = 1
    _, answer, _ = films.ask("POST", f"{path}&keep_on_completion=true&wait_for_completion_timeout=1ms", MATCH)
    begun = json.loads(answer)
    assert (begun["state"], answer) == ("RUNNING", films.engine.answers[-1])
    _, answer, _ = films.ask("GET", f"/_plugins/_asynchronous_search/{quote(begun['id'], safe='')}")
    assert json.loads(answer)["state"] == "STORE_RESIDENT"
    assert json.loads(answer)["response"]["hits"]["hits"] == films.plain(MATCH)["hits"]["hits"]
    assert without_hits(answer) == without_hits(films.engine.answers[-1])


def test_hits_that_are_gone_meanwhile_keep_the_answer_whole(films: Films) -> None:
    """If the index lost a hit of the page since the search ran, the engine's own page goes out."""
    films.engine.polls = 1
    begun = films.submit(MATCH)
    real = films.engine.real
    kept = json.loads(films.engine.searches[begun["id"]].response)["hits"]["hits"][0]["_id"]
    send_json(f"{real}/{INDEX}/_doc/{kept}?refresh=true", method="DELETE")
    try:
        _, answer, headers = films.ask("GET", f"/_async_search/{quote(begun['id'], safe='')}")
        assert answer == films.engine.answers[-1]
        assert "index_changed" in headers["warning"]
    finally:
        source = next(
            hit["_source"]
            for hit in json.loads(films.engine.answers[-1])["response"]["hits"]["hits"]
            if hit["_id"] == kept
        )
        send_json(f"{real}/{INDEX}/_doc/{kept}?refresh=true", source, method="PUT")
