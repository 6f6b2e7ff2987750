"""Who may look at rules and change them: whoever the engine lets, in its own words when it doesn't.

On a real Elasticsearch 8 with security. The roles are those that the manual gives.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import real_engine_process
from tests.proxy.own.system import await_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
PASSWORD = "correct horse"
CONFIG = f"""
[store]
user = "es-rerank"
password = "{PASSWORD}"
poll_s = 0.2
[[rules]]
name = "films"
indices = ["films*"]
fields = ["title"]
"""
KEYS = {"indices": ["films*"], "fields": ["title"], "window": 7}
RULE = "/_es_rerank/rules/films"


def basic(user: str, password: str = PASSWORD) -> str:
    """The header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


ADMIN = basic("elastic", "changeme")


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an answer, whatever it says."""

    status: int
    body: Any


def ask(
    url: str, method: str, target: str, body: Any = None, *, login: str | None = ADMIN, run_as: str | None = None
) -> Answer:
    """One request with a login, None for nobody's."""
    headers = {"content-type": "application/json"}
    headers |= {} if login is None else {"authorization": login}
    headers |= {} if run_as is None else {"es-security-runas-user": run_as}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + target, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return Answer(reply.status, json.load(reply))
    except urllib.error.HTTPError as error:
        with error:
            said = error.read()
        zipped = error.headers.get("content-encoding") == "gzip"
        return Answer(error.code, json.loads(gzip.decompress(said) if zipped else said))


def roles_of_the_manual() -> dict[str, Any]:
    """The roles for Elasticsearch that the page of rules gives, by name."""
    found = re.findall(r"^PUT /_security/role/(\S+)\n(\{.*?^\})$", PAGE, re.MULTILINE | re.DOTALL)
    return {name: json.loads(body) for name, body in found}


@pytest.fixture(scope="module")
def secured() -> Iterator[Engine]:
    """An Elasticsearch 8 with security, and a user for each role of the manual."""
    with real_engine_process("elasticsearch", "--security") as engine:
        roles = roles_of_the_manual()
        assert set(roles) == {"es-rerank", "es-rerank-reader", "es-rerank-promoter"}
        for role, body in roles.items():
            assert ask(engine.url, "PUT", f"/_security/role/{role}", body).status == 200
            user = {"password": PASSWORD, "roles": [role]}
            assert ask(engine.url, "PUT", f"/_security/user/{role}", user).status == 200
        assert ask(engine.url, "PUT", "/_security/user/stranger", {"password": PASSWORD, "roles": []}).status == 200
        yield engine


@pytest.fixture(scope="module")
def system(secured: Engine, run_system: Callable[..., System]) -> System:
    """A proxy before it, with a login of its own."""
    system = run_system(secured.url, extra=CONFIG)
    await_store(secured.url, user=("elastic", "changeme"))
    assert ask(system.url, "PUT", RULE, KEYS, login=basic("es-rerank-promoter")).status == 201
    return system


def state(system: System) -> Any:
    """What is in force, and every version."""
    return ask(system.url, "GET", RULE).body, system.health()["rules"]


@pytest.mark.parametrize("change", [("PUT", RULE, KEYS), ("DELETE", RULE), ("POST", f"{RULE}/_rollback")])
@pytest.mark.parametrize(
    ("login", "status"),
    [(basic("es-rerank-reader"), 403), (basic("stranger"), 403), (basic("elastic", "wrong"), 401), (None, 401)],
)
def test_who_may_not_write_changes_nothing(
    system: System, change: tuple[Any, ...], login: str | None, status: int
) -> None:
    """A reader, a stranger and a wrong password are refused in the engine's own words."""
    before = state(system)
    refused = ask(system.url, *change, login=login)
    assert refused.status == status
    assert refused.body["error"]["type"] == "security_exception"
    assert state(system) == before


def test_a_reader_reads_and_a_stranger_learns_nothing(secured: Engine, system: System) -> None:
    """Who may read the index sees the rules, also the file's; others get the engine's own refusal."""
    assert ask(system.url, "GET", RULE, login=basic("es-rerank-reader")).body["origin"] == "stored"
    for target in ("/_es_rerank/rules", RULE):
        refused = ask(system.url, "GET", target, login=basic("stranger"))
        direct = ask(secured.url, "POST", "/es-rerank-rules/_search", {}, login=basic("stranger"))
        assert (refused.status, refused.body["error"]["type"]) == (direct.status, direct.body["error"]["type"])
        assert "films" not in json.dumps(refused.body)


def test_the_store_s_role_is_enough(secured: Engine, system: System) -> None:
    """With the manual's role, the proxy makes all of its indices and reads the rules."""
    assert ask(secured.url, "GET", "/_index_template/es-rerank-hits").status == 200
    assert ask(secured.url, "GET", "/es-rerank-jobs/_mapping").body["es-rerank-jobs"]["mappings"]["properties"]
    assert system.health()["rules"]["stored"] == 1
    assert "the engine answered 403" not in system.proxy.log.read_text()


def test_a_version_says_who_made_it(secured: Engine, system: System) -> None:
    """A user by name, an API key by its id, who acts for another with both names; and never a secret."""
    role = {"promoter": roles_of_the_manual()["es-rerank-promoter"]}
    key = ask(secured.url, "POST", "/_security/api_key", {"name": "ci", "role_descriptors": role}).body
    assert ask(system.url, "PUT", RULE, KEYS, login=f"ApiKey {key['encoded']}").status == 200
    assert ask(system.url, "PUT", RULE, KEYS, run_as="es-rerank-promoter").status == 200
    assert ask(system.url, "PUT", RULE, KEYS, run_as="es-rerank-reader").status == 403
    assert ask(system.url, "POST", f"{RULE}/_rollback", login=basic("es-rerank-promoter")).status == 200
    versions = ask(system.url, "GET", RULE).body["versions"]
    assert [version["who"] for version in versions] == [
        "es-rerank-promoter",
        "es-rerank-promoter (run as by elastic)",
        key["id"],
        "es-rerank-promoter",
    ]
    stored = json.dumps(ask(secured.url, "GET", "/es-rerank-rules/_search").body)
    for secret in (PASSWORD, key["api_key"], key["encoded"]):
        assert secret not in stored + system.proxy.log.read_text()


def test_a_promoter_can_t_rewrite_history(secured: Engine, system: System) -> None:
    """The role adds versions, and changes or deletes none."""
    promoter = basic("es-rerank-promoter")
    for method, target, body in (
        ("PUT", "/es-rerank-rules/_doc/films@1", {"name": "films"}),
        ("DELETE", "/es-rerank-rules/_doc/films@1", None),
        ("DELETE", "/es-rerank-rules", None),
    ):
        assert ask(secured.url, method, target, body, login=promoter).status == 403


def test_a_promoter_promotes_what_a_sweep_found(secured: Engine, system: System) -> None:
    """The role is enough to read the run."""
    winner = {"window": 12, "method": "rrf", "alpha": 0.35, "score": "paper"}
    job = {"kind": "sweep", "state": "done", "rule": "films", "result": {"winner": winner}}
    assert ask(secured.url, "PUT", "/es-rerank-jobs/_doc/run-1?refresh=true", job).status == 201
    put = ask(system.url, "PUT", f"{RULE}?from_run=run-1", login=basic("es-rerank-promoter"))
    assert put.status == 200
    assert system.health()["rules"]["stored"] == 1
    assert ask(system.url, "GET", RULE).body["rule"]["window"] == 12
