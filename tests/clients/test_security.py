"""Users, roles and API keys through the proxy: whoever asks sees what the engine shows them, never another's documents.

On a real Elasticsearch 8 with security, whose trial licence has document- and field-level security.
"""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.transcript import assert_same, run_session
from tests.conftest import RULES, real_engine_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

ADMIN = ("elastic", "changeme")
PASSWORD = "correct horse"
FILMS = {
    "1": ("ann", "A robot in love", "A machine learns what tenderness is."),
    "2": ("ann", "The robot next door", "Neighbours quarrel over a hedge."),
    "3": ("ann", "Robot wars", "A city is lost, and people fall by thousands."),
    "4": ("ben", "Love, robot", "An android who was made to fight falls in love with an enemy."),
    "5": ("ben", "Robot circus", "A mechanic repairs what clowns break."),
    "6": ("ben", "My robot", "A widow writes letters to her machine and falls in love with its answers."),
}
QUERY = {"query": {"match": {"title": "a robot that falls in love"}}}
INDEX_BODY = {
    "settings": {"number_of_shards": 1, "number_of_replicas": 0},
    "mappings": {"properties": {"owner": {"type": "keyword"}}},
    "aliases": {"films-of-ann": {"filter": {"term": {"owner": "ann"}}}},
}
ALL_OF_OPEN = {"names": ["films-open"], "privileges": ["read", "view_index_metadata"]}
ROLES = {
    "reader": ALL_OF_OPEN,
    "stranger": {"names": ["films-others"], "privileges": ["read"]},
    "alias-reader": {"names": ["films-of-ann"], "privileges": ["read"]},
    "document-reader": {**ALL_OF_OPEN, "query": {"term": {"owner": "ann"}}},
    "title-reader": {**ALL_OF_OPEN, "field_security": {"grant": ["title", "owner"]}},
    "ownerless-reader": {**ALL_OF_OPEN, "field_security": {"grant": ["title", "text"]}},
}
# The index of a session, the client's arguments, and the status of its searches.
LOGINS: dict[str, tuple[str, dict[str, Any], int]] = {
    "admin": ("films-clients", {"basic_auth": ADMIN}, 200),
    "wrong password": ("films-clients", {"basic_auth": ["elastic", "wrong"]}, 401),
    "wrong key": ("films-clients", {"api_key": "bm90OmFrZXk="}, 401),
    "nobody": ("films-clients", {}, 401),
    "reader": ("films-open", {"basic_auth": ["reader", PASSWORD]}, 200),
    "stranger": ("films-open", {"basic_auth": ["stranger", PASSWORD]}, 403),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an answer, whatever it says."""

    status: int
    challenges: list[str]
    body: Any


def ask(
    url: str, target: str, body: Any = None, *, user: tuple[str, str] | None = ADMIN, method: str = "POST"
) -> Answer:
    """One request of a user, None for nobody."""
    headers = {"content-type": "application/json"}
    if user is not None:
        headers["authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + target, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return Answer(reply.status, [], json.load(reply))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers.get_all("www-authenticate", []), json.load(error))


def set_up(url: str) -> None:
    """Two indices with the same films, the second without their texts; a user for each role."""
    assert ask(url, "/_license/start_trial?acknowledge=true").body["trial_was_started"]
    for index, without in (("films-open", ""), ("films-titles", "text")):
        assert ask(url, f"/{index}", INDEX_BODY if index == "films-open" else None, method="PUT").status == 200
        for key, (owner, title, text) in FILMS.items():
            film = {"owner": owner, "title": title, "text": text}
            film.pop(without, None)
            assert ask(url, f"/{index}/_doc/{key}?refresh=true", film, method="PUT").status == 201
    for role, indices in ROLES.items():
        assert ask(url, f"/_security/role/{role}", {"indices": [indices]}).status == 200
        assert ask(url, f"/_security/user/{role}", {"password": PASSWORD, "roles": [role]}).status == 200


@pytest.fixture(scope="module")
def secured() -> Iterator[Engine]:
    """An Elasticsearch 8 with security, users and films."""
    with real_engine_process("elasticsearch", "--security") as engine:
        set_up(engine.url)
        yield engine


@pytest.fixture
def system(secured: Engine, system_on: Callable[[Engine], System]) -> System:
    """The system before it, to which an administrator has just put the query: its scores are cached."""
    system = system_on(secured)
    status, hits = search(system, "films-open", ADMIN)
    assert (status["status"], set(hits)) == ("full", set(FILMS))
    return system


def search(
    system: System, index: str, user: tuple[str, str], **changes: Any
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The status and the hits by id, with their scores, of the query as a user."""
    ext = {"es_rerank": {"include": ["status", "scores"]}}
    answer = ask(system.url, f"/{index}/_search", {**QUERY, "ext": ext, **changes}, user=user)
    assert answer.status == 200
    return answer.body["_es_rerank"], {hit["_id"]: hit for hit in answer.body["hits"]["hits"]}


def rank_scores(hits: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The rank score of each hit."""
    return {key: hit["_es_rerank"]["rank_score"] for key, hit in hits.items()}


@pytest.mark.parametrize("way", [(), ("--async",)], ids=["sync", "async"])
@pytest.mark.parametrize("login", LOGINS)
def test_a_login_does_what_it_does_on_the_engine(
    secured: Engine, system: System, login: str, way: tuple[str, ...]
) -> None:
    """A whole session under a login, rights and refusals and all, is the same through the proxy."""
    index, arguments, status = LOGINS[login]
    options = ("--index", index, "--client", json.dumps(arguments), *way)
    direct = run_session("elasticsearch8", secured.url, *options)
    assert_same(direct, run_session("elasticsearch8", system.url, *options))
    assert direct["calls"]["reranked"]["status"] == status


def test_an_api_key_does_what_it_does_on_the_engine(secured: Engine, system: System) -> None:
    """A session under an API key that may do everything is the same through the proxy."""
    key = ask(secured.url, "/_security/api_key", {"name": "session"}).body["encoded"]
    options = ("--client", json.dumps({"api_key": key}))
    direct = run_session("elasticsearch8", secured.url, *options)
    assert_same(direct, run_session("elasticsearch8", system.url, *options))
    assert direct["calls"]["bulk"]["value"] == [10, []]


@pytest.mark.parametrize("target", ["/", "/films-open/_search", "/films-open/_doc/1"])
@pytest.mark.parametrize("user", [None, ("elastic", "wrong")])
def test_a_challenge_comes_through_whole(
    secured: Engine, system: System, target: str, user: tuple[str, str] | None
) -> None:
    """A 401 carries each of the engine's WWW-Authenticate headers, in order, and the engine's own body."""
    method, body = ("POST", QUERY) if "_search" in target else ("GET", None)
    direct = ask(secured.url, target, body, user=user, method=method)
    assert ask(system.url, target, body, user=user, method=method) == direct
    assert direct.status == 401
    assert len(direct.challenges) == 2


def test_cached_scores_open_no_document(secured: Engine, system: System) -> None:
    """A user without the right to read gets the engine's own 403 for a query that others' scores are cached for."""
    stranger = ("stranger", PASSWORD)
    direct = ask(secured.url, "/films-open/_search", QUERY, user=stranger)
    assert direct.status == 403
    assert ask(system.url, "/films-open/_search", QUERY, user=stranger) == direct
    asking = {**QUERY, "ext": {"es_rerank": {"include": ["status", "scores"]}}}
    assert ask(system.url, "/films-open/_search", asking, user=stranger) == direct


@pytest.mark.parametrize(("user", "index"), [("alias-reader", "films-of-ann"), ("document-reader", "films-open")])
def test_a_user_sees_their_own_documents_with_shared_scores(
    secured: Engine, system: System, user: str, index: str
) -> None:
    """Behind a filtered alias, or under document-level security, only the user's documents are ranked and shown."""
    status, hits = search(system, index, (user, PASSWORD))
    assert status["status"] == "full"
    assert status["cached"] == status["window"] == 3
    assert {hit["_source"]["owner"] for hit in hits.values()} == {"ann"}
    _, all_hits = search(system, "films-open", ADMIN)
    assert rank_scores(hits) == {key: score for key, score in rank_scores(all_hits).items() if key in hits}
    direct = ask(secured.url, f"/{index}/_search", QUERY, user=(user, PASSWORD))
    assert {hit["_id"] for hit in direct.body["hits"]["hits"]} == set(hits)


def test_an_alias_opens_nothing_behind_it(secured: Engine, system: System) -> None:
    """Who may read an alias only gets the engine's own 403 for the index."""
    direct = ask(secured.url, "/films-open/_search", QUERY, user=("alias-reader", PASSWORD))
    assert direct.status == 403
    assert ask(system.url, "/films-open/_search", QUERY, user=("alias-reader", PASSWORD)) == direct


@pytest.mark.parametrize("changes", [{}, {"_source": False}, {"_source": ["owner"]}])
def test_a_masked_field_is_not_scored(system: System, changes: dict[str, Any]) -> None:
    """Under field-level security each hit is scored by what its user may read, however the text is asked for."""
    status, hits = search(system, "films-open", ("title-reader", PASSWORD), **changes)
    assert status["status"] == "full"
    assert not any("text" in hit.get("_source", {}) or "text" in hit.get("fields", {}) for hit in hits.values())
    _, titles_alone = search(system, "films-titles", ADMIN)
    _, whole = search(system, "films-open", ADMIN)
    assert rank_scores(hits) == rank_scores(titles_alone)
    assert all(rank_scores(hits)[key] != score for key, score in rank_scores(whole).items())


EVALUATION = {"requests": [{"id": "a", "request": QUERY, "ratings": []}], "metric": {"precision": {"k": 10}}}


@pytest.mark.parametrize(("user", "status"), [("stranger", 403), ("alias-reader", 403), ("wrong", 401), (None, 401)])
def test_our_own_paths_open_no_document(secured: Engine, system: System, user: str | None, status: int) -> None:
    """Who may not search gets the engine's refusal of the search, its challenges too, and no word of es-rerank's."""
    login = None if user is None else (user, PASSWORD)
    direct = ask(secured.url, "/films-open/_search", QUERY, user=login)
    assert direct.status == status
    for path, body in (("_explain", QUERY), ("_rank_eval", EVALUATION)):
        answered = ask(system.url, f"/_es_rerank/films-open/{path}", body, user=login)
        assert (answered.status, answered.challenges) == (direct.status, direct.challenges)
        assert answered.body["error"]["type"] == direct.body["error"]["type"]
        assert set(answered.body) == {"error", "status"}


def test_our_own_paths_show_a_user_their_own_documents(system: System) -> None:
    """Under document-level security, and under field-level security, texts and hits are what the user may read."""
    reader = ("document-reader", PASSWORD)
    told = ask(system.url, "/_es_rerank/films-open/_explain", QUERY, user=reader).body
    assert {hit["_id"] for hit in told["hits"]} == {key for key, (owner, *_) in FILMS.items() if owner == "ann"}
    evaluated = ask(system.url, "/_es_rerank/films-open/_rank_eval?engine", EVALUATION, user=reader).body
    for order in (evaluated, evaluated["engine"]):
        assert {one["hit"]["_id"] for one in order["details"]["a"]["hits"]} == {"1", "2", "3"}
    told = ask(system.url, "/_es_rerank/films-open/_explain", QUERY, user=("title-reader", PASSWORD)).body
    assert {hit["text"] for hit in told["hits"]} == {title for _, title, _ in FILMS.values()}


def test_events_are_written_with_the_rights_of_the_manual(
    secured: Engine, run_system: Callable[..., System], own_redis_url: str
) -> None:
    """The role of docs/events.md is enough, callers don't need it, and no password is in the log.

    A login that is not allowed to write costs events and nothing else.
    """
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    role = json.loads(re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[-1])
    assert ask(secured.url, "/_security/role/es-rerank", role).status == 200
    for user, roles in (("writer", ["es-rerank"]), ("preparer", ["es-rerank-preparer"])):
        assert ask(secured.url, f"/_security/user/{user}", {"password": PASSWORD, "roles": roles}).status == 200
    only_prepares = {**role, "indices": [{"names": ["es-rerank-*"], "privileges": ["create_index", "manage"]}]}
    assert ask(secured.url, "/_security/role/es-rerank-preparer", only_prepares).status == 200
    for user, written in (("writer", True), ("preparer", False)):
        tables = f'[store]\nuser = "{user}"\npassword = "{PASSWORD}"\n[events]\nflush_s = 0.1\n'
        system = run_system(secured.url, redis=own_redis_url, extra=tables + RULES)
        for reader, status in ((ADMIN, 200), (("reader", PASSWORD), 200)):
            assert ask(system.url, "/films-open/_search", QUERY, user=reader).status == status
        give_up_s = time.monotonic() + 60.0
        key = "written" if written else "failed"
        while not (counts := system.health()["parts"]["events"])[key]:
            assert time.monotonic() < give_up_s, counts
            time.sleep(0.1)
        assert set(counts["failed"]) == (set() if written else {"security_exception"})
        assert PASSWORD not in system.proxy.log.read_text()
        system.supervisor.end(system.proxy)


def test_what_a_field_is_is_told_to_each_user_alone(system: System) -> None:
    """A keyword that one user may see is no part of their question; one who may not see it learns nothing of it."""
    query = {"bool": {"must": [{"match": {"title": "robot"}}], "should": [{"match": {"owner": "ann"}}]}}
    ext = {"es_rerank": {"include": ["question"]}}
    for user, question in (("reader", "robot"), ("ownerless-reader", "robot ann"), ("reader", "robot")):
        status, _ = search(system, "films-open", (user, PASSWORD), query=query, ext=ext)
        assert status["question"] == question
