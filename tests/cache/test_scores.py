"""One contract, kept by the cache in memory and by the one in a real Redis; then what only Redis has."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.exceptions import RedisError

from es_rerank.cache.keys import cut_key, reasoning_key
from es_rerank.cache.scores import CutJudgment, MemoryScoreCache, RedisScoreCache, _read
from es_rerank.judgment import Judgment
from es_rerank.outage import Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from es_rerank.cache.scores import ScoreCache

TTL_S = 1000
REASONING_TTL_S = 100


def rated(scores: Mapping[str, float]) -> dict[str, Judgment]:
    """Judgments of one number each."""
    return {key: Judgment(rank_score=score) for key, score in scores.items()}


async def scores_of(cache: ScoreCache, keys: Sequence[str]) -> list[float | None]:
    """The numbers of the judgments under the keys."""
    return [None if one is None else one.rank_score for one in await cache.get_many(keys)]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the real Redis."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> ScoreCache:
    """Each of the caches in turn."""
    if request.param == "memory":
        return MemoryScoreCache()
    return RedisScoreCache(
        request.getfixturevalue("redis"), ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage()
    )


@pytest.fixture
def prefix() -> str:
    """The start of keys that no other test uses."""
    return f"test:{uuid.uuid4().hex}:"


async def test_what_was_put_is_got_in_the_order_asked(cache: ScoreCache, prefix: str) -> None:
    """Scores come back parallel to the keys, also for a key asked twice."""
    scores = {prefix + "a": 1.0, prefix + "b": 2.0, prefix + "c": 3.0}
    await cache.put_many(rated(scores))
    assert await scores_of(cache, [prefix + key for key in "cab"]) == [3.0, 1.0, 2.0]
    assert await scores_of(cache, [prefix + key for key in "aba"]) == [1.0, 2.0, 1.0]


async def test_a_missing_score_is_none_in_its_place(cache: ScoreCache, prefix: str) -> None:
    """A gap stands where its key stood, and is not the score 0."""
    await cache.put_many(rated({prefix + "zero": 0.0}))
    assert await scores_of(cache, [prefix + key for key in ("no", "zero", "never")]) == [None, 0.0, None]


async def test_a_score_comes_back_to_the_last_bit(cache: ScoreCache, prefix: str) -> None:
    """Fusing cached scores must give what fusing fresh ones gave, so nothing may be rounded."""
    scores = [0.0, 5e-324, 0.1, 1 / 3, 4.84, 9.999999999999998, 10.0]
    await cache.put_many(rated({f"{prefix}{place}": score for place, score in enumerate(scores)}))
    assert await scores_of(cache, [f"{prefix}{place}" for place in range(len(scores))]) == scores


async def test_the_last_score_put_counts(cache: ScoreCache, prefix: str) -> None:
    """A score under a known key replaces it, and leaves the others."""
    await cache.put_many(rated({prefix + "a": 1.0, prefix + "b": 2.0}))
    await cache.put_many(rated({prefix + "a": 3.0}))
    assert await scores_of(cache, [prefix + "a", prefix + "b"]) == [3.0, 2.0]


async def test_a_large_window_fits(cache: ScoreCache, prefix: str) -> None:
    """Ten thousand scores, the largest window that can be configured, go in and come out."""
    scores = {f"{prefix}{place}": place / 1000 for place in range(10_000)}
    await cache.put_many(rated(scores))
    assert await scores_of(cache, list(scores)) == list(scores.values())


async def test_nothing_is_nothing(cache: ScoreCache) -> None:
    """No keys and no scores are no error."""
    await cache.put_many(rated({}))
    assert await scores_of(cache, []) == []


async def test_redis_forgets_after_the_time_to_live(redis: Redis, prefix: str) -> None:
    """Each score expires by itself, and its time starts anew when it is put again."""
    cache = RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage())
    await RedisScoreCache(redis, ttl_s=5, reasoning_ttl_s=REASONING_TTL_S, outage=Outage()).put_many(
        rated({prefix + "a": 1.0, prefix + "b": 1.0})
    )
    await cache.put_many(rated({prefix + "a": 1.0}))
    assert TTL_S - 5 <= await redis.ttl(prefix + "a") <= TTL_S
    assert 0 < await redis.ttl(prefix + "b") <= 5
    await redis.pexpire(prefix + "a", 1)
    while await redis.exists(prefix + "a"):
        pass
    assert await scores_of(cache, [prefix + "a", prefix + "b"]) == [None, 1.0]


async def test_processes_share_what_is_in_redis(redis: Redis, prefix: str) -> None:
    """What one cache put, another one on the same Redis gets."""
    await RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage()).put_many(
        rated({prefix: 7.0})
    )
    assert await scores_of(
        RedisScoreCache(redis, ttl_s=1, reasoning_ttl_s=REASONING_TTL_S, outage=Outage()), [prefix]
    ) == [7.0]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"4.2",
        msgspec.msgpack.encode(4.2),
        msgspec.msgpack.encode({"rank_score": "4.2"}),
        msgspec.msgpack.encode({"rank_score": None}),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode({"rank_score": float("nan")}),
        msgspec.msgpack.encode({"rank_score": float("inf")}),
        msgspec.msgpack.encode({"rank_score": 10.5}),
        msgspec.msgpack.encode({"rank_score": -1.0}),
        b"\x82\xa1x" + b"\x91" * 100_000 + b"\xc0\xaarank_score\x01",
    ],
    ids=["empty", "text", "number", "string", "null", "no-score", "nan", "infinite", "high", "low", "deep"],
)
async def test_what_is_no_score_counts_as_missing(redis: Redis, prefix: str, value: bytes) -> None:
    """Whatever someone else wrote under a key costs a new scoring, never an answer; its neighbours are read."""
    cache = RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage())
    await cache.put_many(rated({prefix + "good": 4.2}))
    await redis.set(prefix + "bad", value)
    assert await scores_of(cache, [prefix + "bad", prefix + "good"]) == [None, 4.2]


async def test_a_key_of_another_type_counts_as_missing(redis: Redis, prefix: str) -> None:
    """A list under a score's key is no error either."""
    await redis.lpush(prefix, "item")
    assert await scores_of(
        RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage()), [prefix]
    ) == [None]


@given(st.binary() | st.floats().map(lambda score: msgspec.msgpack.encode({"rank_score": score})))
def test_no_bytes_are_read_as_a_score_out_of_range(value: bytes) -> None:
    """Reading gives None or a score from 0 to 10, whatever the bytes are."""
    judgment = _read(value, Judgment)
    assert judgment is None or 0 <= judgment.score("paper") <= 10


class CountingConnection(Connection):
    """A connection that counts how often something is sent."""

    sent_count = 0

    async def send_packed_command(self, *command: Any, **options: Any) -> None:
        """Send, and count it."""
        CountingConnection.sent_count += 1
        await super().send_packed_command(*command, **options)


async def test_reading_and_writing_are_one_round_trip_each(redis_url: str, prefix: str) -> None:
    """However many scores there are, Redis is spoken to once to read and once to write, and not at all for none."""
    pool = ConnectionPool.from_url(redis_url, connection_class=CountingConnection)
    async with Redis.from_pool(pool) as redis:
        cache = RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage())
        scores = {f"{prefix}{place}": 1.0 for place in range(100)}
        await redis.ping()  # the connection is made, with all that it sends at its start
        before = CountingConnection.sent_count
        await cache.put_many(rated(scores))
        assert CountingConnection.sent_count - before == 1
        await cache.get_many(list(scores))
        assert CountingConnection.sent_count - before == 2
        await cache.put_many(rated({}))
        await cache.get_many([])
        assert CountingConnection.sent_count - before == 2


async def test_a_lost_redis_is_the_callers_to_judge() -> None:
    """Where Redis can't be reached both calls raise redis-py's own error."""
    with socket.socket() as nobody:  # bound, but not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        async with Redis(host="127.0.0.1", port=nobody.getsockname()[1]) as redis:
            cache = RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage())
            with pytest.raises(RedisError):
                await cache.get_many(["key"])
            with pytest.raises(RedisError):
                await cache.put_many(rated({"key": 1.0}))


DISTRIBUTION = (0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.3, 0.05)


async def test_a_judgment_comes_back_whole(cache: ScoreCache, prefix: str) -> None:
    """Distribution, thinking, what cut it and whether text was cut are all kept."""
    judgment = Judgment(distribution=DISTRIBUTION, think_tokens=410, cut="budget", truncated=True)
    await cache.put_many({prefix: judgment})
    assert await cache.get_many([prefix]) == [judgment]


async def test_a_judgment_that_a_deadline_cut_is_kept_apart(cache: ScoreCache, prefix: str) -> None:
    """It is refused as a full one, is found among the cut ones only, and takes no full one's place."""
    cut = Judgment(distribution=DISTRIBUTION, think_tokens=3, cut="deadline")
    with pytest.raises(ValueError, match="put_cut"):
        await cache.put_many({prefix: cut})
    await cache.put_cut({prefix: CutJudgment(judgment=cut, thought=(5, 6, 7))})
    assert await cache.get_many([prefix]) == [None]
    assert await cache.get_cut([prefix, prefix + "no"]) == [CutJudgment(judgment=cut, thought=(5, 6, 7)), None]
    await cache.put_many(rated({prefix: 1.0}))
    assert await scores_of(cache, [prefix]) == [1.0]


async def test_reasoning_comes_back_as_it_was(cache: ScoreCache, prefix: str) -> None:
    """Whatever the model wrote is kept under the judgment's key, and is none of the judgments."""
    await cache.put_reasoning({prefix: "because 日本 🚢", prefix + "empty": ""})
    assert await cache.get_reasoning([prefix, prefix + "empty", prefix + "no"]) == ["because 日本 🚢", "", None]
    assert await cache.get_many([prefix]) == [None]


async def test_reasoning_is_compressed_and_sooner_forgotten(redis: Redis, prefix: str) -> None:
    """Reasoning and cut judgments have their own time to live, and repetitive text takes little room."""
    cache = RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage())
    cut = Judgment(distribution=DISTRIBUTION, cut="deadline")
    await cache.put_reasoning({prefix: "the document is about a ship. " * 100})
    await cache.put_cut({prefix: CutJudgment(judgment=cut)})
    for key in (reasoning_key(prefix), cut_key(prefix)):
        assert 0 < await redis.ttl(key) <= REASONING_TTL_S
    assert await redis.strlen(reasoning_key(prefix)) < 300


@pytest.mark.parametrize("value", [b"", b"text", zstandard.compress(b"\xff\xfe")])
async def test_reasoning_that_cannot_be_read_is_missing(redis: Redis, prefix: str, value: bytes) -> None:
    """Whatever someone else wrote there is no reasoning and no error."""
    await redis.set(reasoning_key(prefix), value)
    await redis.set(cut_key(prefix), value)
    cache = RedisScoreCache(redis, ttl_s=TTL_S, reasoning_ttl_s=REASONING_TTL_S, outage=Outage())
    assert await cache.get_reasoning([prefix]) == [None]
    assert await cache.get_cut([prefix]) == [None]
