"""Asks the workers of a scorer for judgments: is there room, is there a worker, send, wait; and what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from es_rerank.outage import REDIS_ERRORS, reason_of, refuses, words_of
from es_rerank.proxy.scoring.ask import Condition
from es_rerank.reasons import WORKER_REASONS
from es_rerank.wire import Claim, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from es_rerank.clock import Clock, Deadline
    from es_rerank.judgment import Judgment
    from es_rerank.outage import Outage
    from es_rerank.proxy.scoring.ask import Scoring, Stage
    from es_rerank.proxy.scoring.collect import Waiting
    from es_rerank.reasons import Gap

LOG = logging.getLogger(__name__)
ASKING = "asking workers"
# How much time before the deadline is kept for fusing, writing and sending the answer.
RENDER_MARGIN_S = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the workers gave: judgments parallel to the texts, None for gaps, and why there are gaps."""

    judgments: Sequence[Judgment | None]
    reason: Gap | None


class Workers(Protocol):
    """The workers of all scorers."""

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """Have texts judged, by the deadline less a margin. `keys` (of the score cache) are parallel to them.

        Raises only when it is cancelled, and then drops the query's work.
        """
        ...

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """How Redis and the workers of these scorers are."""
        ...


class NoWorkers:
    """Nobody who judges: what the cache lacks stays a gap."""

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline  # noqa: ARG002
    ) -> Answered:  # fmt: skip
        """See `Workers`."""
        return Answered(judgments=[None] * len(texts), reason="no_worker")

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """See `Workers`."""
        return Condition(reachable=True, writable=True, readable=True, error=None, workers=(0,) * len(fingerprints))


class _Presence(Protocol):
    async def count(self, fingerprints: Sequence[str]) -> list[int]: ...
    async def try_write(self) -> None: ...


class _Dispatcher(Protocol):
    async def send(self, query_id: str, claim: Claim, fingerprint: str) -> None: ...
    async def cancel(self, query_id: str, fingerprint: str) -> None: ...


class _Collector(Protocol):
    def expect(self, query_id: str, count: int) -> AbstractContextManager[Waiting]: ...
    def trouble(self) -> BaseException | None: ...


class QueuedWorkers:
    """Workers behind a queue. At most `max_in_flight` queries wait for them at a time; one more is not sent.

    `outage` is told how Redis is.
    `cancel_s` is how long it may take to tell the workers that a caller disconnected.
    """

    def __init__(
        self,
        presence: _Presence,
        dispatcher: _Dispatcher,
        collector: _Collector,
        clock: Clock,
        outage: Outage,
        *,
        max_in_flight: int,
        cancel_s: float,
    ) -> None:
        self._presence = presence
        self._dispatcher = dispatcher
        self._collector = collector
        self._clock = clock
        self._outage = outage
        self._permits = asyncio.Semaphore(max_in_flight)
        self._cancel_s = cancel_s

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """See `Workers`."""
        counts: tuple[int, ...] | None = None
        error: BaseException | None = None
        try:
            counts = tuple(await self._presence.count(fingerprints))
        except REDIS_ERRORS as refused:
            error = refused
        reachable = error is None or refuses(error)
        writable = False
        if reachable:
            try:
                await self._presence.try_write()
                writable = True
            except REDIS_ERRORS as refused:
                error = error or refused
                reachable = refuses(refused)
        if error is not None:
            self._outage.failed(ASKING, error)
        else:
            self._outage.well(ASKING)
        trouble = self._collector.trouble()
        error = error or trouble
        return Condition(
            reachable=reachable,
            writable=writable,
            readable=trouble is None,
            error=None if error is None else words_of(error),
            workers=counts,
        )

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """See `Workers`."""
        nothing: tuple[Judgment | None, ...] = (None,) * len(texts)
        if deadline.remaining_s() <= RENDER_MARGIN_S:
            return Answered(judgments=nothing, reason="deadline")
        if self._permits.locked():
            return Answered(judgments=nothing, reason="overloaded")
        query_id = uuid.uuid4().hex
        async with self._permits:
            with self._collector.expect(query_id, len(texts)) as waiting:
                try:
                    async with deadline.limit(RENDER_MARGIN_S):
                        if not any(await self._presence.count([scoring.fingerprint])):
                            # Workers that Redis refuses are not counted: then the reason is Redis.
                            await self._presence.try_write()
                            return Answered(judgments=nothing, reason="no_worker")
                        claim = _claim(scoring, stage, texts, keys, deadline)
                        await self._dispatcher.send(query_id, claim, scoring.fingerprint)
                        self._outage.well(ASKING)
                        await waiting.whole()
                except asyncio.CancelledError:  # the caller disconnected, so nobody waits for the work
                    await self._cancel(query_id, scoring.fingerprint)
                    raise
                except (TimeoutError, WireError, *REDIS_ERRORS) as error:
                    return _answered(waiting, self._reason(error))
                return _answered(waiting, _reason_of_end(waiting))

    def _reason(self, error: BaseException) -> Gap:
        """The word for what broke off a wait, which is logged where it was not the deadline."""
        if isinstance(error, WireError):
            LOG.warning("a window is not sent to the workers: %s", error)
            return "claim_too_large"
        if isinstance(error, TimeoutError):
            trouble = self._collector.trouble()
            return "deadline" if trouble is None else reason_of(trouble)
        self._outage.failed(ASKING, error)
        return reason_of(error)

    async def _cancel(self, query_id: str, fingerprint: str) -> None:
        """Tell the workers to drop the query, if Redis can be reached."""
        with contextlib.suppress(TimeoutError, *REDIS_ERRORS):
            async with self._clock.limit(self._clock.monotonic_s() + self._cancel_s):
                await self._dispatcher.cancel(query_id, fingerprint)


def _reason_of_end(waiting: Waiting) -> Gap | None:
    """The word for how an answer ended that came before the deadline; None for a whole one."""
    if waiting.lost is not None:
        return reason_of(waiting.lost)
    return WORKER_REASONS.get(waiting.end, "scorer_failed") if waiting.end else None


def _answered(waiting: Waiting, reason: Gap | None) -> Answered:
    """What came. Without another reason, a gap means that a document failed."""
    judgments = tuple(waiting.judgments)
    return Answered(judgments=judgments, reason=(reason or "document_failed") if None in judgments else None)


def _claim(scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline) -> Claim:
    return Claim(
        fingerprint=scoring.fingerprint,
        query=scoring.question,
        instruction=scoring.instruction,
        texts=list(texts),
        keys=list(keys),
        budget_tokens=stage.budget_tokens,
        keep_reasoning=scoring.keep_reasoning,
        lifetime_ms=max(1, int(deadline.remaining_s() * 1000)),
    )
