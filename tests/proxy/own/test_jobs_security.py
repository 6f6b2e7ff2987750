"""Jobs on a real Elasticsearch with security: everything is done with the rights of the caller, who is never kept."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Engine, System, real_engine_process
from tests.proxy.own.system import RULES, ask, await_store, begin, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.engines

REPLAYS, SWEEPS = "/_es_rerank/replays", "/_es_rerank/sweeps"
ADMIN = ("elastic", "changeme")
PASSWORD = "correct horse battery"
STORE = f'[store]\nuser = "{ADMIN[0]}"\npassword = "{ADMIN[1]}"\n'
FILMS = {
    str(number): {
        "owner": "ann" if number % 2 else "ben",
        "title": f"Robot {number}",
        "text": f"A robot of {number} days",
    }
    for number in range(1, 11)
}
HERS = {key for key, film in FILMS.items() if film["owner"] == "ann"}
QUERIES = [{"query_id": f"q{number}", "user_query": f"robot {number} days"} for number in range(1, 5)]
OURS = {"names": ["es-rerank-*"], "privileges": ["read", "write"]}
ROLES: dict[str, list[dict[str, Any]]] = {
    "ann": [OURS, {"names": ["films*"], "privileges": ["read"], "query": {"term": {"owner": "ann"}}}],
    "stranger": [OURS, {"names": ["other"], "privileges": ["read"]}],
    "reader": [{"names": ["films*"], "privileges": ["read"]}],
}
ANN, STRANGER, READER = ((name, PASSWORD) for name in ROLES)


@pytest.fixture(scope="module")
def secured() -> Iterator[Engine]:
    """An Elasticsearch with document-level security, films of two owners, and three users."""
    with real_engine_process("elasticsearch", "--security") as engine:

        def admin(method: str, path: str, body: Any = None) -> None:
            assert ask(engine.url, method, path, body, user=ADMIN).status in (200, 201)

        admin("POST", "/_license/start_trial?acknowledge=true")
        admin("PUT", "/films", {"mappings": {"properties": {"owner": {"type": "keyword"}}}})
        for key, film in FILMS.items():
            admin("PUT", f"/films/_doc/{key}?refresh=true", film)
        for name, indices in ROLES.items():
            admin("POST", f"/_security/role/{name}", {"indices": indices, "cluster": ["manage_own_api_key"]})
            admin("POST", f"/_security/user/{name}", {"password": PASSWORD, "roles": [name]})
        yield engine


@pytest.fixture(scope="module")
def system(secured: Engine, redis_url: str, run_system: Callable[..., System]) -> System:
    """The system before it, with a login of its own."""
    system = run_system(secured.url, redis=redis_url, extra=STORE + RULES)
    if not system.workers():
        system.start_worker()
    await_store(secured.url, user=ADMIN)
    return system


def everything_in(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """All documents of our own indices, by index."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ("jobs", "windows", "runs", "judgments"):
        ask(engine.url, "POST", f"/es-rerank-{name}/_refresh", user=ADMIN)
        answer = ask(engine.url, "GET", f"/es-rerank-{name}/_search?size=1000", user=ADMIN)
        found[name] = [hit["_source"] for hit in answer.value["hits"]["hits"]]
    return found


def test_a_recording_has_what_its_caller_may_see_and_no_secret(secured: Engine, system: System) -> None:
    """Another owner's films are in no window, and no password is in a document or in the log."""
    body = {"index": "films", "queries": QUERIES}
    identity = begin(system.url, REPLAYS, body, user=ANN)
    job = finish(system.url, f"{REPLAYS}/{identity}", user=ANN)
    assert (job["who"], job["done"]) == ("ann", len(QUERIES))
    line = {"name": "hers", "query_id": "q1", "user_query": "robot", "object_id": "1", "grade": 1}
    judged = b'{"index":{}}\n' + json.dumps(line).encode() + b"\n"
    assert ask(secured.url, "POST", "/es-rerank-judgments/_bulk?refresh=true", judged, user=ANN).status == 200
    sweep = begin(system.url, SWEEPS, {"recording": identity, "judgments": "hers"}, user=ANN)
    assert "nDCG@10" in finish(system.url, f"{SWEEPS}/{sweep}", user=ANN)["verdict"]
    kept = everything_in(secured)
    seen = {key for window in kept["windows"] for _, key in window["query"]["ids"]}
    assert seen == HERS
    told = json.dumps(kept) + system.proxy.log.read_text()
    for user, password in (ANN, ADMIN):
        coded = base64.b64encode(f"{user}:{password}".encode()).decode()
        assert password not in told
        assert coded not in told


def test_who_may_not_search_the_index_learns_nothing_of_its_jobs(system: System) -> None:
    """The rights on our own indices are not enough: the engine refuses, and the list leaves such jobs out."""
    identity = begin(system.url, REPLAYS, {"index": "films", "queries": QUERIES}, user=ANN)
    finish(system.url, f"{REPLAYS}/{identity}", user=ANN)
    for method, path in (("GET", ""), ("POST", "/_cancel"), ("POST", "/_resume"), ("DELETE", "")):
        assert ask(system.url, method, f"{REPLAYS}/{identity}{path}", user=STRANGER).status == 403
    assert ask(system.url, "GET", REPLAYS, user=STRANGER).value == {"replays": []}
    table = "/_es_rerank/_cat/runs?format=json&h=id&size=1000"
    assert ask(system.url, "GET", table, user=STRANGER).value == []
    assert {"id": identity} in ask(system.url, "GET", table, user=ANN).value
    body = {"recording": identity, "judgments": "hers"}
    assert ask(system.url, "POST", SWEEPS, body, user=STRANGER).status == 403
    judging = f"/_es_rerank/judgments/model/_from_recording?recording={identity}"
    assert ask(system.url, "POST", judging, user=STRANGER).status == 403
    assert ask(system.url, "POST", REPLAYS, {"index": "films", "queries": QUERIES}, user=STRANGER).status == 403
    assert ask(system.url, "GET", f"{REPLAYS}/{identity}").status == 401


def test_who_may_not_write_our_indices_begins_nothing(secured: Engine, system: System) -> None:
    """The engine's refusal is the answer."""
    before = len(everything_in(secured)["jobs"])
    answer = ask(system.url, "POST", REPLAYS, {"index": "films", "queries": QUERIES}, user=READER)
    assert (answer.status, "security_exception" in json.dumps(answer.value)) == (403, True)
    assert len(everything_in(secured)["jobs"]) == before


def test_a_caller_who_is_not_known_any_more_is_followed_by_another(secured: Engine, system: System) -> None:
    """The replay is interrupted, says why, and goes on with the credentials of who resumes it."""
    key = ask(secured.url, "POST", "/_security/api_key", {"name": "hers"}, user=ANN).value
    body = {"index": "films", "queries": [{"query_id": f"k{at}", "user_query": f"robot {at}"} for at in range(300)]}
    answer = ask(system.url, "POST", REPLAYS, {**body, "concurrency": 1}, api_key=key["encoded"])
    assert answer.status == 202
    path = f"{REPLAYS}/{answer.value['id']}"
    assert ask(secured.url, "DELETE", "/_security/api_key", {"ids": [key["id"]]}, user=ADMIN).status == 200
    # Its document can't be written with a key that is not valid any more, so its age tells.
    update = {"doc": {"updated": "2026-01-01T00:00:00.000000Z"}}
    job = ask(system.url, "GET", path, user=ANN).value
    assert job["who"] == key["id"]
    ask(secured.url, "POST", f"/es-rerank-jobs/_update/{job['id']}?refresh=true", update, user=ADMIN)
    assert ask(system.url, "POST", f"{path}/_resume", user=ANN).status == 202
    assert finish(system.url, path, user=ANN)["done"] == 300
    assert key["encoded"] not in json.dumps(everything_in(secured)) + system.proxy.log.read_text()
