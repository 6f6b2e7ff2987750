"""The reply stream's reader, on a real Redis, and one query's waiting place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from es_rerank import wire
from es_rerank.broker import make_redis
from es_rerank.judgment import Judgment
from es_rerank.outage import Outage, reason_of
from es_rerank.proxy.scoring.collect import BLOCK_S, Collector, Waiting
from es_rerank.tables import RedisSettings
from es_rerank.wire import Arrival, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis


def arrival(query_id: str, *scores: tuple[int, float | None], end: wire.End = "", reason: str = "") -> Arrival:
    """What a worker says."""
    outcomes = [
        Outcome(index=index, judgment=None if score is None else Judgment(rank_score=score)) for index, score in scores
    ]
    return Arrival(query_id=query_id, outcomes=outcomes, end=end, reason=reason)


def scores_in(waiting: Waiting) -> list[float | None]:
    """The scores that have come."""
    return [None if one is None else one.rank_score for one in waiting.judgments]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection, as a worker has it."""
    redis = make_redis(RedisSettings.model_validate({"url": redis_url.replace("/0", "/6")}))
    await redis.flushdb()
    yield redis
    await redis.aclose()


@pytest.fixture
async def collector(redis_url: str) -> AsyncIterator[Collector]:
    """A reader, reading."""
    settings = RedisSettings.model_validate({"url": redis_url.replace("/0", "/6")})
    collector = Collector(make_redis(settings, longest_block_s=BLOCK_S), "p", Outage())
    collector.start()
    yield collector
    await collector.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  Redis tells no event
            await asyncio.sleep(0.01)


async def tell(redis: Redis, told: Arrival) -> None:
    """Put a record on the stream."""
    await redis.xadd(wire.reply_key("p"), {wire.REPLY_FIELD: wire.encode_arrival(told)})


async def test_arrivals_reach_the_query_that_waits(redis: Redis, collector: Collector) -> None:
    """Each of two queries in flight gets its own scores, at the indexes of its documents, and its own end."""
    with collector.expect("a", 3) as a, collector.expect("b", 1) as b:
        await tell(redis, arrival("a", (2, 2.0)))
        await tell(redis, arrival("b", (0, 9.0), end="done"))
        await tell(redis, arrival("a", (0, 1.0), (1, None), end="done"))
        await a.whole()
        await b.whole()
    assert (scores_in(a), a.end) == ([1.0, None, 2.0], "")
    assert scores_in(b) == [9.0]


async def test_what_nobody_waits_for_changes_nothing(redis: Redis, collector: Collector) -> None:
    """Late, foreign and unreadable records are passed over, and the reader goes on."""
    with collector.expect("gone", 1):
        pass
    await tell(redis, arrival("gone", (0, 1.0), end="done"))
    await redis.xadd(wire.reply_key("p"), {wire.REPLY_FIELD: b"\x00garbage"})
    await redis.xadd(wire.reply_key("p"), {b"other": b"x"})
    with collector.expect("a", 1) as waiting:
        await tell(redis, arrival("a", (7, 1.0), (-1, 1.0)))
        await tell(redis, arrival("a", (0, 3.0), end="done"))
        await waiting.whole()
    assert scores_in(waiting) == [3.0]


async def test_an_answer_that_makes_no_sense_does_not_end_the_reader(redis: Redis, redis_url: str) -> None:
    """Whatever Redis says, in whatever form, the reader goes on and the next query gets its scores."""

    class Odd:
        def __init__(self, real: Redis) -> None:
            self.real = real
            self.answers: list[object] = [7, [[b"stream"]], [[b"stream", [[b"1-1"]]]]]

        async def xread(self, *streams: object, **options: object) -> object:
            return self.answers.pop(0) if self.answers else await self.real.xread(*streams, **options)  # type: ignore[arg-type]

        async def aclose(self) -> None:
            await self.real.aclose()

    settings = RedisSettings.model_validate({"url": redis_url.replace("/0", "/6")})
    collector = Collector(Odd(make_redis(settings, longest_block_s=BLOCK_S)), "p", Outage())  # type: ignore[arg-type]
    collector.start()
    with collector.expect("a", 1) as waiting:
        await tell(redis, arrival("a", (0, 5.0), end="done"))
        async with asyncio.timeout(30):
            await waiting.whole()
    assert scores_in(waiting) == [5.0]
    await collector.close()


@pytest.mark.parametrize("turns", range(20))
async def test_a_reader_can_be_closed_at_any_moment(redis_url: str, turns: int) -> None:
    """Closing ends it at once, however far it has come in connecting, where the client may lose a cancellation."""
    settings = RedisSettings.model_validate({"url": redis_url})
    collector = Collector(make_redis(settings, longest_block_s=BLOCK_S), "early", Outage())
    collector.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(BLOCK_S / 2):
        await collector.close()


async def test_a_worker_that_broke_gives_its_reason() -> None:
    """When a worker ends with an error, the wait ends at once, keeps the scores so far, and has the worker's reason."""
    waiting = Waiting(2)
    waiting.take(arrival("a", (1, 4.0)))
    waiting.take(arrival("a", end="error", reason="scorer_failed"))
    await waiting.whole()
    assert (scores_in(waiting), waiting.end) == ([None, 4.0], "scorer_failed")


async def test_a_redis_whose_clock_was_behind_is_read_too(redis: Redis, collector: Collector) -> None:
    """After a failover the ids of new records may be lower than those before: they are read all the same."""
    data = wire.encode_arrival(arrival("a", (0, 1.0)))
    with collector.expect("a", 2) as waiting:
        await redis.xadd(wire.reply_key("p"), {wire.REPLY_FIELD: data}, id="99999999999999-0")
        await until(lambda: scores_in(waiting)[0] is not None)
        await redis.delete(wire.reply_key("p"))
        await tell(redis, arrival("a", (1, 2.0), end="done"))
        async with asyncio.timeout(30):
            await waiting.whole()
    assert scores_in(waiting) == [1.0, 2.0]


async def test_what_was_read_is_deleted(redis: Redis, collector: Collector) -> None:
    """The stream holds only what nobody has read yet."""
    with collector.expect("a", 1) as waiting:
        await tell(redis, arrival("a", (0, 1.0), end="done"))
        await waiting.whole()
    async with asyncio.timeout(30):
        while await redis.xlen(wire.reply_key("p")):  # noqa: ASYNC110  Redis tells no event
            await asyncio.sleep(0.01)


async def test_a_reader_that_is_refused_says_so_and_finds_back(redis_url: str, redis: Redis) -> None:
    """Without permission to read, no query waits on; with it, the reader reads what came meanwhile."""
    rights = ("on", "nopass", "~*", "&*", "+@all")
    await redis.execute_command("ACL", "SETUSER", "reader", *rights, "-xread")  # type: ignore[no-untyped-call]
    url = redis_url.replace("/0", "/6").replace("redis://", "redis://reader:any@")
    settings = RedisSettings.model_validate({"url": url})
    collector = Collector(make_redis(settings, longest_block_s=BLOCK_S), "p", Outage())
    collector.start()
    with collector.expect("a", 1) as waiting:
        async with asyncio.timeout(30):
            await waiting.whole()
        assert waiting.lost is not None
        assert reason_of(waiting.lost) == "redis_refuses"
        assert collector.trouble() is not None
    with collector.expect("b", 1) as waiting:
        await redis.execute_command("ACL", "SETUSER", "reader", *rights)  # type: ignore[no-untyped-call]
        await tell(redis, arrival("b", (0, 1.0), end="done"))
        await until(lambda: scores_in(waiting) == [1.0] and collector.trouble() is None)
    await collector.close()
    await redis.execute_command("ACL", "DELUSER", "reader")  # type: ignore[no-untyped-call]
