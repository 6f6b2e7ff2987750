"""Who may do what with judgment lists: the engine's roles decide, by the caller's own credentials."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import real_engine_process
from tests.proxy.own.asked import LISTS, RULE, Answer, Asked
from tests.proxy.own.system import await_store
from tests.proxy.own.test_from_clicks import event, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

PASSWORD = "correct horse"
JUDGMENTS = "es-rerank-judgments"
ROLES: dict[str, dict[str, list[str]]] = {
    "reader": {JUDGMENTS: ["read"]},
    "writer": {JUDGMENTS: ["read", "write"], "es-rerank-hits-*": ["read"], "ubi_events": ["read"]},
    "stranger": {},
}
GRADE = {"query_id": "q1", "object_id": "d1", "grade": 2}


def basic(user: str, password: str = PASSWORD) -> str:
    """The value of the header Authorization."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def manage(url: str, path: str, body: Any, *, method: str = "PUT", login: str = "") -> Any:
    """What the engine answers to its administrator, or to somebody else."""
    headers = {"content-type": "application/json", "authorization": login or basic("elastic", "changeme")}
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


@pytest.fixture(scope="module")
def secured(run_system: Callable[..., System]) -> Iterator[Asked]:
    """A proxy with a store before an Elasticsearch with security and three users."""
    with real_engine_process("elasticsearch", "--security") as engine:
        for name, rights in ROLES.items():
            indices = [{"names": [index], "privileges": privileges} for index, privileges in rights.items()]
            role = {"cluster": ["manage_own_api_key"], "indices": indices}
            manage(engine.url, f"/_security/role/{name}", role)
            manage(engine.url, f"/_security/user/{name}", {"password": PASSWORD, "roles": [name]})
        store = '[store]\nuser = "elastic"\npassword = "changeme"\n'
        system = run_system(engine.url, extra=RULE, upstream=store)
        await_store(engine.url, user=("elastic", "changeme"))
        yield Asked(system, engine)


def test_the_engines_roles_decide(secured: Asked) -> None:
    """Who may write imports and deletes, who may read reads and exports, and a stranger learns nothing."""

    def ask(user: str, method: str, path: str, body: Any = None) -> Answer:
        return secured(method, path, body, authorization=basic(user))

    assert ask("writer", "PUT", f"{LISTS}/a", GRADE).status == 200
    assert ask("reader", "GET", f"{LISTS}/a").value[0]["who"] == "writer"
    assert ask("reader", "GET", LISTS).value["judgments"][0]["name"] == "a"
    refused = ask("reader", "PUT", f"{LISTS}/a", {**GRADE, "grade": 0})
    assert refused.status == 403
    assert "action [indices:data/write/bulk] is unauthorized for user [reader]" in refused.reason
    assert ask("reader", "DELETE", f"{LISTS}/a").status == 403
    for method, path in (
        ("GET", LISTS),
        ("GET", f"{LISTS}/a"),
        ("GET", f"{LISTS}/no"),
        ("PUT", f"{LISTS}/a"),
        ("DELETE", f"{LISTS}/a"),
        ("GET", f"{LISTS}/a/_agreement"),
        ("POST", f"{LISTS}/a/_from_clicks"),
        ("POST", f"{LISTS}/a/_from_recording?recording=r1"),
    ):
        answer = ask("stranger", method, path, GRADE if method in ("PUT", "POST") else None)
        assert (method, path, answer.status) == (method, path, 403)
    assert secured("GET", LISTS, authorization=basic("writer", "wrong")).status == 401
    assert ask("writer", "GET", f"{LISTS}/a").value[0]["grade"] == 2
    rows = [row(f"a{n}", "red", "d", 1) for n in range(10)]
    for index, documents in (("es-rerank-hits-2026.11", rows), ("ubi_events", [event("a0", "d")])):
        for document in documents:
            manage(secured.engine.url, f"/{index}/_doc?refresh=true", document, method="POST")
    assert ask("writer", "POST", f"{LISTS}/a/_from_clicks").status == 200
    assert ask("reader", "POST", f"{LISTS}/a/_from_clicks").status in (403, 404)
    key = manage(
        secured.engine.url, "/_security/api_key", {"name": "of the shop"}, method="POST", login=basic("writer")
    )
    answer = secured("PUT", f"{LISTS}/by-key", GRADE, authorization=f"ApiKey {key['encoded']}")
    assert answer.status == 200
    assert ask("reader", "GET", f"{LISTS}/by-key").value[0]["who"] == key["id"]
