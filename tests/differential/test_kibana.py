"""What Kibana sends, in the shapes that are known of it, to Elasticsearch and through the proxy."""

from __future__ import annotations

import json
import urllib.error
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import RULES, send_json
from tests.differential.comparing import assert_equal, assert_reranked, hits_of, name_of
from tests.differential.wire import Asked, Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

INDEX = "films-kibana"
SAVED = ".kibana_es_rerank_1"
COMPATIBLE = "application/vnd.elasticsearch+json;compatible-with={}"
TEXTS = (
    "a robot finds love on an island",
    "two robots, and a robot, repair a robot",
    "the robot queen sails home",
    "love, love and love",
    "a robot who falls apart",
)
QUERY = {"match": {"text": "a robot who finds love"}}
EIGHT, NINE = (
    (("Accept", COMPATIBLE.format(version)), ("Content-Type", COMPATIBLE.format(version))) for version in (8, 9)
)
LINES = (("Accept", COMPATIBLE.format(8)), ("Content-Type", COMPATIBLE.format(8).replace("json", "x-ndjson")))
# What the server side of Kibana puts on its requests.
IDENTITY = (
    ("User-Agent", "Kibana/8.19.0"),
    ("x-elastic-product-origin", "kibana"),
    ("x-opaque-id", "5c1b;kibana:application:discover:new;"),
    ("authorization", "ApiKey bm9ib2R5Om5v"),
    ("es-client-authentication", "SharedSecret x"),
    ("es-secondary-authorization", "ApiKey bm9ib2R5Om5v"),
    ("es-security-runas-user", "ann"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
# What its Console puts on a person's.
CONSOLE = (
    ("content-type", "application/json"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-port", "5601"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "kibana.example.org"),
)
VERSIONS = "/_nodes/_all/_none?filter_path=nodes.*.version%2Cnodes.*.http.publish_address%2Cnodes.*.ip"
ASYNC = (
    f"/{INDEX}/_async_search?batched_reduce_size=64&ccs_minimize_roundtrips=true&wait_for_completion_timeout=200ms"
    "&keep_on_completion=false&keep_alive=60000ms&ignore_unavailable=true&preference=1795832917749"
)
DISCOVER = {
    "sort": [{"_score": {"order": "desc"}}],
    "fields": [{"field": "*", "include_unmapped": True}],
    "size": 500,
    "version": True,
    "script_fields": {},
    "stored_fields": ["*"],
    "_source": False,
    "query": {"bool": {"must": [QUERY], "filter": [], "should": [], "must_not": []}},
    "highlight": {"pre_tags": ["@kibana-highlighted-field@"], "fields": {"*": {}}, "fragment_size": 2147483647},
}
FIND = {
    "size": 20,
    "seq_no_primary_term": True,
    "from": 0,
    "query": {
        "bool": {
            "filter": [{"bool": {"should": [{"term": {"type": "dashboard"}}], "minimum_should_match": 1}}],
            "must": [{"simple_query_string": {"query": "robot*", "fields": ["title^3", "title"]}}],
        }
    },
}


def body_of(value: Any) -> bytes:
    """A body as Kibana writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def requests() -> Iterator[Asked]:
    """Kibana's own requests: none of them is reranked, unless a rule says so."""
    for media in (EIGHT, NINE):
        accept = (*IDENTITY, media[0])
        yield Asked(target="/", headers=accept)
        yield Asked(target=VERSIONS, headers=accept)
        yield Asked(target="/_license", headers=accept)
        yield Asked(target=f"/{SAVED}/_doc/config%3A8.19.0?_source_includes=config.buildNum", headers=accept)
        yield Asked(target=f"/{SAVED}/_doc/none", headers=accept)
        yield Asked(method="HEAD", target=f"/{SAVED}", headers=accept)
        yield Asked(target="/_alias/.kibana_none", headers=accept)
        both = (*IDENTITY, *media)
        yield Asked(
            method="POST", target=f"/{SAVED}/_search?rest_total_hits_as_int=true", headers=both, body=body_of(FIND)
        )
        yield Asked(method="POST", target=ASYNC, headers=both, body=body_of(DISCOVER))
        yield Asked(target="/_async_search/status/none", headers=accept)
        yield Asked(target="/_async_search/none?wait_for_completion_timeout=200ms", headers=accept)
        yield Asked(method="DELETE", target="/_async_search/none", headers=accept)
        fields = f"/{INDEX}/_field_caps?fields=*&ignore_unavailable=true&allow_no_indices=false&filters=-parent"
        yield Asked(method="POST", target=fields, headers=both, body=b"{}")
        yield Asked(
            method="POST", target=f"/{INDEX}/_search?track_total_hits=true", headers=both, body=body_of(DISCOVER)
        )
        yield Asked(method="POST", target=f"/{INDEX}/_terms_enum", headers=both, body=b'{"field":"n","string":""}')
        yield Asked(method="POST", target="/_security/user/_has_privileges", headers=both, body=b"{}")
        yield Asked(
            method="POST", target="/_mget", headers=both, body=body_of({"docs": [{"_index": SAVED, "_id": "x"}]})
        )
    lines = b"".join(body_of(line) + b"\n" for line in ({"index": INDEX}, DISCOVER, {"index": SAVED}, FIND))
    yield Asked(method="POST", target="/_msearch?ignore_unavailable=true", headers=(*IDENTITY, *LINES), body=lines)


class Stage:
    """An Elasticsearch, a proxy whose rule leaves Kibana's pages alone, and one whose rule reranks them."""

    def __init__(self, engine: Engine, leaving: System, taking: System) -> None:
        self.direct = Caller(engine.url)
        self.leaving = Caller(leaving.url)
        self.taking = Caller(taking.url)

    def close(self) -> None:
        """End the connections."""
        for caller in (self.direct, self.leaving, self.taking):
            caller.close()


def drop(engine: Engine) -> None:
    """Delete what Kibana would have made."""
    with suppress(urllib.error.HTTPError):
        send_json(f"{engine.url}/{SAVED}", method="DELETE")


@pytest.fixture(scope="module", params=["elasticsearch", "elasticsearch9"])
def stage(
    request: pytest.FixtureRequest, system_on: Callable[[Engine], System], run_system: Callable[..., System]
) -> Iterator[Stage]:
    """Films, and an index of saved objects."""
    engine: Engine = request.getfixturevalue(request.param)
    engine.load(INDEX, {str(place): {"title": f"film {place}", "text": text} for place, text in enumerate(TEXTS)})
    drop(engine)
    send_json(f"{engine.url}/{SAVED}", {"mappings": {"properties": {"type": {"type": "keyword"}}}}, method="PUT")
    saved = {"type": "dashboard", "title": "robot"}
    send_json(f"{engine.url}/{SAVED}/_doc/config:8.19.0?refresh=true", saved, method="PUT")
    taking = run_system(engine.url, extra=RULES.replace('name = "films"', 'name = "films"\ndashboards = "rerank"'))
    stage = Stage(engine, system_on(engine), taking)
    yield stage
    stage.close()
    drop(engine)


@pytest.mark.parametrize("asked", list(requests()), ids=lambda asked: f"{asked.method} {asked.target[:40]}")
def test_what_kibana_asks_by_itself_is_answered_by_the_engine(stage: Stage, asked: Asked) -> None:
    """Status, product header, media type, warnings and bytes are the engine's, refusals of a version too."""
    direct = stage.direct.ask(asked)
    assert direct.header("x-elastic-product") == "Elasticsearch"
    assert_equal(asked, direct, stage.leaving.ask(asked))
    if "/_search" not in asked.target and "/_msearch" not in asked.target:
        assert_equal(asked, direct, stage.taking.ask(asked))


@pytest.mark.parametrize("media", [EIGHT, NINE], ids=["8", "9"])
def test_a_page_is_reranked_where_the_rule_says_so(stage: Stage, media: tuple[tuple[str, str], ...]) -> None:
    """A search by relevance has its hits in our order and the engine's media type, or the engine's own refusal."""
    target = f"/{INDEX}/_search?track_total_hits=true"
    asked = Asked(method="POST", target=target, headers=(*IDENTITY, *media), body=body_of(DISCOVER))
    direct, through = stage.direct.ask(asked), stage.taking.ask(asked)
    if direct.status != 200:
        assert_equal(asked, direct, through)
        return
    assert through.header("content-type") == direct.header("content-type")
    assert_reranked(asked, direct.body, through.body, hits_of(direct.body))
    assert [name_of(hit) for hit in hits_of(through.body)] != [name_of(hit) for hit in hits_of(direct.body)]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", [f"/{INDEX}/_search?pretty=true", "/_msearch?pretty=true"])
def test_what_a_person_types_into_console_is_reranked(stage: Stage, target: str, method: str) -> None:
    """Chunked bodies on GET and POST, and lines that are called plain JSON."""
    search = body_of({"query": QUERY, "ext": {"es_rerank": {"include": ["status"]}}})
    body = search if "_search?" in target and "_msearch" not in target else body_of({"index": INDEX}) + b"\n" + search
    asked = Asked(method=method, target=target, headers=CONSOLE, body=body + b"\n", chunked=True)
    for caller in (stage.leaving, stage.taking):
        answer = caller.ask(asked)
        assert answer.status == 200, answer
        found = json.loads(answer.body)
        [one] = found.get("responses", [found])
        assert one["_es_rerank"]["status"] == "full"
        assert len(one["hits"]["hits"]) == len(TEXTS)


def test_console_on_what_is_no_search_is_answered_by_the_engine(stage: Stage) -> None:
    """A body on GET and DELETE, in chunks, passes."""
    for method, target, body in (
        ("GET", f"/{INDEX}/_count?pretty=true", body_of({"query": QUERY})),
        ("DELETE", "/_search/scroll?pretty=true", b'{"scroll_id":"none"}'),
        ("POST", f"/{INDEX}/_analyze?pretty=true", b'{"field":"text","text":"robots"}'),
        ("GET", f"/{INDEX}/_nothing", b"{}"),
    ):
        asked = Asked(method=method, target=target, headers=CONSOLE, body=body, chunked=True)
        assert_equal(asked, stage.direct.ask(asked), stage.leaving.ask(asked))
        whole = replace(asked, chunked=False)
        assert_equal(whole, stage.direct.ask(whole), stage.leaving.ask(whole))
