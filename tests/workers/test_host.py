"""The scorer's own thread: nothing waits for it without a limit, and a query whose caller disconnected is dropped."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis
from redis.exceptions import ResponseError

from es_rerank import wire
from es_rerank.judgment import Judgment
from es_rerank.outage import Outage
from es_rerank.settings import Settings
from es_rerank.transport import READING
from es_rerank.wire import Claim
from workers.errors import WorkerStartError
from workers.host import PRESENCE, Host
from workers.job import Task
from workers.scorers.protocol import DocumentScore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from workers.scorers.protocol import ScoreJob

WAIT_S = 30.0


class SlowScorer:
    """Keeps the contract and takes as long as the test says, in start, score and close."""

    fingerprint = "slow"
    identity = ""

    def __init__(self) -> None:
        self.hangs: set[str] = set()
        self.working = threading.Event()
        self.dropped = threading.Event()
        self.death: asyncio.Future[str] | None = None

    async def start(self) -> None:
        """See `Scorer`."""
        self.death = asyncio.get_running_loop().create_future()
        await self._hang("start")

    async def score(self, job: ScoreJob) -> AsyncIterator[Sequence[DocumentScore]]:
        """See `Scorer`."""
        self.working.set()
        try:
            await self._hang("score")
            yield [
                DocumentScore(index=index, status="ok", judgment=Judgment(rank_score=1.0))
                for index in range(len(job.texts))
            ]
        except asyncio.CancelledError:
            self.dropped.set()
            raise

    async def broken(self) -> str:
        """See `Scorer`."""
        assert self.death is not None
        return await self.death

    async def close(self) -> None:
        """See `Scorer`."""
        await self._hang("close")

    async def _hang(self, where: str) -> None:
        if where in self.hangs:
            await asyncio.sleep(3600)


@pytest.fixture
def scorer() -> SlowScorer:
    """A scorer that is not slow yet."""
    return SlowScorer()


@pytest.fixture
def told() -> list[str]:
    """Why the scorer was said to be broken."""
    return []


@pytest.fixture
def make_host(scorer: SlowScorer, told: list[str], own_redis_url: str) -> Callable[..., Host]:
    """A host of the scorer, not yet started."""
    settings = Settings.model_validate({"upstream": {"urls": ["http://127.0.0.1:1"]}, "redis": {"url": own_redis_url}})
    return lambda start_timeout_s=WAIT_S, **more: Host(
        scorer, settings, Outage(), start_timeout_s=start_timeout_s, on_broken=told.append, **more
    )


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Iterator[Host]:
    """A host that serves."""
    host = make_host()
    host.start()
    host.announce()
    yield host
    host.close()


def put_claim(url: str, query_id: str) -> Task:
    """A claim of one document, and its task."""
    claim = Claim(
        fingerprint="slow", query="q", instruction="i", texts=["t"], keys=["es-rerank:score:t"], lifetime_ms=60_000
    )
    with sync_redis.Redis.from_url(url) as client:
        client.set(wire.claim_key(query_id), wire.encode_claim(claim), px=claim.lifetime_ms)
    return Task(query_id=query_id, proxy_id="p")


def await_true(holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    give_up_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_a_start_that_hangs_ends_with_an_error(scorer: SlowScorer, make_host: Callable[..., Host]) -> None:
    """The setting that limits it is named."""
    scorer.hangs.add("start")
    with pytest.raises(WorkerStartError, match=r"start_timeout_s = 0\.2"):
        make_host(0.2).start()


def test_a_close_that_hangs_lets_the_process_end(scorer: SlowScorer, make_host: Callable[..., Host]) -> None:
    """After its limit the close gives up, so the process can end."""
    host = make_host(close_limit_s=0.2)
    host.start()
    scorer.hangs.add("close")
    host.close()


def test_a_query_whose_asker_left_is_dropped(host: Host, scorer: SlowScorer, own_redis_url: str) -> None:
    """Its id on the presence channel cancels it, and its thread ends quietly; any other id changes nothing."""
    scorer.hangs.add("score")
    task = put_claim(own_redis_url, "left")
    serving = threading.Thread(target=host.score, args=(task,))
    serving.start()
    assert scorer.working.wait(WAIT_S)
    with sync_redis.Redis.from_url(own_redis_url) as client:
        await_true(lambda: client.publish(wire.presence_channel("slow"), "another"))
        assert not scorer.dropped.wait(0.3)
        client.publish(wire.presence_channel("slow"), "left")
    assert scorer.dropped.wait(WAIT_S)
    serving.join(WAIT_S)
    assert not serving.is_alive()


def test_a_broken_scorer_is_told_and_no_longer_counted(
    host: Host, scorer: SlowScorer, told: list[str], own_redis_url: str
) -> None:
    """Proxies stop counting the worker before its process has ended."""
    channel = wire.presence_channel("slow")
    with sync_redis.Redis.from_url(own_redis_url) as client:
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        assert scorer.death is not None
        host._loop.call_soon_threadsafe(scorer.death.set_result, "the GPU fell off")
        await_true(lambda: told)
        assert told == ["the GPU fell off"]
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 0)


def test_a_watch_that_breaks_off_begins_again(
    scorer: SlowScorer, make_host: Callable[..., Host], told: list[str], own_redis_url: str
) -> None:
    """What watches the scorer is itself watched: an error there does not hide the scorer's death for ever."""
    errors: list[Exception] = [ZeroDivisionError(), ResponseError("odd")]
    real = scorer.broken

    async def broken() -> str:
        if errors:
            raise errors.pop(0)
        return await real()

    scorer.broken = broken  # type: ignore[method-assign]
    host = make_host()
    host.start()
    host.announce()
    assert scorer.death is not None
    host._loop.call_soon_threadsafe(scorer.death.set_result, "the GPU fell off")
    await_true(lambda: told == ["the GPU fell off"])
    host.close()


def test_a_worker_that_cannot_read_its_queue_is_not_counted(host: Host, own_redis_url: str) -> None:
    """While Redis refuses the queue, nobody waits for this worker; then it is counted again."""
    channel = wire.presence_channel("slow")
    with sync_redis.Redis.from_url(own_redis_url) as client:
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        host._outage.failed(READING, ResponseError("READONLY"))
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 0)
        host._outage.well(READING)
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 1)


def test_a_subscription_that_redis_refuses_comes_back(host: Host, own_redis_url: str) -> None:
    """Redis refuses the channel and closes every connection: the worker is counted again when it may."""
    channel = wire.presence_channel("slow")
    with sync_redis.Redis.from_url(own_redis_url, single_connection_client=True) as client:
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        client.acl_setuser("default", enabled=True, commands=["-subscribe"])
        for kind in ("pubsub", "normal"):
            client.client_kill_filter(_type=kind, skipme=True)
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 0)
        await_true(lambda: host._outage.error(PRESENCE) is not None)
        client.acl_setuser("default", enabled=True, commands=["+@all"])
        await_true(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        await_true(lambda: host._outage.error(PRESENCE) is None)
