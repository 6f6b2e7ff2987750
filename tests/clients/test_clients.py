"""Official clients through the proxy: each call must give, or raise, exactly what it does on the engine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.transcript import assert_same, run_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

RERANKED = ("reranked", "reranked page", "reranked q", "msearch", "reranked with options")
WAYS = {"sync": (), "async": ("--async",), "compressed": ("--client", '{"http_compress": true}')}
WORKING = [
    ("opensearch", "opensearch-py3"),
    ("elasticsearch", "elasticsearch8"),
    ("elasticsearch", "opensearch-py3"),
    ("elasticsearch9", "elasticsearch8"),
    ("elasticsearch9", "elasticsearch9"),
]
# By call: the exception's class and status, and a part of its text.
WRONG_VERSION = ("BadRequestError", 400, "media_type_header_exception")
WRONG_PRODUCT = ("UnsupportedProductError", 200, "not Elasticsearch")
WRONG_MEDIA_TYPE = ("ApiError", 406, "Content-Type header")
REFUSED = [
    ("elasticsearch", "elasticsearch9", {"info": WRONG_VERSION, "reranked": WRONG_VERSION}),
    ("opensearch", "elasticsearch8", {"info": WRONG_PRODUCT, "reranked": WRONG_MEDIA_TYPE}),
    ("opensearch", "elasticsearch9", {"info": WRONG_PRODUCT, "reranked": WRONG_MEDIA_TYPE}),
]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine that is named in the parameters."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("engine", "client"), WORKING, indirect=["engine"])
def test_a_session_is_the_same_through_the_proxy(
    engine: Engine, client: str, way: str, system_on: Callable[[Engine], System]
) -> None:
    """Every result and every exception is the engine's own, headers and warnings too; only ranked hits move."""
    system = system_on(engine)
    direct = run_session(client, engine.url, *WAYS[way])
    proxied = run_session(client, system.url, *WAYS[way])
    assert_same(direct, proxied)
    assert direct["calls"]["bulk"]["value"] == [10, []]
    assert tuple(direct["orders"]) == RERANKED
    for name in RERANKED:
        assert proxied["orders"][name] != direct["orders"][name], f"{name} was not reranked"


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(("engine", "client", "refusals"), REFUSED, indirect=["engine"])
def test_a_client_that_the_engine_refuses_is_refused_alike(
    engine: Engine,
    client: str,
    refusals: dict[str, tuple[str, int, str]],
    way: str,
    system_on: Callable[[Engine], System],
) -> None:
    """A client of another product or version gets the engine's own refusals, none mended and none added."""
    system = system_on(engine)
    direct = run_session(client, engine.url, *WAYS[way])
    assert_same(direct, run_session(client, system.url, *WAYS[way]))
    for call, (name, status, text) in refusals.items():
        raised = direct["calls"][call]["raised"]
        assert (raised["class"], raised["status"]) == (name, status)
        assert text in raised["text"]
