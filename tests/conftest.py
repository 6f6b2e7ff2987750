"""Real parts for tests: Redis, the embedded engine, the real engines, and the system built from them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Supervisor, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE_NAMES = ("opensearch", "elasticsearch", "elasticsearch9")
ENGINES_DIR = Path(__file__).parents[2] / "shared" / "engines"
ENGINES_REQUIRED = os.environ.get("ES_RERANK_REQUIRE_ENGINES") == "1"


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine: its name (one of ENGINE_NAMES, or `osmem`) and URL."""

    name: str
    url: str


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """Ends whatever the tests started."""
    with Supervisor(tmp_path_factory.mktemp("logs")) as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def redis_url(supervisor: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real Redis that all tests share; those that stop Redis start one of their own."""
    port = free_port()
    start_redis(supervisor, port, tmp_path_factory.mktemp("redis"))
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def osmem_url(supervisor: Supervisor) -> str:
    """The embedded engine."""
    port = free_port()
    start_engine(supervisor, port)
    return f"http://127.0.0.1:{port}"


@contextmanager
def real_engine_process(name: str, *options: str) -> Iterator[Engine]:
    """A real engine; skips the test where the engines are missing, unless they are required."""
    script = ENGINES_DIR / "start"
    if not script.is_file():
        if ENGINES_REQUIRED:
            pytest.fail(f"{script} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"no real engines beside this checkout ({script})")
    port = free_port()
    # This interpreter, since it has the Java that Elasticsearch 9 needs.
    command = [sys.executable, str(script), name, "--port", str(port), "--heap", "512m", *options]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if not said.startswith("ready"):
                pytest.fail(f"{name} did not start: {said!r}")
            yield Engine(name, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def opensearch() -> Iterator[Engine]:
    """A real OpenSearch."""
    with real_engine_process("opensearch") as engine:
        yield engine


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[Engine]:
    """A real Elasticsearch 8."""
    with real_engine_process("elasticsearch") as engine:
        yield engine


@pytest.fixture(scope="session")
def elasticsearch9() -> Iterator[Engine]:
    """A real Elasticsearch 9."""
    with real_engine_process("elasticsearch9") as engine:
        yield engine


@pytest.fixture(scope="session", params=ENGINE_NAMES)
def real_engine(request: pytest.FixtureRequest) -> Engine:
    """Each of the real engines in turn."""
    engine: Engine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture(scope="session", params=("osmem", *ENGINE_NAMES))
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """The embedded engine and each of the real ones in turn."""
    if request.param == "osmem":
        return Engine("osmem", request.getfixturevalue("osmem_url"))
    engine: Engine = request.getfixturevalue(request.param)
    return engine
