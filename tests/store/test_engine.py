"""Our own indices are made as they are defined, on every engine."""

from __future__ import annotations

import contextlib
import urllib.error
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from es_rerank.clock import SystemClock
from es_rerank.memory import MemoryBudget
from es_rerank.store.engine import StoreEngine, StoreError, login_of, prepare
from es_rerank.store.indices import EVENTS, OWN_INDICES, RULES
from es_rerank.tables import StoreSettings, UpstreamSettings
from es_rerank.upstream import Upstream
from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Engine

MONTH = "es-rerank-events-2026.11"


@asynccontextmanager
async def store_on(url: str, settings: StoreSettings) -> AsyncIterator[StoreEngine]:
    """The engine at a URL, asked with the login of es-rerank itself."""
    async with Upstream(UpstreamSettings(urls=(url,)), SystemClock()) as upstream:
        yield StoreEngine(upstream, settings, MemoryBudget(64 * 1024 * 1024))


async def test_the_indices_are_made_once_and_then_kept(any_engine: Engine) -> None:
    """Every index has the fields that are defined; a second start changes nothing and loses nothing."""
    try:
        async with store_on(any_engine.url, StoreSettings()) as engine:
            await prepare(engine)
            rule = {"name": "a", "version": 1}
            send_json(f"{any_engine.url}/{RULES.name}/_doc/a@1?refresh=true", rule, method="PUT")
            await prepare(engine)
        send_json(f"{any_engine.url}/{MONTH}/_doc?refresh=true", {"rule": "a", "x": 1}, method="POST")
        for index in OWN_INDICES:
            if index.monthly and index is not EVENTS:
                continue
            name = MONTH if index is EVENTS else index.name
            mapping = send_json(f"{any_engine.url}/{name}/_mapping")[name]["mappings"]
            assert set(mapping["properties"]) == set(index.fields)
        assert send_json(f"{any_engine.url}/{RULES.name}/_doc/a@1")["found"] is True
    finally:
        any_engine.make_anew(RULES)
        with contextlib.suppress(urllib.error.HTTPError):
            send_json(f"{any_engine.url}/{MONTH}", method="DELETE")


async def test_an_index_that_was_deleted_comes_back_as_it_was_defined(any_engine: Engine) -> None:
    """Whoever writes into one that is gone has the engine make it, with our fields and no guessed ones."""
    async with store_on(any_engine.url, StoreSettings()) as engine:
        await prepare(engine)
    for index in OWN_INDICES:
        [template] = send_json(f"{any_engine.url}/_index_template/{index.name}")["index_templates"]
        assert template["index_template"]["index_patterns"] == [index.pattern]
    made = send_json(f"{any_engine.url}/{RULES.name}/_mapping")[RULES.name]
    try:  # with the one index on which no other test relies
        send_json(f"{any_engine.url}/{RULES.name}", method="DELETE")
        send_json(f"{any_engine.url}/{RULES.name}/_doc", {"name": "a", "alpha": 1, "unknown": "x"}, method="POST")
        again = send_json(f"{any_engine.url}/{RULES.name}/_mapping")[RULES.name]
        assert again == made
        assert set(again["mappings"]["properties"]) == set(RULES.fields)
    finally:
        any_engine.make_anew(RULES)


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
