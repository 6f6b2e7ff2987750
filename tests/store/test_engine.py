"""Our own indices are made as they are defined, on every engine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from es_rerank.clock import SystemClock
from es_rerank.memory import MemoryBudget
from es_rerank.store.engine import StoreEngine, StoreError, login_of, prepare
from es_rerank.store.indices import EVENTS, OWN_INDICES
from es_rerank.tables import StoreSettings, UpstreamSettings
from es_rerank.upstream import Upstream
from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Engine


@asynccontextmanager
async def store_on(url: str, settings: StoreSettings) -> AsyncIterator[StoreEngine]:
    """The engine at a URL, asked with the login of es-rerank itself."""
    async with Upstream(UpstreamSettings(urls=(url,)), SystemClock()) as upstream:
        yield StoreEngine(upstream, settings, MemoryBudget(64 * 1024 * 1024))


async def test_the_indices_are_made_once_and_then_kept(any_engine: Engine) -> None:
    """Every index has the fields that are defined; a second start changes nothing and loses nothing."""
    async with store_on(any_engine.url, StoreSettings()) as engine:
        await prepare(engine)
        send_json(f"{any_engine.url}/es-rerank-rules/_doc/a@1?refresh=true", {"name": "a", "version": 1}, method="PUT")
        await prepare(engine)
        send_json(f"{any_engine.url}/es-rerank-events-2026.11/_doc?refresh=true", {"rule": "a", "x": 1}, method="POST")
        for index in OWN_INDICES:
            if index.monthly and index is not EVENTS:
                continue
            name = "es-rerank-events-2026.11" if index is EVENTS else index.name
            mapping = send_json(f"{any_engine.url}/{name}/_mapping")[name]["mappings"]
            assert set(mapping["properties"]) == set(index.fields)
        assert send_json(f"{any_engine.url}/es-rerank-rules/_count")["count"] == 1
    for name in ("es-rerank-rules", "es-rerank-events-2026.11"):
        send_json(f"{any_engine.url}/{name}", method="DELETE")


async def test_an_index_that_was_deleted_comes_back_as_it_was_defined(any_engine: Engine) -> None:
    """Whoever writes into one that is gone has the engine make it, with our fields and no guessed ones."""
    async with store_on(any_engine.url, StoreSettings()) as engine:
        await prepare(engine)
    for index in OWN_INDICES:
        if index.monthly:
            continue
        made = send_json(f"{any_engine.url}/{index.name}/_mapping")[index.name]
        send_json(f"{any_engine.url}/{index.name}", method="DELETE")
        send_json(f"{any_engine.url}/{index.name}/_doc", {"name": "a", "alpha": 1, "unknown": "x"}, method="POST")
        again = send_json(f"{any_engine.url}/{index.name}/_mapping")[index.name]
        assert again == made
        assert set(again["mappings"]["properties"]) == set(index.fields)
        send_json(f"{any_engine.url}/{index.name}", method="DELETE")


async def test_a_refusal_has_the_engines_words(any_engine: Engine) -> None:
    """What the engine refuses is an error with its status and its reason."""
    async with store_on(any_engine.url, StoreSettings()) as engine:
        with pytest.raises(StoreError, match=r"404.*no such index") as raised:
            await engine.ask("GET", "/es-rerank-nothing/_search")
        assert raised.value.status == 404
        assert await engine.ask("GET", "/es-rerank-nothing/_search", allowed=(404,)) is None


def test_a_login_is_never_shown() -> None:
    """Neither the table nor the login shows a secret."""
    settings = StoreSettings(user="ann", password=SecretStr("hush-hush"))
    assert "hush-hush" not in repr(settings) + repr(login_of(settings))
    assert "hush-hush" not in repr(login_of(StoreSettings(api_key=SecretStr("hush-hush"))))
