"""Official JavaScript clients through the proxy: each call gives, or raises, just what it does on the engine itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.transcript import CLIENTS_DIR, SESSION_LIMIT_S, assert_same
from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

INDEX = "films-npm"
PROGRAM = Path(__file__).parent / "npm" / "session.mjs"
PACKAGES = CLIENTS_DIR / "npm"
RERANKED = (
    "reranked", "reranked with more", "reranked q", "msearch", "search helper", "msearch helper"
)  # fmt: skip
WORKING = [
    ("opensearch", "opensearch"),
    ("elasticsearch", "elasticsearch8"),
    ("elasticsearch9", "elasticsearch8"),
    ("elasticsearch9", "elasticsearch9"),
]
# The first call that is refused: its name, and the error's class, status and a part of its text.
REFUSED = [
    ("elasticsearch", "elasticsearch9", ("create", "ResponseError", 400, "media_type_header_exception")),
    ("opensearch", "elasticsearch8", ("info", "ProductNotSupportedError", None, "Elasticsearch")),
]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine that is named in the parameters."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (PACKAGES / "node_modules").is_dir():  # a failed install leaves the folder
        pytest.skip(f"{PACKAGES} is missing: run `make install-npm-clients`")
    found: Engine = request.getfixturevalue(request.param)
    return found


def run_session(package: str, url: str) -> dict[str, Any]:
    """The transcript of one session of a client, which finds nothing of an earlier one."""
    with suppress(urllib.error.HTTPError):
        send_json(f"{url}/{INDEX}", method="DELETE")
    command = ["node", str(PROGRAM), str(PACKAGES), package, url, INDEX]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SESSION_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    transcript: dict[str, Any] = json.loads(done.stdout)
    return transcript


@pytest.mark.parametrize(("engine", "package"), WORKING, indirect=["engine"])
def test_a_javascript_session_is_the_same_through_the_proxy(
    engine: Engine, package: str, system_on: Callable[[Engine], System]
) -> None:
    """Results, helpers, streams and errors are the engine's own, headers and warnings too; only ranked hits move."""
    system = system_on(engine)
    direct, proxied = run_session(package, engine.url), run_session(package, system.url)
    assert_same(direct, proxied)
    assert direct["calls"]["bulk helper"]["value"]["successful"] == 8
    assert tuple(direct["orders"]) == RERANKED
    for name in RERANKED:
        assert proxied["orders"][name] != direct["orders"][name], f"{name} was not reranked"


@pytest.mark.parametrize(("engine", "package", "refusal"), REFUSED, indirect=["engine"])
def test_a_javascript_client_that_the_engine_refuses_is_refused_alike(
    engine: Engine, package: str, refusal: tuple[str, str, int | None, str], system_on: Callable[[Engine], System]
) -> None:
    """A client's own check of product and version has the same outcome, with the same error."""
    system = system_on(engine)
    direct = run_session(package, engine.url)
    assert_same(direct, run_session(package, system.url))
    call, name, status, text = refusal
    raised = direct["calls"][call]
    assert (raised["raised"], raised["status"]) == (name, status)
    assert text in raised["text"]
