"""Asking workers: the reason for each thing that can go wrong, and that no wait lasts beyond the deadline."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from es_rerank.clock import Deadline
from es_rerank.judgment import Judgment
from es_rerank.outage import Outage
from es_rerank.proxy.scoring.ask import Scoring, Stage
from es_rerank.proxy.scoring.collect import Waiting
from es_rerank.proxy.scoring.workers import ASKING, RENDER_MARGIN_S, Answered, QueuedWorkers
from es_rerank.wire import Arrival, Outcome, WireError
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from es_rerank.wire import Claim, End

STAGE = Stage(budget_tokens=7)
SCORING = Scoring(
    fingerprint="vllm-0", question="q", instruction="i", stages=(STAGE,), score="paper", keep_reasoning=True
)
DEADLINE_S, CANCEL_S = 60.0, 1.0


class Queue:
    """Presence, dispatcher and collector in one, without a Redis: it stalls or breaks where a test says so.

    The same contract is held to the real ones in tests/proxy/scoring/test_collect.py, tests/e2e and tests/faults.
    """

    def __init__(self, *, stalls: str = "", breaks: dict[str, Exception] | None = None, workers: int = 1) -> None:
        self.stalls = stalls
        self.breaks = breaks or {}
        self.workers = workers
        self.claims: list[Claim] = []
        self.cancelled: list[str] = []
        self.waiting: Waiting | None = None
        self.reading_error: BaseException | None = None

    async def count(self, fingerprints: Sequence[str]) -> list[int]:
        """See `Presence`."""
        await self._meet("count")
        return [self.workers] * len(fingerprints)

    async def try_write(self) -> None:
        """See `Presence`."""
        await self._meet("write")

    def trouble(self) -> BaseException | None:
        """See `Collector`."""
        return self.reading_error

    async def send(self, query_id: str, claim: Claim, fingerprint: str) -> None:
        """See `Dispatcher`."""
        await self._meet("send")
        self.claims.append(claim)

    async def cancel(self, query_id: str, fingerprint: str) -> None:
        """See `Dispatcher`."""
        await self._meet("cancel")
        self.cancelled.append(query_id)

    @contextmanager
    def expect(self, query_id: str, count: int) -> Iterator[Waiting]:
        """See `Collector`."""
        self.waiting = Waiting(count)
        yield self.waiting

    def tell(self, *scores: float | None, end: End = "", reason: str = "") -> None:
        """What a worker says of the first documents."""
        assert self.waiting is not None
        outcomes = [
            Outcome(index=index, judgment=None if score is None else Judgment(rank_score=score))
            for index, score in enumerate(scores)
        ]
        self.waiting.take(Arrival(query_id="x", outcomes=outcomes, end=end, reason=reason))

    async def _meet(self, name: str) -> None:
        if name in self.breaks:
            raise self.breaks[name]
        if name == self.stalls:
            await asyncio.Event().wait()


class Asking:
    """Two texts on their way to workers."""

    def __init__(self, queue: Queue, *, max_in_flight: int = 1) -> None:
        self.clock = VirtualClock()
        self.outage = Outage()
        self.workers = QueuedWorkers(
            queue, queue, queue, self.clock, self.outage, max_in_flight=max_in_flight, cancel_s=CANCEL_S
        )

    def begin(self) -> asyncio.Task[Answered]:
        """Ask."""
        deadline = Deadline(self.clock, DEADLINE_S)
        return asyncio.ensure_future(self.workers.ask(SCORING, STAGE, ["a", "b"], ["k1", "k2"], deadline))


def scores_in(answered: Answered) -> list[float | None]:
    """The scores that came."""
    return [None if one is None else one.rank_score for one in answered.judgments]


async def test_a_claim_says_all_that_a_worker_needs() -> None:
    """Question, instruction, texts, keys, budget, and the time that is left."""
    queue = Queue()
    asking = Asking(queue)
    task = asking.begin()
    await settle()
    queue.tell(1.0, 2.0, end="done")
    answered = await task
    [claim] = queue.claims
    assert (claim.query, claim.instruction, claim.texts, claim.keys) == ("q", "i", ["a", "b"], ["k1", "k2"])
    assert (claim.budget_tokens, claim.keep_reasoning, claim.lifetime_ms) == (7, True, 60_000)
    assert (scores_in(answered), answered.reason) == ([1.0, 2.0], None)


@pytest.mark.parametrize("stalls", ["count", "send", ""])
async def test_whatever_stalls_ends_before_the_deadline(stalls: str) -> None:
    """Counting, sending and waiting share one limit: the margin before the deadline, not sooner and not later."""
    queue = Queue(stalls=stalls)
    asking = Asking(queue)
    task = asking.begin()
    await asking.clock.advance(DEADLINE_S - 2 * RENDER_MARGIN_S)
    assert not task.done()
    await asking.clock.advance(RENDER_MARGIN_S)
    assert task.done()
    assert (await task).reason == "deadline"
    assert queue.cancelled == []


async def test_after_the_deadline_nobody_is_asked() -> None:
    """With no time left nothing goes to Redis: a command that is cancelled there costs its connection."""
    queue = Queue(stalls="count")
    asking = Asking(queue)
    asking.clock.now_s = DEADLINE_S
    assert (await asking.begin()).reason == "deadline"
    assert queue.waiting is None


async def test_what_came_by_the_deadline_is_kept() -> None:
    """Scores that came by the deadline count, and `deadline` is the reason for the missing ones."""
    queue = Queue()
    asking = Asking(queue)
    task = asking.begin()
    await settle()
    queue.tell(4.0)
    await asking.clock.advance(DEADLINE_S)
    answered = await task
    assert (scores_in(answered), answered.reason) == ([4.0, None], "deadline")


@pytest.mark.parametrize(
    ("breaks", "error"),
    [
        ("count", RedisConnectionError()),
        ("send", RedisConnectionError()),
        ("send", OperationalError()),
        ("send", OSError()),
    ],
)
async def test_a_redis_that_is_gone_is_said(breaks: str, error: Exception) -> None:
    """Whichever library raises the error, the reason is `no_redis`, at once."""
    answered = await Asking(Queue(breaks={breaks: error})).begin()
    assert (scores_in(answered), answered.reason) == ([None, None], "no_redis")


@pytest.mark.parametrize("breaks", ["count", "send"])
async def test_a_redis_that_refuses_is_told_from_one_that_is_gone(breaks: str) -> None:
    """Redis answered with an error: the reason is `redis_refuses`, and its words are kept for health and the log."""
    asking = Asking(Queue(breaks={breaks: ResponseError("OOM command not allowed")}))
    assert (await asking.begin()).reason == "redis_refuses"
    assert asking.outage.error(ASKING) is not None


async def test_where_redis_refuses_the_workers_the_reason_is_redis() -> None:
    """Workers whose queue Redis refuses are not counted; a search says what is the case."""
    answered = await Asking(Queue(workers=0, breaks={"write": ResponseError("MISCONF")})).begin()
    assert answered.reason == "redis_refuses"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ResponseError("UNBLOCKED"), "redis_refuses"), (RedisConnectionError("gone"), "no_redis")],
)
async def test_a_search_that_is_held_while_redis_fails_says_so(error: Exception, reason: str) -> None:
    """Whether the reader gives up or the deadline comes first, the reason is Redis, and scores that came are kept."""
    queue = Queue()
    task = Asking(queue).begin()
    await settle()
    queue.tell(1.0)
    assert queue.waiting is not None
    queue.waiting.lose(error)
    answered = await task
    assert (scores_in(answered), answered.reason) == ([1.0, None], reason)
    asking = Asking(queue)
    task = asking.begin()
    await settle()
    queue.reading_error = error
    await asking.clock.advance(DEADLINE_S)
    assert (await task).reason == reason


async def test_a_window_that_no_worker_would_read_is_not_sent() -> None:
    """Its texts are too long together: the reason says so."""
    answered = await Asking(Queue(breaks={"send": WireError("a claim of many bytes")})).begin()
    assert (scores_in(answered), answered.reason) == ([None, None], "claim_too_large")


@pytest.mark.parametrize(
    ("breaks", "condition"),
    [
        ({}, (True, True, True, None, (1, 1))),
        ({"write": ResponseError("MISCONF disk")}, (True, False, True, "MISCONF disk", (1, 1))),
        ({"count": ResponseError("NOPERM no")}, (True, True, True, "NOPERM no", None)),
        ({"count": RedisConnectionError("gone")}, (False, False, True, "gone", None)),
        ({"write": RedisConnectionError("gone")}, (False, False, True, "gone", (1, 1))),
    ],
)
async def test_the_condition_is_what_redis_says(
    breaks: dict[str, Exception], condition: tuple[bool, bool, bool, str | None, tuple[int, ...] | None]
) -> None:
    """Reachable and writable are told apart, with Redis's own words; the counts are parallel to the fingerprints."""
    found = await Asking(Queue(breaks=breaks)).workers.check(["a", "b"])
    assert (found.reachable, found.writable, found.readable, found.error, found.workers) == condition
    queue = Queue()
    queue.reading_error = ResponseError("UNBLOCKED")
    found = await Asking(queue).workers.check(["a"])
    assert (found.readable, found.error) == (False, "UNBLOCKED")


async def test_without_a_worker_nothing_is_sent() -> None:
    """Without a worker the reason is `no_worker`, at once, and nothing is sent."""
    queue = Queue(workers=0)
    answered = await Asking(queue).begin()
    assert (answered.reason, queue.claims) == ("no_worker", [])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("scorer_failed", "scorer_failed"),
        ("claim_lost", "claim_lost"),
        ("claim_unreadable", "claim_unreadable"),
        ("redis_refuses", "redis_refuses"),
        ("x" * 1_000_000, "scorer_failed"),
        ("caf\u00e9", "scorer_failed"),
        ("anything\r\nelse", "scorer_failed"),
        ("", "document_failed"),
    ],
)
async def test_a_workers_reason_is_a_word_that_we_know(said: str, reason: str) -> None:
    """An unknown reason from a worker becomes `scorer_failed`, so no text of a worker reaches a header."""
    queue = Queue()
    task = Asking(queue).begin()
    await settle()
    queue.tell(3.0, end="error", reason=said)
    answered = await task
    assert (scores_in(answered), answered.reason) == ([3.0, None], reason)


async def test_a_document_without_a_score_is_no_failure_of_the_rest() -> None:
    """A gap in a whole answer has the reason `document_failed`."""
    queue = Queue()
    task = Asking(queue).begin()
    await settle()
    queue.tell(None, 5.0, end="done")
    assert (await task).reason == "document_failed"


async def test_one_query_too_many_is_not_sent() -> None:
    """While as many queries wait as may, the next one is `overloaded` at once; when they end, there is room again."""
    queue = Queue()
    asking = Asking(queue, max_in_flight=1)
    first = asking.begin()
    await settle()
    assert (await asking.begin()).reason == "overloaded"
    queue.tell(1.0, 1.0, end="done")
    await first
    third = asking.begin()
    await settle()
    queue.tell(2.0, 2.0, end="done")
    assert (await third).reason is None


@pytest.mark.parametrize("stalls", ["count", "send", ""])
async def test_work_is_dropped_when_the_caller_disconnects(stalls: str) -> None:
    """When a caller disconnects, at any moment, the workers are told, and there is room for another query."""
    queue = Queue(stalls=stalls)
    asking = Asking(queue, max_in_flight=1)
    task = asking.begin()
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(queue.cancelled) == 1
    queue.stalls = "count"
    again = asking.begin()
    await settle()
    assert not again.done()
    again.cancel()


async def test_telling_workers_has_a_limit_too() -> None:
    """After a caller disconnects, a Redis that hangs keeps the task no longer than one command may take."""
    queue = Queue(stalls="cancel")
    asking = Asking(queue)
    task = asking.begin()
    await settle()
    task.cancel()
    await asking.clock.advance(CANCEL_S / 2)
    assert not task.done()
    await asking.clock.advance(CANCEL_S / 2)
    assert task.cancelled()
