"""Recreating an index: whatever the engine refuses, the old index stays with its documents."""

from __future__ import annotations

import base64
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import EngineError, EsRerankError
from es_rerank.official.client import connect
from es_rerank.official.login import Password
from ingest.errors import MappingError
from ingest.load import load_documents
from tests.conftest import real_engine_process
from tests.ingest.conftest import LOST, impatient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.official.client import Client
    from tests.conftest import Engine
    from tests.ingest.conftest import FakeEngine

NAMES = (f"recreate-{number}" for number in count())
OLD = [("1", {"t": "old"}), ("2", {"t": "older"})]
NEW = [("3", {"t": "new"})]
ADMIN = ("elastic", "changeme")
PASSWORD = "correct horse"
AS_ADMIN = {
    "accept": "application/json",
    "content-type": "application/json",
    "authorization": f"Basic {base64.b64encode(':'.join(ADMIN).encode()).decode()}",
}
# No default of the test's engine is a reason for a refusal.
SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0}


def text(**options: Any) -> dict[str, Any]:
    """An index body with one field."""
    return {"settings": SETTINGS, "mappings": {"properties": {"t": {"type": "text", **options}}}}


def sources(client: Client, index: str) -> dict[str, Any]:
    """What is in an index, by id."""
    hits = client.search(index=index, body={"query": {"match_all": {}}})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


def indices_like(client: Client, index: str) -> list[str]:
    """The names of all indices that begin so, hidden ones too."""
    return sorted(client.indices.get(index=f"{index}*", expand_wildcards="all"))


REFUSED_BY_ALL = {
    "an unknown type": text() | {"mappings": {"properties": {"t": {"type": "nonsense"}}}},
    "an unknown analyzer": text(analyzer="klingon"),
    "an alias with a name that is not allowed": {**text(), "aliases": {"A b": {}}},
    "an alias with the name of an index": {**text(), "aliases": {"taken": {}}},
    "an alias with the name of the index itself": {**text(), "aliases": {"itself": {}}},
}
REFUSED_BY_REAL_ENGINES = {
    "an unknown setting": {**text(), "settings": {**SETTINGS, "no_such_setting": 1}},
    "a setting out of bounds": {**text(), "settings": {**SETTINGS, "number_of_shards": 0}},
    "an unknown mapping key": text() | {"mappings": {"nonsense": {}}},
    "an analyzer that can't be built": {
        **text(),
        "settings": {**SETTINGS, "analysis": {"analyzer": {"a": {"type": "custom", "tokenizer": "none"}}}},
    },
    "an alias whose filter can't be read": {**text(), "aliases": {"al": {"filter": {"nonsense": {}}}}},
    "an alias that another index writes to": {**text(), "aliases": {"written": {"is_write_index": True}}},
}


def check_a_refusal(url: str, body: Mapping[str, Any]) -> None:
    """Recreating with this body is an error, and changes nothing."""
    index = next(NAMES)
    client = connect(url)
    load_documents(client, index, OLD, text())
    for name, aliases in ((f"{index}-taken", {}), (f"{index}-writer", {f"{index}-written": {"is_write_index": True}})):
        client.indices.create(index=name, body={"settings": SETTINGS, "aliases": aliases})
    names = {"taken": f"{index}-taken", "written": f"{index}-written", "itself": index}
    wanted = {names.get(alias, alias): options for alias, options in body.get("aliases", {}).items()}
    before = indices_like(client, index)
    with pytest.raises(EsRerankError, match=rf"{index} is as it was$"):
        load_documents(client, index, NEW, {**body, "aliases": wanted}, recreate=True)
    assert sources(client, index) == dict(OLD)
    assert indices_like(client, index) == before
    client.close()


@pytest.mark.parametrize("body", REFUSED_BY_ALL.values(), ids=REFUSED_BY_ALL)
def test_a_refused_index_leaves_the_old_one(osmem_url: str, body: Mapping[str, Any]) -> None:
    """A body that the engine refuses leaves the old index with its documents, and no trial behind."""
    check_a_refusal(osmem_url, body)


@pytest.mark.engines
@pytest.mark.parametrize(
    "body", (REFUSED_BY_ALL | REFUSED_BY_REAL_ENGINES).values(), ids=REFUSED_BY_ALL | REFUSED_BY_REAL_ENGINES
)
@pytest.mark.filterwarnings("ignore::opensearchpy.OpenSearchWarning", "ignore::elasticsearch.ElasticsearchWarning")
def test_real_engines_keep_the_old_index(real_engine: Engine, body: Mapping[str, Any]) -> None:
    """Each real engine keeps the old index with its documents, whatever is wrong with the new one."""
    check_a_refusal(real_engine.url, body)


def check_recreation(url: str) -> None:
    """The new index has the new body, its aliases too, and only the new documents; no trial stays."""
    index = next(NAMES)
    client = connect(url)
    load_documents(client, index, OLD, {**text(), "aliases": {f"{index}-alias": {"is_write_index": True}}})
    body = {**text(analyzer="whitespace"), "aliases": {f"{index}-alias": {"is_write_index": True}}}
    report = load_documents(client, index, NEW, body, recreate=True)
    assert (report.created, report.in_index) == (True, 1)
    assert sources(client, index) == sources(client, f"{index}-alias") == dict(NEW)
    assert indices_like(client, index) == [index]
    assert client.indices.get(index=index)[index]["mappings"]["properties"]["t"]["analyzer"] == "whitespace"
    client.close()


def test_an_index_is_recreated(osmem_url: str) -> None:
    """The new index has the new body and only the new documents."""
    check_recreation(osmem_url)


def check_another_name(url: str) -> None:
    """An alias is not recreated, and documents that are loaded by it go to its index."""
    index = next(NAMES)
    client = connect(url)
    load_documents(client, index, OLD, {**text(), "aliases": {f"{index}-alias": {}}})
    with pytest.raises(EngineError, match=rf"{index}-alias is not an index but another name of {index}, which can't"):
        load_documents(client, f"{index}-alias", NEW, text(), recreate=True)
    assert sources(client, index) == dict(OLD)
    report = load_documents(client, f"{index}-alias", NEW, text())
    assert (report.created, report.in_index) == (False, 3)
    client.close()


def test_an_alias_is_not_recreated(osmem_url: str) -> None:
    """An alias is refused with the name of its index; without recreating, documents go through it."""
    check_another_name(osmem_url)


@pytest.mark.engines
def test_real_engines_recreate_alike(real_engine: Engine) -> None:
    """Each real engine recreates an index, and keeps one that is called by another name."""
    check_recreation(real_engine.url)
    check_another_name(real_engine.url)


@pytest.mark.engines
def test_a_login_that_may_not_recreate_leaves_the_old_index() -> None:
    """Whatever the login lacks, making, deleting or the trial's name, the old index stays with its documents."""
    with real_engine_process("elasticsearch", "--security") as engine:
        admin = connect(engine.url, login=Password(user=ADMIN[0], password=ADMIN[1]))
        load_documents(admin, "papers", OLD, text())
        rights = {
            "no-index": [{"names": ["papers*"], "privileges": ["read", "write", "view_index_metadata"]}],
            "no-deletion": [
                {"names": ["papers*"], "privileges": ["read", "write", "view_index_metadata", "create_index"]}
            ],
            "one-name": [{"names": ["papers"], "privileges": ["all"]}],
        }
        for user, indices in rights.items():
            role = {"indices": indices, "cluster": ["monitor"]}
            for path, body in ((f"role/{user}", role), (f"user/{user}", {"password": PASSWORD, "roles": [user]})):
                admin.transport.perform_request("PUT", f"/_security/{path}", headers=AS_ADMIN, body=body)
            client = connect(engine.url, login=Password(user=user, password=PASSWORD))
            with pytest.raises(EngineError, match=r"403"):
                load_documents(client, "papers", NEW, text(), recreate=True)
            client.close()
            assert sources(admin, "papers") == dict(OLD), user
        admin.close()


@pytest.fixture
def full_engine(fake_engine: FakeEngine) -> FakeEngine:
    """A fake engine that has the index `i`."""
    load_documents(fake_engine.url, "i", OLD, {})
    fake_engine.requests.clear()
    return fake_engine


def deleted(engine: FakeEngine) -> list[str]:
    """What was deleted, the digits of a trial taken away."""
    return [path[:9] for method, path in engine.requests if method == "DELETE"]


# The requests of a recreation: GET /, HEAD /i, GET /i, PUT /i-trial-, DELETE /i-trial-, DELETE /i, PUT /i.
@pytest.mark.parametrize(
    ("position", "gone"), [(1, []), (2, []), (3, []), (4, ["/i-trial-"]), (5, ["/i-trial-", "/i"])]
)
def test_nothing_is_deleted_before_the_engine_has_agreed(
    full_engine: FakeEngine, position: int, gone: list[str]
) -> None:
    """A refusal at any step ends the recreation there: the old index is deleted last, by one request."""
    full_engine.other_answers.extend([{}] * position + [403])
    with pytest.raises(EngineError, match="403"):
        load_documents(full_engine.url, "i", NEW, {}, recreate=True)
    assert deleted(full_engine) == gone
    assert "i" in full_engine.indices


def test_a_late_refusal_says_what_is_lost(full_engine: FakeEngine) -> None:
    """Where the engine takes the trial and then refuses the index itself, the error says that the old one is gone."""
    full_engine.other_answers.extend([{}] * 6 + [400])
    with pytest.raises(
        MappingError, match=r"refuses .* of i: as it was told\. i was deleted for it, with its documents"
    ):
        load_documents(full_engine.url, "i", NEW, {}, recreate=True)


@pytest.mark.parametrize("position", range(3, 7))
def test_an_answer_that_is_lost_does_not_end_a_recreation(full_engine: FakeEngine, position: int) -> None:
    """Making and deleting are asked for again where their answers are lost, and nothing is made twice."""
    full_engine.other_answers.extend([{}] * position + [LOST])
    assert load_documents(full_engine.url, "i", NEW, {}, recreate=True, patience=impatient(100)).created
    assert full_engine.indices == {"i"}
