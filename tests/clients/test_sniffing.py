"""Official clients that look for nodes: they leave the proxy silently, unless it publishes its own address."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.transcript import PACKAGES, run_program
from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines
CLIENTS = [("opensearch", "opensearch-py3"), ("elasticsearch", "elasticsearch8"), ("elasticsearch9", "elasticsearch9")]
INDEX = "films-sniffed"
# What Kibana and OpenSearch Dashboards ask again and again.
VERSIONS = "/_nodes?filter_path=nodes.*.version,nodes.*.http.publish_address,nodes.*.ip"


@pytest.fixture(params=CLIENTS, ids=lambda pair: pair[0])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, str]]:
    """An engine with one document, and its client."""
    name, client = request.param
    engine: Engine = request.getfixturevalue(name)
    engine.load(INDEX, {"1": {"text": "fox"}})
    try:
        yield engine, client
    finally:
        send_json(f"{engine.url}/{INDEX}", method="DELETE")


def searches(client: str, system: System) -> dict[str, list[bool]]:
    """By way to sniff, whether each search of the client came through the proxy."""
    seen: dict[str, list[bool]] = run_program("sniffing.py", client, PACKAGES[client], system.url, INDEX)
    return seen


def told(url: str, target: str) -> tuple[dict[str, Any], bytes]:
    """What is said of nodes, and its bytes."""
    with urllib.request.urlopen(f"{url}{target}", timeout=60) as reply:
        body = reply.read()
    return json.loads(body), body


def published(found: dict[str, Any]) -> list[str]:
    """Takes the published address out of each node; returns them."""
    return [node["http"].pop("publish_address") for node in found["nodes"].values()]


def test_a_client_that_sniffs_leaves_the_proxy(pair: tuple[Engine, str], run_system: Callable[..., System]) -> None:
    """What the engine says of its nodes passes as it is, so only a client that does not sniff stays with the proxy."""
    engine, client = pair
    system = run_system(engine.url)
    seen = searches(client, system)
    assert all(seen.pop("off"))
    assert {way: all(came) for way, came in seen.items()} == dict.fromkeys(seen, False)
    for target in ("/_nodes/_all/http", VERSIONS, "/_nodes/http?pretty"):
        assert told(system.url, target) == told(engine.url, target)


def test_a_client_that_sniffs_stays_where_the_proxy_publishes_itself(
    pair: tuple[Engine, str], run_system: Callable[..., System]
) -> None:
    """With `sniffed_address`, every node is at the proxy for all that sniff, and all else is the engine's."""
    engine, client = pair
    system = run_system(engine.url, server='sniffed_address = "127.0.0.1:{port}"')
    address = system.url.removeprefix("http://")
    for target in ("/_nodes/_all/http", VERSIONS, "/_nodes/http?pretty", "/_nodes/http,settings?flat_settings=true"):
        ours, body = told(system.url, target)
        theirs, direct = told(engine.url, target)
        assert body.count(b"\n") == direct.count(b"\n")
        assert published(ours) == [address]
        assert published(theirs) == [engine.url.removeprefix("http://")]
        assert ours == theirs
    assert {way: all(came) for way, came in searches(client, system).items()} == dict.fromkeys(
        ("off", "on start", "before requests", "on failure"), True
    )
