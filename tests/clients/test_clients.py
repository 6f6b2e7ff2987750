"""Official clients through the proxy: each call must give, or raise, exactly what it does on the engine itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ENGINES_REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

SESSION = Path(__file__).parent / "session.py"
CLIENTS_DIR = Path(__file__).parents[2] / ".clients"
PACKAGES = {"elasticsearch8": "elasticsearch", "elasticsearch9": "elasticsearch", "opensearch-py3": "opensearchpy"}
SESSION_LIMIT_S = 120
RERANKED = ("reranked", "reranked page", "reranked q", "reranked with options")
WORKING = [
    ("opensearch", "opensearch-py3"),
    ("elasticsearch", "elasticsearch8"),
    ("elasticsearch", "opensearch-py3"),
    ("elasticsearch9", "elasticsearch8"),
    ("elasticsearch9", "elasticsearch9"),
]
WAYS = {
    "sync": (),
    "async": ("--async",),
    "compressed": ("--client", '{"http_compress": true}'),
    "async-compressed": ("--async", "--client", '{"http_compress": true}'),
}


def run_session(client: str, url: str, *options: str) -> dict[str, Any]:
    """The transcript of one session of a client with a URL; skips the test where the client is missing."""
    folder = CLIENTS_DIR / client
    if not folder.is_dir():
        if ENGINES_REQUIRED:
            pytest.fail(f"{folder} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"{folder} is missing: run `make install-dev`")
    command = [sys.executable, str(SESSION), PACKAGES[client], url, *options]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SESSION_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    transcript: dict[str, Any] = json.loads(done.stdout)
    return transcript


def assert_same(direct: dict[str, Any], proxied: dict[str, Any]) -> None:
    """All calls gave the same, and hits that may be reordered are at least the same hits."""
    assert list(proxied["calls"]) == list(direct["calls"])
    for name, outcome in direct["calls"].items():
        assert proxied["calls"][name] == outcome, name
    assert {name: sorted(ids) for name, ids in proxied["orders"].items()} == {
        name: sorted(ids) for name, ids in direct["orders"].items()
    }


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine that is named in the parameters."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("engine", "client"), WORKING, indirect=["engine"])
def test_a_session_is_the_same_through_the_proxy(
    engine: Engine, client: str, way: str, system_on: Callable[[Engine], System]
):
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
@pytest.mark.parametrize(
    ("engine", "client", "call", "refusal"),
    [
        ("elasticsearch", "elasticsearch9", "info", ("BadRequestError", 400, "media_type_header_exception")),
        ("elasticsearch", "elasticsearch9", "reranked", ("BadRequestError", 400, "media_type_header_exception")),
        ("opensearch", "elasticsearch8", "info", ("UnsupportedProductError", 200, "not Elasticsearch")),
        ("opensearch", "elasticsearch8", "reranked", ("ApiError", 406, "Content-Type header")),
        ("opensearch", "elasticsearch9", "info", ("UnsupportedProductError", 200, "not Elasticsearch")),
        ("opensearch", "elasticsearch9", "reranked", ("ApiError", 406, "Content-Type header")),
    ],
    indirect=["engine"],
)
def test_a_client_that_the_engine_refuses_is_refused_alike(
    engine: Engine,
    client: str,
    call: str,
    refusal: tuple[str, int, str],
    way: str,
    system_on: Callable[[Engine], System],
):
    """A client of another product or version gets the engine's own refusals, none mended and none added."""
    system = system_on(engine)
    direct = run_session(client, engine.url, *WAYS[way])
    assert_same(direct, run_session(client, system.url, *WAYS[way]))
    raised = direct["calls"][call]["raised"]
    assert (raised["class"], raised["status"]) == refusal[:2]
    assert refusal[2] in raised["text"]
