"""The shipped file as values, and engines with sample documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from es_rerank.dashboards.shipped import shipped
from es_rerank.demo.embedded import start_engine
from es_rerank.demo.processes import free_port
from tests.conftest import ENGINE_NAMES, Engine, real_engine_process
from tests.dashboards.asked import Saved, View, parsed
from tests.dashboards.samples import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from es_rerank.demo.processes import Supervisor


@pytest.fixture(scope="session")
def saved_objects() -> list[Saved]:
    """Every line of the shipped file, with its texts of JSON as values."""
    return [parsed(json.loads(line)) for line in shipped().splitlines()]


@pytest.fixture(scope="session")
def view() -> View:
    """The last month."""
    now = datetime.now(UTC)
    return View(start=now - timedelta(days=30), end=now)


@pytest.fixture(scope="module", params=("osmem", *ENGINE_NAMES))
def sampled_engine(request: pytest.FixtureRequest, supervisor: Supervisor, view: View) -> Iterator[Engine]:
    """Each engine with the sample documents in our indices, and in `ubi_events`.

    It is an engine of its own: other tests would take the samples for theirs.
    """
    if request.param == "osmem":
        port = free_port()
        start_engine(supervisor, port)
        engine = Engine("osmem", f"http://127.0.0.1:{port}")
        load(engine.url, view.end)
        yield engine
    else:
        with real_engine_process(request.param) as engine:
            load(engine.url, view.end)
            yield engine
