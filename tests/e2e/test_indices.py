"""What an index is, and what its documents are like, through the whole system on the real engines."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ENGINES_DIR, RULES, Engine, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

QUERY = {"query": {"match": {"text": "robot"}}}
TEXTS = ("a robot finds love", "two robots, and a robot, on an island", "the robot queen sails home", "robot", "a film")
RECORDINGS = ENGINES_DIR.parent / "recordings" / "osd-2.13"
FIRST_RULE = RULES.partition('[[rules]]\nname = "prose"')[0]
EVERYTHING = FIRST_RULE.replace('"films"', '"all"').replace('"films*"', '"*"')
MOVIES = FIRST_RULE.replace('"films"', '"movies"').replace('"films*"', '"movies*"')


@pytest.fixture(scope="module")
def system(real_engine: Engine, system_on: Callable[[Engine], System]) -> System:
    """The system before each engine."""
    return system_on(real_engine)


def drop(engine: Engine, path: str) -> None:
    """Delete what may be left of an earlier run."""
    with contextlib.suppress(urllib.error.HTTPError):
        send_json(f"{engine.url}/{path}", method="DELETE")


def ids(answer: Any) -> list[str]:
    """The ids of an answer's hits, in order."""
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def unscored(answer: Any) -> dict[str, Any]:
    """The hits of an answer by id, without what reranking changes."""
    return {hit["_id"]: {**hit, "_score": 0, "sort": None} for hit in answer["hits"]["hits"]}


def test_a_data_stream_is_reranked_by_its_own_name(real_engine: Engine, system: System) -> None:
    """The hits' `_index` begins with `.ds-`, and they are reranked as those of any other index are."""
    stream = "films-stream"
    drop(real_engine, f"_data_stream/{stream}")
    template = {"index_patterns": [stream], "data_stream": {}, "priority": 500}
    send_json(f"{real_engine.url}/_index_template/{stream}", template, method="PUT")
    for number, text in enumerate(TEXTS):
        document = {"@timestamp": "2026-11-28T00:00:00Z", "title": f"t{number}", "text": text}
        send_json(f"{real_engine.url}/{stream}/_create/{number}?refresh=true", document, method="PUT")
    for expression in (stream, "films-str*", f"{stream},{stream}"):
        answer = system.search(expression, QUERY)
        assert all(hit["_index"].startswith(f".ds-{stream}-") for hit in answer["hits"]["hits"])
        assert len(ids(answer)) == 4 if real_engine.name == "elasticsearch" else len(ids(answer)) >= 3
        assert answer["_es_rerank"]["status"] == "full"
    drop(real_engine, f"_data_stream/{stream}")


def test_an_alias_may_lead_to_an_index_that_begins_with_a_dot(real_engine: Engine, system: System) -> None:
    """What the caller names decides, and not where it leads."""
    real_engine.load(".films-internal", {str(number): {"text": text} for number, text in enumerate(TEXTS)})
    action = {"add": {"index": ".films-internal", "alias": "films-alias"}}
    send_json(f"{real_engine.url}/_aliases", {"actions": [action]}, method="POST")
    answer = system.search("films-alias", QUERY)
    assert {hit["_index"] for hit in answer["hits"]["hits"]} == {".films-internal"}
    assert answer["_es_rerank"]["status"] == "full"
    drop(real_engine, ".films-internal")


def test_a_search_of_everything_does_not_rerank_system_indices(
    real_engine: Engine, system: System, run_system: Callable[..., System]
) -> None:
    """Under a rule for every index, a window with a hit of a system index is the engine's own; one without is not."""
    everything = run_system(real_engine.url, extra=EVERYTHING)
    real_engine.load("films-open", {str(number): {"text": f"zebra {text}"} for number, text in enumerate(TEXTS)})
    real_engine.load(".films-internal", {"x": {"text": "robot zebra zebra unseen"}})
    query = {"query": {"match": {"text": "zebra"}}}
    for target in ("*", "_all", "*,-other*"):
        status = everything.search(target, query)["_es_rerank"]
        assert (status["status"], status["reason"]) == ("skipped", "system_index")
    assert everything.search("films-o*", query)["_es_rerank"]["status"] == "full"
    drop(real_engine, ".films-internal")
    assert everything.search("*", query)["_es_rerank"]["status"] == "full"
    drop(real_engine, "films-open")


def test_the_text_is_the_same_whatever_is_shown(real_engine: Engine, system: System) -> None:
    """Neither `ignore_above`, nor a field alias, nor a date's format changes the text when `_source` is hidden."""
    index = "films-mapped"
    drop(real_engine, index)
    mappings = {
        "properties": {
            "title": {"type": "alias", "path": "name"},
            "name": {"type": "text"},
            "text": {"type": "keyword", "ignore_above": 25},
            "all": {"type": "text"},
        }
    }
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    send_json(f"{real_engine.url}/{index}", {"settings": settings, "mappings": mappings}, method="PUT")
    for number, text in enumerate(TEXTS):
        document = {"name": "a misleading name", "text": text, "all": f"robot {text}"}
        send_json(f"{real_engine.url}/{index}/_doc/{number}?refresh=true", document, method="PUT")
    search = {"query": {"match": {"all": "robot"}}}
    shown = system.search(index, search, include=["status", "scores"])
    assert shown["_es_rerank"]["status"] == "full"
    assert shown["_es_rerank"]["missing_fields"] == {"title": len(TEXTS)}
    for changes in ({"_source": False}, {"_source": ["name"]}, {"_source": {"excludes": ["text"]}}):
        hidden = system.search(index, {**search, **changes}, include=["status", "scores"])
        assert hidden["_es_rerank"]["cached"] == hidden["_es_rerank"]["window"]
        assert [(hit["_id"], hit["_es_rerank"]) for hit in hidden["hits"]["hits"]] == [
            (hit["_id"], hit["_es_rerank"]) for hit in shown["hits"]["hits"]
        ]


def test_an_index_without_its_source_is_answered_by_the_engine(real_engine: Engine, system: System) -> None:
    """Where `_source` is disabled there is no text: the order is the engine's, and the status says so."""
    index = "films-sourceless"
    drop(real_engine, index)
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    mappings = {"_source": {"enabled": False}, "properties": {"text": {"type": "text", "store": True}}}
    send_json(f"{real_engine.url}/{index}", {"settings": settings, "mappings": mappings}, method="PUT")
    for number, text in enumerate(TEXTS):
        send_json(f"{real_engine.url}/{index}/_doc/{number}?refresh=true", {"text": text}, method="PUT")
    for changes in ({}, {"_source": False}, {"stored_fields": ["text"]}):
        direct = send_json(f"{real_engine.url}/{index}/_search", {**QUERY, **changes}, method="POST")
        answer = system.search(index, {**QUERY, **changes})
        status = answer.pop("_es_rerank")
        # An OpenSearch refuses to filter a `_source` that it does not have.
        assert (status["status"], status["reason"]) in (("failed", "missing_text"), ("failed", "engine_refused"))
        assert answer["hits"] == direct["hits"]


def test_a_synthetic_source_has_a_text(real_engine: Engine, system: System) -> None:
    """Where the engine makes `_source` up from what it has indexed, that is what is scored and shown."""
    index = "films-synthetic"
    drop(real_engine, index)
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "index.mapping.source.mode": "synthetic"}
    mappings = {"properties": {"title": {"type": "keyword"}, "text": {"type": "text", "store": True}}}
    if real_engine.name == "opensearch":
        pytest.skip("OpenSearch has no synthetic source")
    send_json(f"{real_engine.url}/{index}", {"settings": settings, "mappings": mappings}, method="PUT")
    for number, text in enumerate(TEXTS):
        document = {"text": text, "title": ["t", "a", "t"]}
        send_json(f"{real_engine.url}/{index}/_doc/{number}?refresh=true", document, method="PUT")
    for changes in ({}, {"_source": False}, {"_source": ["title"]}):
        direct = send_json(f"{real_engine.url}/{index}/_search", {**QUERY, **changes}, method="POST")
        answer = system.search(index, {**QUERY, **changes})
        assert answer["_es_rerank"]["status"] == "full"
        assert unscored(answer) == unscored(direct)
        assert all(hit["_source"]["title"] == ["a", "t"] for hit in direct["hits"]["hits"] if "_source" in hit)


def test_a_target_of_copy_to_has_no_text(real_engine: Engine, system: System) -> None:
    """What the engine copies at indexing is not in `_source`: its order stays, and the status says why."""
    index = "films-copied"
    drop(real_engine, index)
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    mappings = {"properties": {"body": {"type": "text", "copy_to": "text"}, "text": {"type": "text", "store": True}}}
    send_json(f"{real_engine.url}/{index}", {"settings": settings, "mappings": mappings}, method="PUT")
    for number, text in enumerate(TEXTS):
        send_json(f"{real_engine.url}/{index}/_doc/{number}?refresh=true", {"body": text}, method="PUT")
    for changes in ({}, {"stored_fields": ["text"]}, {"fields": ["text"]}):
        direct = send_json(f"{real_engine.url}/{index}/_search", {**QUERY, **changes}, method="POST")
        answer = system.search(index, {**QUERY, **changes})
        status = answer.pop("_es_rerank")
        assert (status["status"], status["reason"]) == ("failed", "missing_text")
        assert answer["hits"] == direct["hits"]


def test_half_a_surrogate_pair_spoils_one_document_at_most(real_engine: Engine, system: System) -> None:
    """A document that engines store and no strict parser reads costs the others nothing."""
    index = "films-halves"
    real_engine.load(index, {str(number): {"text": text} for number, text in enumerate(TEXTS)})
    other = rb'{"text":"robot one","other":"x\ud800y"}'
    spoiled = rb'{"text":"robot two \udc00"}'
    for number, document in (("other", other), ("spoiled", spoiled)):
        send_json(f"{real_engine.url}/{index}/_doc/{number}?refresh=true", document, method="PUT")
    for changes in ({}, {"_source": ["other"]}, {"_source": False}):
        status = system.search(index, {**QUERY, **changes})["_es_rerank"]
        assert (status["status"], status["missing_text"]) == ("full", 1)
    request = urllib.request.Request(
        f"{system.url}/{index}/_search?q=text:robot", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        body = reply.read()
    assert other in body
    assert spoiled in body


def searches(engine: Engine, index: str) -> int:
    """How many searches the engine has done on an index."""
    stats = send_json(f"{engine.url}/{index}/_stats/search")
    return int(stats["_all"]["total"]["search"]["query_total"])


def test_a_window_that_is_too_large_is_not_fetched_again_and_again(
    real_engine: Engine, system: System, run_system: Callable[..., System]
) -> None:
    """After some searches in a row the engine is asked once a search, and a search that shows less is reranked."""
    index = "films-large"
    filling = "x" * 20_000
    real_engine.load(index, {str(number): {"text": f"robot {number}", "blob": filling} for number in range(40)})
    small = run_system(real_engine.url, extra=FIRST_RULE.replace("[limits]\n", "[limits]\nmax_answer_bytes = 200000\n"))
    before = searches(real_engine, index)
    for _ in range(6):
        answer = small.search(index, {**QUERY, "size": 3}, include=[])
        assert len(ids(answer)) == 3
    assert searches(real_engine, index) - before == 6 + 3
    status = small.search(index, {**QUERY, "size": 3})["_es_rerank"]
    assert (status["status"], status["reason"]) == ("failed", "answer_too_large")
    for changes in ({"_source": ["title"]}, {"_source": {"excludes": ["blob"]}}, {"_source": False}):
        assert small.search(index, {**QUERY, **changes})["_es_rerank"]["status"] == "full"


def raw(url: str, target: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of a search."""
    request = urllib.request.Request(url + target, body, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    "body",
    [
        b'/* why */{"query":{"match":{"text":"es_rerank robot"}}}',
        b'// why\n{"query":{"match":{"text":"\\"es_rerank\\" robot"}}}',
        b'{"query":{"match":{"text":"es_rerank robot \\ud800"}}}',
        b'# not a comment\n{"query":{"match":{"text":"es_rerank"}}}',
    ],
)
def test_a_search_for_our_own_name_is_the_engines(real_engine: Engine, system: System, body: bytes) -> None:
    """A body that only engines read, and that has our name in a text, gets what the engine says of it."""
    real_engine.load("films-named", {"1": {"text": "a robot"}})
    direct = raw(real_engine.url, "/films-named/_search?filter_path=hits,error,status", body, {})
    assert raw(system.url, "/films-named/_search?filter_path=hits,error,status", body, {}) == direct


@pytest.mark.parametrize("path", ["/films-named/_search/", "/films-named/_search//", "/films-named/_search"])
def test_every_path_that_engines_search_by_is_read(real_engine: Engine, system: System, path: str) -> None:
    """More slashes at the end mean the same search, to the engine and to us."""
    real_engine.load("films-named", {"1": {"text": "a robot"}})
    body = json.dumps({**QUERY, "ext": {"es_rerank": {"include": ["status"]}}}).encode()
    status, answer = raw(system.url, path, body, {})
    assert (status, json.loads(answer)["_es_rerank"]["status"]) == (200, "full")
    refused, error = raw(system.url, path, b'{"ext":{"es_rerank":{}},"query":"%s"}' % (b"x" * 5_000_000), {})
    assert refused == 400
    assert b"longer than limits.max_request_bytes" in error


def test_two_slashes_are_a_search_of_everything(
    real_engine: Engine, system: System, run_system: Callable[..., System]
) -> None:
    """`//_search` searches every index, whatever `index` says in the URL, and only a rule for all covers it."""
    everything = run_system(real_engine.url, extra=EVERYTHING)
    real_engine.load("films-named", {"1": {"text": "a quokka"}})
    body = b'{"query":{"match":{"text":"quokka"}}}'
    for url, rule in ((system.url, None), (everything.url, "all")):
        status, answer = raw(url, "//_search?index=none", body, {"es-rerank": "include=status"})
        assert (status, json.loads(answer)["_es_rerank"]["rule"]) == (200, rule)


def recorded(path: str) -> Iterator[dict[str, Any]]:
    """What a real OpenSearch Dashboards sent to paths that match this expression."""
    for file in sorted(RECORDINGS.glob("*.jsonl*")):
        lines = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for line in lines.splitlines():
            exchange = json.loads(line)
            if re.fullmatch(path, exchange["path"].partition("?")[0]) and exchange["method"] in ("GET", "POST"):
                yield exchange


def is_by_relevance(exchange: dict[str, Any]) -> bool:
    """Whether a search of Discover wants the best hits first."""
    try:
        body = json.loads(exchange["body"] or "{}")
    except ValueError:
        return False
    return body.get("sort") == [{"_score": {"order": "desc"}}] and bool(body["query"]["bool"]["must"])


def test_what_dashboards_sends_is_left_alone_or_reranked_as_the_rule_says(
    opensearch: Engine, system_on: Callable[[Engine], System], run_system: Callable[..., System]
) -> None:
    """Discover's relevance searches are the engine's own, or full where the rule says so; Dev Tools' are never left."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings beside this checkout ({RECORDINGS})")
    system_on(opensearch)  # its worker serves the others too
    films = {
        str(number): {"title": f"wizard {number}", "text": f"space wizard school {text}", "released": "2001-01-01"}
        for number, text in enumerate(TEXTS)
    }
    opensearch.load("movies-1", films)
    leaving = run_system(opensearch.url, extra=MOVIES)
    taking = run_system(opensearch.url, extra=MOVIES + 'dashboards = "rerank"\n')
    pages = 0
    for exchange in recorded("/movies.*/_search"):
        names = ("x-opensearch-product-origin", "x-opaque-id", "x-forwarded-for", "x-forwarded-host")
        headers = {name: value for name, value in exchange["headers"] if name.lower() in names}
        body = None if exchange["body"] is None else exchange["body"].encode()
        asking = {**headers, "es-rerank": "include=status"}
        if "X-Forwarded-For" in headers:
            _, answer = raw(leaving.url, exchange["path"], body, asking)
            assert b"product_origin" not in answer
        elif is_by_relevance(exchange):
            pages += 1
            before = json.loads(raw(opensearch.url, exchange["path"], body, headers)[1])
            left = json.loads(raw(leaving.url, exchange["path"], body, asking)[1])
            assert left.pop("_es_rerank")["reason"] == "product_origin"
            assert left["hits"] == before["hits"]
            taken = json.loads(raw(taking.url, exchange["path"], body, asking)[1])
            assert taken["_es_rerank"]["status"] == "full"
            assert unscored(taken) == unscored(before)
    assert pages


@pytest.mark.parametrize("accept", ["application/vnd.elasticsearch+json; compatible-with=8", "application/json"])
def test_a_search_in_its_url_alone_stays_without_a_body(real_engine: Engine, system: System, accept: str) -> None:
    """Where such a search hides the text, nothing is added that could make it wrong, whatever it accepts."""
    real_engine.load("films-named", {str(number): {"text": text} for number, text in enumerate(TEXTS)})
    target = "/films-named/_search?q=text:robot&_source=false"
    before, direct = raw(real_engine.url, target, None, {"accept": accept})
    after, through = raw(system.url, target, None, {"accept": accept, "es-rerank": "include=status"})
    assert before == after
    if before == 200:
        assert json.loads(through)["_es_rerank"]["status"] == "full"
        assert unscored(json.loads(through)) == unscored(json.loads(direct))


def test_a_field_that_no_document_has_is_told_once(osmem_url: str, run_system: Callable[..., System]) -> None:
    """After twenty searches without a hit that has it, the health names the field and the log has one warning."""
    Engine("osmem", osmem_url).load("films-few", {"1": {"text": "a robot"}, "2": {"text": "two robots", "title": "x"}})
    system = run_system(osmem_url, extra=FIRST_RULE.replace('"title"', '"titel", "title"'))
    for searched in range(22):
        status = system.search("films-few", QUERY)["_es_rerank"]
        assert status["missing_fields"] == {"titel": 2, "title": 1}
        found = system.health()["rules"]["absent_fields"]
        assert found == ({"films": ["titel"]} if searched >= 19 else {})
    lines = system.proxy.log.read_text().splitlines()
    assert sum("'titel'" in line for line in lines) == 1


def test_batched_searches_of_dashboards_are_left_alone_and_those_of_dev_tools_are_reranked(
    opensearch: Engine, system_on: Callable[[Engine], System], run_system: Callable[..., System]
) -> None:
    """Answers to its pages are the engine's, byte for byte but for the time; those to Dev Tools have the same hits."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings beside this checkout ({RECORDINGS})")
    system_on(opensearch)  # its worker serves the other too
    films = {str(number): {"title": "t", "text": f"wizard school {text}"} for number, text in enumerate(TEXTS)}
    opensearch.load("movies-1", films)
    leaving = run_system(opensearch.url, extra=MOVIES)
    kinds = set()
    for exchange in recorded("/_msearch"):
        headers = {
            name: value for name, value in exchange["headers"] if name.lower().startswith(("x-", "content-type"))
        }
        answers = [
            raw(url, exchange["path"], exchange["body"].encode(), headers) for url in (opensearch.url, leaving.url)
        ]
        (status, direct), (_, through) = [(code, re.sub(rb'"took" ?: ?[0-9]+', b"", body)) for code, body in answers]
        from_dev_tools = "X-Forwarded-For" in headers
        kinds.add(from_dev_tools)
        if from_dev_tools:
            assert through.count(b'"_id"') == direct.count(b'"_id"')
            assert (answers[1][0], through != direct) == (status, True)
        else:
            assert (answers[1][0], through) == (status, direct)
    assert kinds == {True, False}
