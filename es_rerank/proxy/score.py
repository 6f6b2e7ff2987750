"""The judgments of one window: from the cache, and for what is missing from the workers, until the deadline.

Never fails and never runs over the deadline: whatever goes wrong becomes gaps and a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from es_rerank.cache.keys import score_keys
from es_rerank.wire import Claim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from es_rerank.clock import Deadline
    from es_rerank.judgment import Judgment, ScoreRule
    from es_rerank.proxy.classify import Rerank, Stage
    from es_rerank.proxy.laps import Laps
    from es_rerank.proxy.parts import Parts

# What is kept of the deadline for fusing, writing and sending the answer.
RENDER_MARGIN_S = 0.03
REDIS_ERRORS = (RedisError, OperationalError, OSError)
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScores:
    """What could be had; the lists are parallel to the window, None for gaps.

    `keys` are those under which the judgments were looked for. `cached` counts hits judged from the cache,
    `missing_text` hits without text. `reason` is the word for why hits with text have no judgment, or none that is
    full; None where all have one.
    """

    judgments: tuple[Judgment | None, ...]
    keys: tuple[str | None, ...]
    rank_scores: tuple[float | None, ...]
    cached: int
    missing_text: int
    reason: str | None

    @property
    def scored(self) -> int:
        """How many hits have a rank score."""
        return sum(judgment is not None for judgment in self.judgments)

    @property
    def cut(self) -> int:
        """How many hits were judged before their thinking ended, because of a deadline."""
        return sum(judgment is not None and judgment.cut == "deadline" for judgment in self.judgments)

    @property
    def low_mass(self) -> int:
        """How many judgments are of a model that was about to answer something else."""
        return sum(judgment is not None and judgment.low_mass for judgment in self.judgments)

    @property
    def truncated(self) -> int:
        """How many judgments are of a query or document that was longer than the model is given."""
        return sum(judgment is not None and judgment.truncated for judgment in self.judgments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What one stage gave, by text: judgments, the keys that were looked up, and which came from the cache."""

    judgments: Mapping[str, Judgment]
    keys: Mapping[str, str]
    cached: frozenset[str]
    reason: str | None


async def score_window(
    texts: Sequence[str | None], decision: Rerank, deadline: Deadline, parts: Parts, laps: Laps
) -> WindowScores:
    """The judgments of the window's texts (None: a hit has none), parallel to them."""
    # Equal texts are one document to judge.
    wanted = list(dict.fromkeys(text for text in texts if text is not None))
    judgments: dict[str, Judgment] = {}
    keys: dict[str, str] = {}
    cached: set[str] = set()
    reason: str | None = None
    for stage in decision.stages:
        chosen = best_texts(wanted, judgments, decision.score, stage.top)
        one = await _judge(chosen, stage, decision, deadline, parts, laps)
        judgments.update(one.judgments)
        keys.update({text: one.keys[text] for text in one.judgments})
        cached = (cached - one.judgments.keys()) | one.cached
        reason = reason or one.reason
    if not wanted and texts:
        reason = "missing_text"
    given = tuple(None if text is None else judgments.get(text) for text in texts)
    return WindowScores(
        judgments=given,
        keys=tuple(None if text is None else keys.get(text) for text in texts),
        rank_scores=tuple(None if one is None else one.score(decision.score) for one in given),
        cached=sum(text in cached for text in texts),
        missing_text=sum(text is None for text in texts),
        reason=reason,
    )


def best_texts(
    texts: Sequence[str], judgments: Mapping[str, Judgment], rule: ScoreRule, top: int | None
) -> Sequence[str]:
    """The texts that a stage is about: all of them, or the `top` judged best so far, ties in engine order."""
    if top is None:
        return texts
    judged = [text for text in texts if text in judgments]
    return sorted(judged, key=lambda text: -judgments[text].score(rule))[:top]


async def ask_again(texts: Sequence[str], stage: Stage, decision: Rerank, deadline: Deadline, parts: Parts) -> None:
    """Have texts thought about until their reasoning is kept, or the deadline. What is judged is in the cache."""
    if texts:
        fingerprint, keys = _keys_of(texts, stage, decision, parts)
        await _ask_workers(texts, keys, stage, decision, fingerprint, deadline, parts)


def _keys_of(texts: Sequence[str], stage: Stage, decision: Rerank, parts: Parts) -> tuple[str, list[str]]:
    """The scorer's fingerprint, and the keys of its judgments, parallel to the texts."""
    fingerprint = parts.settings.known_scorers()[decision.rule.scorer].fingerprint()
    keys = score_keys(
        fingerprint=fingerprint,
        budget_tokens=stage.budget_tokens,
        instruction=decision.instruction,
        query=decision.question,
        texts=texts,
    )
    return fingerprint, keys


async def _judge(  # noqa: PLR0917
    texts: Sequence[str], stage: Stage, decision: Rerank, deadline: Deadline, parts: Parts, laps: Laps
) -> _Round:
    """One stage for these texts, each of them once."""
    fingerprint, keys = _keys_of(texts, stage, decision, parts)
    found, reason = await _look_up(keys, deadline, parts)
    judgments = {text: one for text, one in zip(texts, found, strict=True) if one is not None}
    cached = frozenset(judgments)
    laps.lap("cache")
    missing = [text for text in texts if text not in judgments]
    key_of = dict(zip(texts, keys, strict=True))
    if missing and reason is None:
        missing_keys = [key_of[text] for text in missing]
        made, reason = await _ask_workers(missing, missing_keys, stage, decision, fingerprint, deadline, parts)
        judgments.update({text: one for text, one in zip(missing, made, strict=True) if one is not None})
        if reason is not None and stage.budget_tokens:
            left = [text for text in missing if text not in judgments]
            judgments.update(await _fall_back(left, [key_of[text] for text in left], deadline, parts))
        laps.lap("score")
    if reason is None and any(one.cut == "deadline" for one in judgments.values()):
        reason = "deadline"
    return _Round(judgments=judgments, keys=key_of, cached=cached, reason=reason)


async def _look_up(
    keys: Sequence[str], deadline: Deadline, parts: Parts
) -> tuple[Sequence[Judgment | None], str | None]:
    """The cached judgments, parallel to the keys, and why there can be none."""
    nothing = [None] * len(keys)
    remaining_s = deadline.remaining_s() - RENDER_MARGIN_S
    if remaining_s <= 0:
        return nothing, "deadline"
    try:
        async with asyncio.timeout(remaining_s):
            return await parts.cache.get_many(keys), None
    except TimeoutError:
        return nothing, "deadline"
    except REDIS_ERRORS:
        return nothing, "no_redis"


async def _fall_back(
    texts: Sequence[str], keys: Sequence[str], deadline: Deadline, parts: Parts
) -> dict[str, Judgment]:
    """Judgments that an earlier search's deadline cut, for texts that have none: better than none at all."""
    found = await last_look(parts.cache.get_cut(keys), deadline)
    return {text: one.judgment for text, one in zip(texts, found, strict=False) if one is not None}


async def last_look(look: Awaitable[Sequence[Found]], deadline: Deadline) -> Sequence[Found]:
    """What one look into the cache finds when the time may be nearly over; nothing where it can't be had."""
    with contextlib.suppress(TimeoutError, *REDIS_ERRORS):
        # The wait for workers ended the margin before the deadline; half of it is enough for one look.
        async with asyncio.timeout(max(RENDER_MARGIN_S / 2, deadline.remaining_s() - RENDER_MARGIN_S)):
            return await look
    return ()


async def _ask_workers(  # noqa: PLR0917
    texts: Sequence[str],
    keys: Sequence[str],
    stage: Stage,
    decision: Rerank,
    fingerprint: str,
    deadline: Deadline,
    parts: Parts,
) -> tuple[Sequence[Judgment | None], str | None]:
    """The workers' judgments, parallel to the texts, and why some are missing."""
    nothing = [None] * len(texts)
    if parts.permits.locked():
        return nothing, "overloaded"
    query_id = uuid.uuid4().hex
    async with parts.permits:
        with parts.collector.expect(query_id, len(texts)) as waiting:
            try:
                async with asyncio.timeout(max(0.0, deadline.remaining_s() - RENDER_MARGIN_S)):
                    if not await parts.dispatcher.count_workers(fingerprint):
                        return nothing, "no_worker"
                    claim = Claim(
                        query=decision.question,
                        instruction=decision.instruction,
                        texts=list(texts),
                        keys=list(keys),
                        budget_tokens=stage.budget_tokens,
                        keep_reasoning=decision.keep_reasoning,
                        lifetime_ms=max(1, int(deadline.remaining_s() * 1000)),
                    )
                    await parts.dispatcher.send(query_id, claim, fingerprint)
                in_time = await waiting.wait(deadline, RENDER_MARGIN_S)
            except TimeoutError:
                return nothing, "deadline"
            except REDIS_ERRORS:
                return nothing, "no_redis"
            except asyncio.CancelledError:  # the caller left, and nobody waits for what is being done
                await _cancel(query_id, fingerprint, parts)
                raise
            reason = (waiting.end or "document_failed") if in_time else "deadline"
            return waiting.judgments, reason if None in waiting.judgments else None


async def _cancel(query_id: str, fingerprint: str, parts: Parts) -> None:
    """Tell the workers, as far as Redis lets us."""
    with contextlib.suppress(TimeoutError, *REDIS_ERRORS):
        async with asyncio.timeout(parts.settings.redis.timeout_s):
            await parts.dispatcher.cancel(query_id, fingerprint)
