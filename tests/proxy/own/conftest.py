"""The system with indices of its own, before an engine, for tests of what Dev Tools ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import System, start_system
from tests.proxy.own.system import FILMS, INDEX, RULES, await_store, load_judgments

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.demo.processes import Supervisor
    from tests.conftest import Engine


@pytest.fixture(scope="session")
def tuned_on(
    supervisor: Supervisor, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Engine], System]:
    """The system with [store] and a worker before an engine with films and judgments; started once for each engine."""
    started: dict[str, System] = {}

    def start(engine: Engine) -> System:
        if engine.url not in started:
            folder = tmp_path_factory.mktemp("tuned")
            system = start_system(
                supervisor, folder, engine_url=engine.url, redis_url=redis_url, extra=f"[store]\n{RULES}"
            )
            if not system.workers():
                system.start_worker()
            engine.load(INDEX, FILMS)
            await_store(engine.url)
            load_judgments(engine, "people", INDEX)
            started[engine.url] = system
        return started[engine.url]

    return start
