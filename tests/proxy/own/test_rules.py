"""Rules read and changed by callers, through a running proxy, on every engine."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.store.indices import RULES
from tests.conftest import Engine, send_json
from tests.proxy.own.system import await_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

INDEX = "es-rerank-rules"
RULES_PATH = "/_es_rerank/rules"
CONFIG = """
[store]
poll_s = 0.2
[scorers.e5]
kind = "e5"
[[rules]]
name = "films"
indices = ["films-ruled"]
fields = ["title"]
window = 100
[[rules]]
name = "rest"
indices = ["rest-*"]
fields = ["text"]
"""
FOLLOW_LIMIT_S = 50.0
KEYS: dict[str, Any] = {"indices": ["films-ruled"], "fields": ["title", "text"]}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and warnings of an answer."""

    status: int
    body: Any
    warnings: list[str]

    @property
    def reason(self) -> str:
        """The reason of an error."""
        return str(self.body["error"]["reason"])


@dataclass(frozen=True, slots=True)
class Ruled:
    """A proxy whose rules can be changed, and its engine."""

    system: System
    engine: Engine

    def ask(self, method: str, target: str = "", body: Any = None) -> Answer:
        """One request below the path of rules."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.system.url}{RULES_PATH}{target}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return Answer(reply.status, json.load(reply), reply.headers.get_all("warning", []))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error), [])

    def window(self) -> int:
        """How many hits a search of the films looks at: at most the window of the rule in force."""
        body = {"query": {"match": {"title": "film"}}, "size": 1}
        return int(self.system.search("films-ruled", body)["_es_rerank"]["window"])

    def stored(self) -> int:
        """How many versions the index has."""
        return int(send_json(f"{self.engine.url}/{INDEX}/_count")["count"])


@pytest.fixture(scope="module")
def ruled_on(run_system: Callable[..., System]) -> Callable[[Engine], Ruled]:
    """A proxy with a store before an engine: started once for each."""
    started: dict[str, Ruled] = {}

    def start(engine: Engine) -> Ruled:
        if engine.url not in started:
            engine.load("films-ruled", {str(number): {"title": f"film {number}"} for number in range(30)})
            started[engine.url] = Ruled(run_system(engine.url, extra=CONFIG), engine)
            await_store(engine.url)
        return started[engine.url]

    return start


@pytest.fixture
def ruled(ruled_on: Callable[[Engine], Ruled], any_engine: Engine) -> Iterator[Ruled]:
    """A proxy that has only the file's rules in force, before each engine in turn."""
    yield (ruled := ruled_on(any_engine))
    forget(ruled)


@pytest.fixture
def embedded(ruled_on: Callable[[Engine], Ruled], osmem_url: str) -> Iterator[Ruled]:
    """The same before the embedded engine, for what no engine has a part in."""
    yield (ruled := ruled_on(Engine("osmem", osmem_url)))
    forget(ruled)


def forget(ruled: Ruled) -> None:
    """Delete all stored rules, and wait until the proxy has followed."""
    ruled.engine.make_anew(RULES)
    give_up_s = time.monotonic() + FOLLOW_LIMIT_S
    while ruled.system.health()["rules"]["stored"] or ruled.system.health()["rules"]["invalid"]:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_a_rule_is_put_and_taken_back(ruled: Ruled) -> None:
    """A rule is in force at once, every change is a version, and a rollback undoes the last one that is left."""
    assert [(one["name"], one["origin"], one["version"]) for one in ruled.ask("GET").body["rules"]] == [
        ("films", "file", None),
        ("rest", "file", None),
    ]
    put = ruled.ask("PUT", "/films?why=more%20text", {**KEYS, "name": "films", "window": 7})
    assert (put.status, put.body["result"], put.body["version"], put.body["origin"]) == (201, "created", 1, "stored")
    assert ruled.window() == 7
    put = ruled.ask("PUT", "/films?if_version=1", {**KEYS, "window": 8})
    assert (put.status, put.body["result"], put.body["version"]) == (200, "updated", 2)
    assert ruled.window() == 8
    back = ruled.ask("POST", "/films/_rollback")
    assert (back.body["result"], back.body["version"], back.body["restores"]) == ("rolled_back", 3, 1)
    assert ruled.window() == 7
    back = ruled.ask("POST", "/films/_rollback?if_version=3&why=worse")
    assert (back.body["version"], back.body["restores"], back.body["origin"]) == (4, 0, "file")
    assert ruled.window() == 30
    assert ruled.ask("POST", "/films/_rollback").reason.endswith("nothing is before that")
    assert ruled.ask("DELETE", "/films").status == 404

    one = ruled.ask("GET", "/films").body
    assert (one["origin"], one["version"], one["newest_version"], one["versions_total"]) == ("file", None, 4, 4)
    assert one["rule"] == {"indices": ["films-ruled"], "fields": ["title"], "window": 100}
    shown = [(version["version"], version["action"], version.get("why")) for version in one["versions"]]
    assert shown == [(4, "rollback", "worse"), (3, "rollback", None), (2, "put", None), (1, "put", "more text")]
    assert {version["who"] for version in one["versions"]} == {"unknown"}
    assert one["versions"][2]["rule"] == {**KEYS, "window": 8}


def test_a_deleted_rule_comes_back(ruled: Ruled) -> None:
    """After a delete the file's rule holds again, and a rollback undoes the delete."""
    ruled.ask("PUT", "/films", {**KEYS, "window": 7})
    gone = ruled.ask("DELETE", "/films?if_version=1&why=over")
    assert (gone.status, gone.body["result"], gone.body["version"], gone.body["origin"]) == (200, "deleted", 2, "file")
    assert ruled.window() == 30
    back = ruled.ask("POST", "/films/_rollback")
    assert (back.body["restores"], back.body["origin"]) == (1, "stored")
    assert ruled.window() == 7
    assert ruled.ask("GET").body["rules"][0]["version"] == 3


def test_a_new_rule_is_tried_first(ruled: Ruled) -> None:
    """A stored rule with a new name stands before the file's, and a deleted one without a namesake is gone."""
    assert ruled.ask("PUT", "/new", {"indices": ["new-*"], "template": "{text}"}).status == 201
    assert [one["name"] for one in ruled.ask("GET").body["rules"]] == ["new", "films", "rest"]
    assert ruled.ask("DELETE", "/new").body["origin"] is None
    assert [one["name"] for one in ruled.ask("GET").body["rules"]] == ["films", "rest"]
    assert [version["action"] for version in ruled.ask("GET", "/new").body["versions"]] == ["delete", "put"]
    assert ruled.ask("GET", "/none").status == ruled.ask("POST", "/none/_rollback").status == 404


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("films", {**KEYS, "windw": 7}, "windw: unknown key; did you mean 'window'? allowed are name, indices"),
        ("films", {**KEYS, "window": "7"}, 'window = "7": input should be a valid integer'),
        ("films", {**KEYS, "window": 201}, "window = 201: at most limits.max_window = 200"),
        ("films", {**KEYS, "alpha": 1.5}, "alpha = 1.5: input should be less than or equal to 1"),
        ("films", {**KEYS, "method": "sum"}, 'method = "sum": input should be'),
        ("films", {**KEYS, "scorer": "erank"}, "scorer = 'erank': known are minilm, e5"),
        ("films", {**KEYS, "mode": "think"}, "the scorer 'minilm' is of kind 'minilm', which does not think"),
        ("films", {"indices": ["films-ruled"]}, "either fields or template says what text is scored"),
        ("films", {"fields": ["title"]}, "indices: is missing"),
        ("films", {**KEYS, "indices": [".kibana"]}, "not beginning with '.'"),
        ("films", {**KEYS, "name": "other"}, "[name] in the body must be [films] as in the path"),
        ("films", [KEYS], "the body must be one JSON object"),
        ("films", None, "the body must have the rule's keys as JSON"),
        ("new", KEYS, "with this rule, the file's rule 'films' would never be used"),
        ("a%20b", KEYS, 'name = "a b"'),
        ("films?if_version=x", KEYS, "[if_version] must be a version's number"),
        ("films?version=1", KEYS, "unrecognized parameter: [version]; allowed are [why, from_run, if_version]"),
    ],
)  # fmt: skip
def test_a_wrong_rule_changes_nothing(embedded: Ruled, name: str, body: Any, said: str) -> None:
    """It is a 400 that names the key, its value and what is allowed, in the words of the configuration."""
    before = embedded.system.health()["rules"]
    refused = embedded.ask("PUT", f"/{name}", body)
    assert refused.status == 400
    assert said in refused.reason
    assert embedded.stored() == 0
    assert embedded.system.health()["rules"] == before


def test_no_change_makes_another_stored_rule_useless(embedded: Ruled) -> None:
    """A rule that takes the indices of another stored one is refused, whether it is put or comes back."""
    embedded.ask("PUT", "/new", {**KEYS, "indices": ["rest-1"]})
    refused = embedded.ask("PUT", "/a", {**KEYS, "indices": ["rest-1"]})
    assert (refused.status, "the stored rule [new] could not hold" in refused.reason) == (400, True)
    embedded.ask("PUT", "/rest", {**KEYS, "indices": ["more-*"]})
    assert embedded.ask("PUT", "/catch", {**KEYS, "indices": ["rest-*"]}).status == 400
    assert embedded.ask("DELETE", "/new").status == 200
    assert embedded.ask("PUT", "/catch", {**KEYS, "indices": ["rest-*"]}).status == 201
    refused = embedded.ask("DELETE", "/rest")
    assert (refused.status, "the stored rule [catch] could not hold" in refused.reason) == (400, True)


def test_no_update_is_lost(ruled: Ruled) -> None:
    """A change for another version than the newest is a 409, and of many at a time each is a version or a 409."""
    assert ruled.ask("PUT", "/films?if_version=1", KEYS).status == 409
    assert ruled.ask("PUT", "/films?if_version=0", KEYS).status == 201
    for method, target in (("PUT", "/films?if_version=0"), ("DELETE", "/films?if_version=2")):
        refused = ruled.ask(method, target, KEYS if method == "PUT" else None)
        assert (refused.status, "the newest version is [1]" in refused.reason) == (409, True)
    assert ruled.ask("POST", "/films/_rollback?if_version=7").status == 409
    assert ruled.stored() == 1
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: ruled.ask("PUT", "/films", {**KEYS, "window": number}), range(1, 9)))
    assert {answer.status for answer in answers} <= {200, 409}
    numbers = sorted(answer.body["version"] for answer in answers if answer.status == 200)
    assert numbers == list(range(2, ruled.stored() + 1))
    assert numbers


def test_a_run_s_winner_is_promoted(ruled: Ruled) -> None:
    """The rule in force keeps its keys and takes the winner's setting; the version says from which run."""
    winner = {"window": 12, "method": "rrf", "alpha": 0.35, "score": "paper"}
    job = {"kind": "sweep", "state": "done", "rule": "films", "scorer": "minilm", "result": {"winner": winner}}
    jobs = {
        "good": job,
        "doubtful": {**job, "scorer": "e5", "result": {"winner": winner, "better": False}},
        "running": {**job, "state": "running", "result": None},
        "replay": {**job, "kind": "replay"},
        "other": {**job, "rule": "rest"},
        "none": {**job, "result": {"winner": None}},
        "wide": {**job, "result": {"winner": {**winner, "window": 500}}},
    }
    for key, document in jobs.items():
        send_json(f"{ruled.engine.url}/es-rerank-jobs/_doc/rules-{key}?refresh=true", document, method="PUT")
    try:
        for key, (status, said) in {
            "absent": (404, "no run [rules-absent]"),
            "running": (400, "the run [rules-running] is not done, its state is [running]"),
            "replay": (400, "the run [rules-replay] is a [replay]; only a [sweep] finds a setting"),
            "other": (400, "the run [rules-other] is about the rule [rest], not [films]"),
            "none": (400, "the run [rules-none] has no winner with window, method, alpha, score"),
            "wide": (400, "window = 500: at most limits.max_window = 200"),
        }.items():
            refused = ruled.ask("PUT", f"/films?from_run=rules-{key}")
            assert (refused.status, said in refused.reason) == (status, True), refused
        assert ruled.ask("PUT", "/none?from_run=rules-good").status == 404
        assert ruled.stored() == 0
        assert ruled.ask("PUT", "/films?from_run=rules-good").status == 201
        doubts = ruled.ask("PUT", "/films?from_run=rules-doubtful").body["warnings"]
        assert ["no reason to change" in doubts[0], "of another scorer" in doubts[1]] == [True, True]
        assert ruled.ask("POST", "/films/_rollback").body["restores"] == 1
    finally:
        for key in jobs:
            send_json(f"{ruled.engine.url}/es-rerank-jobs/_doc/rules-{key}", method="DELETE")
    one = ruled.ask("GET", "/films").body
    changed = {"window": 12, "method": "rrf", "alpha": 0.35}
    assert one["rule"] == {"indices": ["films-ruled"], "fields": ["title"], **changed}
    assert [version.get("from_run") for version in one["versions"]] == [None, "rules-doubtful", "rules-good"]
    hits = send_json(f"{ruled.engine.url}/{INDEX}/_search", {"query": {"term": {"method": "rrf"}}}, method="POST")
    source = hits["hits"]["hits"][0]["_source"]
    assert {key: source[key] for key in ("alpha", "window", "score", "scorer")} == {
        "alpha": 0.35, "window": 12, "score": "paper", "scorer": "minilm",
    }  # fmt: skip


def test_a_scorer_that_nobody_serves_is_a_warning(ruled: Ruled) -> None:
    """The rule holds, and body and header say what is missing."""
    put = ruled.ask("PUT", "/films", {**KEYS, "scorer": "e5"})
    assert put.status == 201
    [warning] = put.body["warnings"]
    assert "no worker serves the scorer e5" in warning
    assert put.warnings == [f'299 es-rerank "{warning}"']


def test_what_is_probably_not_meant_is_a_warning(embedded: Ruled) -> None:
    """As for the file: patterns that only an alias can have, or that a rule before takes."""
    embedded.ask("PUT", "/a", {"indices": ["new-1"], "fields": ["text"]})
    put = embedded.ask("PUT", "/new", {"indices": ["New-*", "new-1"], "fields": ["text"]})
    assert put.status == 201
    alias, taken, *_ = put.body["warnings"]  # and another one while nothing serves the scorer
    assert alias == "indices[0] = 'New-*': can match an alias only, since the names of indices are in lower case"
    assert taken == "indices[1] = 'new-1': has no effect here, since the rule 'a' before it takes these indices"


def test_what_is_written_past_us_is_bounded_and_told(ruled: Ruled) -> None:
    """A document that was written by hand is checked too: health and the rule's page say what is wrong."""
    ruled.ask("PUT", "/films", {**KEYS, "window": 7})
    wrong = {"name": "films", "version": 2, "action": "put", "rule": {**KEYS, "window": 201}}
    send_json(f"{ruled.engine.url}/{INDEX}/_doc/films@2?refresh=true", wrong, method="PUT")
    why = "window = 201: at most limits.max_window = 200"
    for shown in (ruled.ask("GET").body["invalid"].get("films"), ruled.ask("GET", "/films").body["invalid"]):
        assert shown == why
    assert ruled.ask("PUT", "/new", {"indices": ["new-*"], "fields": ["text"]}).status == 201
    assert ruled.system.health()["rules"]["invalid"] == {"films": why}
    assert ruled.system.health()["rules"]["stored"] == 1
    assert ruled.window() == 30
    assert ruled.ask("POST", "/films/_rollback").body["restores"] == 1
    assert ruled.window() == 7


def test_the_index_is_made_again(ruled: Ruled) -> None:
    """Where the index is gone, a change makes it as it is defined."""
    send_json(f"{ruled.engine.url}/{INDEX}", method="DELETE")
    assert [one["origin"] for one in ruled.ask("GET").body["rules"]] == ["file", "file"]
    assert ruled.ask("PUT", "/films", {**KEYS, "window": 7}).status == 201
    mapping = send_json(f"{ruled.engine.url}/{INDEX}/_mapping")[INDEX]["mappings"]["properties"]
    assert mapping["name"]["type"] == "keyword"
    assert ruled.window() == 7


def test_without_a_store_there_are_no_stored_rules(osmem_url: str, run_system: Callable[..., System]) -> None:
    """Every path of rules says what the configuration needs."""
    system = run_system(osmem_url)
    for method, target in (("GET", ""), ("GET", "/a"), ("PUT", "/a"), ("DELETE", "/a"), ("POST", "/a/_rollback")):
        request = urllib.request.Request(f"{system.url}{RULES_PATH}{target}", method=method)
        with pytest.raises(urllib.error.HTTPError, match="501") as refused:
            urllib.request.urlopen(request)
        with refused.value as error:
            assert "[store]" in json.load(error)["error"]["reason"]
    assert system.health()["rules"]["stored"] == 0
