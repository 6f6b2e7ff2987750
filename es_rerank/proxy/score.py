"""The rank scores of one window: from the cache, and for what is missing from the workers, until the deadline.

Never fails and never runs over the deadline: whatever goes wrong becomes gaps and a reason.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from es_rerank.cache.keys import score_keys
from es_rerank.wire import Claim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.clock import Deadline
    from es_rerank.proxy.classify import Rerank
    from es_rerank.proxy.laps import Laps
    from es_rerank.proxy.parts import Parts

# What is kept of the deadline for fusing, writing and sending the answer.
RENDER_MARGIN_S = 0.03
REDIS_ERRORS = (RedisError, OperationalError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScores:
    """What could be had. `rank_scores` is parallel to the window, None for gaps.

    `cached` counts hits scored from the cache, `missing_text` hits without text. `reason` is the word for why hits
    with text have no score, None where all have one.
    """

    rank_scores: tuple[float | None, ...]
    cached: int
    missing_text: int
    reason: str | None

    @property
    def scored(self) -> int:
        """How many hits have a rank score."""
        return sum(score is not None for score in self.rank_scores)


async def score_window(
    texts: Sequence[str | None], decision: Rerank, deadline: Deadline, parts: Parts, laps: Laps
) -> WindowScores:
    """The scores of the window's texts (None: a hit has none), parallel to them."""
    fingerprint = parts.settings.known_scorers()[decision.rule.scorer].fingerprint()
    keys = score_keys(
        fingerprint=fingerprint,
        instruction=decision.rule.instruction,
        query=decision.question,
        texts=[text or "" for text in texts],
    )
    # Equal texts are one document to score.
    text_of = {key: text for key, text in zip(keys, texts, strict=True) if text is not None}
    score_of, reason = await _look_up(list(text_of), deadline, parts)
    cached = frozenset(score_of)
    laps.lap("cache")
    missing = [key for key in text_of if key not in score_of]
    if missing and reason is None:
        claim = Claim(
            query=decision.question,
            instruction=decision.rule.instruction,
            texts=[text_of[key] for key in missing],
            keys=missing,
        )
        found, reason = await _ask_workers(claim, fingerprint, deadline, parts)
        score_of.update({key: score for key, score in zip(missing, found, strict=True) if score is not None})
        laps.lap("score")
    if not text_of and texts:
        reason = "missing_text"
    given = [None if text is None else key for key, text in zip(keys, texts, strict=True)]
    return WindowScores(
        rank_scores=tuple(None if key is None else score_of.get(key) for key in given),
        cached=sum(key in cached for key in given),
        missing_text=sum(key is None for key in given),
        reason=reason,
    )


async def _look_up(keys: list[str], deadline: Deadline, parts: Parts) -> tuple[dict[str, float], str | None]:
    """The cached scores by key, and why there can be none."""
    remaining_s = deadline.remaining_s() - RENDER_MARGIN_S
    if remaining_s <= 0:
        return {}, "deadline"
    try:
        async with asyncio.timeout(remaining_s):
            found = await parts.cache.get_many(keys)
    except TimeoutError:
        return {}, "deadline"
    except REDIS_ERRORS:
        return {}, "no_redis"
    return {key: score for key, score in zip(keys, found, strict=True) if score is not None}, None


async def _ask_workers(
    claim: Claim, fingerprint: str, deadline: Deadline, parts: Parts
) -> tuple[list[float | None], str | None]:
    """The workers' scores, parallel to `claim.texts`, and why some are missing."""
    nothing: list[float | None] = [None] * len(claim.texts)
    if parts.permits.locked():
        return nothing, "overloaded"
    query_id = uuid.uuid4().hex
    async with parts.permits:
        with parts.collector.expect(query_id, len(claim.texts)) as waiting:
            try:
                async with asyncio.timeout(max(0.0, deadline.remaining_s() - RENDER_MARGIN_S)):
                    if not await parts.dispatcher.count_workers(fingerprint):
                        return nothing, "no_worker"
                    await parts.dispatcher.send(query_id, claim, fingerprint, deadline)
            except TimeoutError:
                return nothing, "deadline"
            except REDIS_ERRORS:
                return nothing, "no_redis"
            in_time = await waiting.wait(deadline, RENDER_MARGIN_S)
            reason = (waiting.end or "document_failed") if in_time else "deadline"
            return waiting.rank_scores, reason if None in waiting.rank_scores else None
