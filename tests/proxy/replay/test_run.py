"""A replay gives its queries in order, a few at a time, and waits for what is gone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import UpstreamError
from es_rerank.proxy.events.searched import searched_of
from es_rerank.proxy.replay.run import InterruptedReplayError, replay
from tests.proxy.events.test_recorder import recorder_with
from tests.proxy.replay.parts import CALLER, SearchedEngine, films_plan, parts_on, queries, words_of
from tests.proxy.test_multi import called_here
from tests.proxy.test_pipeline import hits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.records import Reply, Request

WORDS = tuple("abcdefghij")


class SlowEngine(SearchedEngine):
    """Takes the longer, the earlier a query comes, and notes how many it answers at a time."""

    def __init__(self) -> None:
        super().__init__(lambda body: hits_of(words_of(body)))
        self._now = self.most = 0

    async def fetch(self, request: Request, **named: Any) -> Reply:
        """See `Engine`."""
        self._now += 1
        self.most = max(self.most, self._now)
        for _ in range(40 - 3 * len(self.requests)):
            await asyncio.sleep(0)
        self._now -= 1
        return await super().fetch(request, **named)


async def run(
    engine: SearchedEngine, *, concurrency: int = 2, pauses_s: Sequence[float] = (0.0, 0.0)
) -> tuple[list[str], Exception | None]:
    """The ids of the recorded queries, and what ended the replay early."""
    found: list[str] = []
    recorded = replay(
        films_plan(), queries(*WORDS), CALLER, parts_on(engine), concurrency=concurrency, pauses_s=pauses_s
    )
    try:
        async with aclosing(recorded):
            async for query in recorded:
                found.append(query.query_id)  # noqa: PERF401  what came before an error counts
    except InterruptedReplayError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("concurrency", [1, 2, 7, 16])
async def test_queries_come_in_their_order_and_so_many_at_a_time(concurrency: int) -> None:
    """Whatever is answered first, the order is that of the query set; no more searches run than are asked for."""
    engine = SlowEngine()
    assert await run(engine, concurrency=concurrency) == ([*WORDS], None)
    assert engine.most == min(concurrency, len(WORDS))


async def test_an_engine_that_comes_back_loses_no_query() -> None:
    """While it is gone the queries wait; then each is recorded once."""
    failures = iter([True, True, False, True])

    def answer(body: dict[str, Any]) -> Any:
        return UpstreamError("gone") if next(failures, False) else hits_of(words_of(body))

    assert await run(SearchedEngine(answer)) == ([*WORDS], None)


async def test_an_engine_that_stays_away_interrupts_the_replay_behind_what_is_recorded() -> None:
    """The queries before are given, those after are not, so the replay can be resumed without a gap."""

    def answer(body: dict[str, Any]) -> Any:
        return UpstreamError("no engine host could be reached") if words_of(body) == "e" else hits_of(words_of(body))

    found, error = await run(SearchedEngine(answer))
    assert found == ["a", "b", "c", "d"]
    assert str(error) == "no engine host could be reached"


async def test_who_stops_reading_stops_the_searches() -> None:
    """Closing the iterator leaves no search behind."""
    engine = SlowEngine()
    recorded = replay(films_plan(), queries(*WORDS), CALLER, parts_on(engine), concurrency=3)
    async with aclosing(recorded):
        assert (await anext(recorded)).query_id == "a"
    asked = len(engine.requests)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(engine.requests) == asked


async def test_a_replay_makes_no_events() -> None:
    """Its searches are not a user's, so nothing is gathered for an event that nobody records."""
    parts = replace(parts_on(SearchedEngine(lambda body: hits_of(words_of(body)))), events=recorder_with()[0])
    with called_here() as called:
        async with aclosing(replay(films_plan(), queries(*WORDS), CALLER, parts, concurrency=2)) as recorded:
            assert [query.status async for query in recorded] == ["full"] * len(WORDS)
    assert searched_of.__qualname__ not in called
