"""The judgments of windows: from the cache, and what is missing there from the workers, until the deadline.

Never fails and never runs over the deadline: whatever goes wrong becomes gaps and a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from es_rerank.cache.keys import score_keys
from es_rerank.outage import REDIS_ERRORS, reason_of
from es_rerank.proxy.offload import compute
from es_rerank.proxy.scoring.ask import WindowScores
from es_rerank.proxy.scoring.workers import RENDER_MARGIN_S, NoWorkers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from es_rerank.cache.scores import ScoreCache
    from es_rerank.clock import Deadline
    from es_rerank.judgment import Judgment, ScoreRule
    from es_rerank.proxy.laps import Laps
    from es_rerank.proxy.scoring.ask import Condition, ScoreRequest, Scoring, Stage
    from es_rerank.proxy.scoring.workers import Workers
    from es_rerank.reasons import Gap, Reason

# How long one read of the cache may take if no time is left.
LOOK_S = 0.015
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One stage of one window: its texts, each once and in engine order, with the keys of their judgments."""

    scoring: Scoring
    stage: Stage
    key_of: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What a round gave, by text: judgments, and which of them came from the cache."""

    key_of: Mapping[str, str]
    judgments: Mapping[str, Judgment]
    cached: frozenset[str]
    reason: Gap | None


class ScoreSource:
    """Where judgments come from: a cache, and workers behind it."""

    def __init__(self, cache: ScoreCache, workers: Workers) -> None:
        self._cache = cache
        self._workers = workers

    async def judge(self, requests: Sequence[ScoreRequest], deadline: Deadline, laps: Laps) -> list[WindowScores]:
        """The judgments of each request's texts, parallel to the requests.

        All windows look into the cache together and then wait for workers side by side. Where scorings have several
        stages, these come one after the other.
        """
        cost = sum(map(_hashing_cost, requests))
        judged: list[list[_Judged]] = [[] for _ in requests]
        for number in range(max((len(request.scoring.stages) for request in requests), default=0)):
            rounds = await compute(cost, _plan_rounds, requests, number, judged)
            for index, one in zip(rounds, await self._judge_rounds([*rounds.values()], deadline, laps), strict=True):
                judged[index].append(one)
        return await compute(cost, _combine_all, requests, judged)

    async def find_reasoning(
        self, places: Sequence[int], request: ScoreRequest, scores: WindowScores, deadline: Deadline
    ) -> dict[int, str]:
        """The reasoning of the window's hits at `places`, by place, for those that were thought about.

        If there is time, the scorer thinks again about hits whose reasoning was not kept. What does not come is left
        out.
        """
        thought = {
            place: key
            for place in places
            if (key := scores.keys[place]) is not None
            and (one := scores.judgments[place]) is not None
            and one.think_tokens
        }
        found = await self.kept_reasoning(thought, deadline)
        missing = {
            text: key
            for place, key in thought.items()
            if place not in found and (text := request.texts[place]) is not None
        }
        if missing and deadline.remaining_s() > RENDER_MARGIN_S:
            stage = request.scoring.stages[-1]
            await self._workers.ask(request.scoring, stage, [*missing], [*missing.values()], deadline)
            found = await self.kept_reasoning(thought, deadline)
        return found

    async def kept_reasoning(self, key_of: Mapping[int, str], deadline: Deadline) -> dict[int, str]:
        """The reasoning that is kept under the keys of these places, by place.

        Nobody thinks again: what is not kept, or does not come in time, is left out.
        """
        found = await _last_look(self._cache.get_reasoning, [*key_of.values()], deadline)
        return {place: text for place, text in zip(key_of, found, strict=False) if text is not None}

    def cached_only(self) -> ScoreSource:
        """The same cache without workers behind it, for who wants to cost no model any time."""
        return ScoreSource(self._cache, NoWorkers())

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """How Redis and the workers of these scorers are."""
        return await self._workers.check(fingerprints)

    async def _judge_rounds(self, rounds: Sequence[_Round], deadline: Deadline, laps: Laps) -> list[_Judged]:
        """One stage of several windows: what the cache has, then the rest from workers."""
        found, reason = await self._look_up([key for one in rounds for key in one.key_of.values()], deadline)
        laps.lap("cache")
        judged = []
        next_one = iter(found)
        for one in rounds:
            cached = {text: known for text in one.key_of if (known := next(next_one)) is not None}
            judged.append(_Judged(key_of=one.key_of, judgments=cached, cached=frozenset(cached), reason=reason))
        if reason is None and any(len(one.judgments) < len(one.key_of) for one in judged):
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(self._ask_workers(one, known, deadline))
                    for one, known in zip(rounds, judged, strict=True)
                ]
            judged = [task.result() for task in asked]
            laps.lap("score")
        return judged

    async def _look_up(self, keys: Sequence[str], deadline: Deadline) -> tuple[Sequence[Judgment | None], Gap | None]:
        """The cached judgments, parallel to the keys, and the reason if the cache could not be read."""
        nothing = [None] * len(keys)
        try:
            async with _look_limit(deadline):
                return await self._cache.get_many(keys), None
        except TimeoutError:
            return nothing, "deadline"
        except REDIS_ERRORS as error:
            return nothing, reason_of(error)

    async def _ask_workers(self, one: _Round, known: _Judged, deadline: Deadline) -> _Judged:
        """The known judgments, and the workers' judgments of the rest; for what they can't judge, one last look."""
        missing = {text: key for text, key in one.key_of.items() if text not in known.judgments}
        if not missing:
            return known
        answered = await self._workers.ask(one.scoring, one.stage, [*missing], [*missing.values()], deadline)
        made = {text: new for text, new in zip(missing, answered.judgments, strict=True) if new is not None}
        reason = answered.reason
        if reason is not None:
            left = {text: key for text, key in missing.items() if text not in made}
            made |= await self._last_scores(left, reason, one.stage, deadline)
            if all(text in made and made[text].cut != "deadline" for text in missing):
                reason = None
        return _Judged(key_of=one.key_of, judgments={**known.judgments, **made}, cached=known.cached, reason=reason)

    async def _last_scores(
        self, key_of: Mapping[str, str], reason: Gap, stage: Stage, deadline: Deadline
    ) -> dict[str, Judgment]:
        """What the cache has for texts that no worker told us of.

        Where a deadline ended the wait, full judgments may have come since the first look. A judgment whose thinking an
        earlier deadline cut is better than nothing.
        """
        keys = [*key_of.values()]
        full, cut = await asyncio.gather(
            _last_look(self._cache.get_many, keys if reason == "deadline" else [], deadline),
            _last_look(self._cache.get_cut, keys if stage.budget_tokens else [], deadline),
        )
        found = {text: old.judgment for text, old in zip(key_of, cut, strict=False) if old is not None}
        return found | {text: new for text, new in zip(key_of, full, strict=False) if new is not None}


def best_texts(
    texts: Sequence[str], judgments: Mapping[str, Judgment], rule: ScoreRule, top: int | None
) -> Sequence[str]:
    """The texts that a stage is about: all of them, or the `top` judged best so far, ties in engine order."""
    if top is None:
        return texts
    judged = [text for text in texts if text in judgments]
    return sorted(judged, key=lambda text: -judgments[text].score(rule))[:top]


def _hashing_cost(request: ScoreRequest) -> int:
    """How much there is to compute for the keys of a window's texts."""
    return sum(len(text) for text in request.texts if text is not None) // 4


def _plan_rounds(
    requests: Sequence[ScoreRequest], number: int, judged: Sequence[Sequence[_Judged]]
) -> dict[int, _Round]:
    """By place, the stage with this number of the requests that have one. `judged` are the rounds before it of each."""
    return {
        place: _plan_round(request, number, judged[place])
        for place, request in enumerate(requests)
        if number < len(request.scoring.stages)
    }


def _plan_round(request: ScoreRequest, number: int, before: Sequence[_Judged]) -> _Round:
    """The stage with this number, after the rounds before it."""
    scoring, stage = request.scoring, request.scoring.stages[number]
    so_far = {text: one for judged in before for text, one in judged.judgments.items()}
    # Equal texts are one document to judge.
    wanted = list(dict.fromkeys(text for text in request.texts if text is not None))
    texts = best_texts(wanted, so_far, scoring.score, stage.top)
    keys = score_keys(
        fingerprint=scoring.fingerprint,
        budget_tokens=stage.budget_tokens,
        instruction=scoring.instruction,
        query=scoring.question,
        texts=texts,
    )
    return _Round(scoring=scoring, stage=stage, key_of=dict(zip(texts, keys, strict=True)))


def _combine_all(requests: Sequence[ScoreRequest], judged: Sequence[Sequence[_Judged]]) -> list[WindowScores]:
    return [_combine(request, rounds) for request, rounds in zip(requests, judged, strict=True)]


def _combine(request: ScoreRequest, rounds: Sequence[_Judged]) -> WindowScores:
    """The window's scores: each text's judgment is that of the last round that has one."""
    judgments: dict[str, Judgment] = {}
    keys: dict[str, str] = {}
    cached: set[str] = set()
    reason: Reason | None = None
    for one in rounds:
        judgments.update(one.judgments)
        keys.update({text: one.key_of[text] for text in one.judgments})
        cached = (cached - one.judgments.keys()) | one.cached
        reason = reason or one.reason
        if reason is None and any(judgment.cut == "deadline" for judgment in one.judgments.values()):
            reason = "deadline"
    if request.texts and all(text is None for text in request.texts):
        reason = "missing_text"
    return WindowScores(
        judgments=tuple(None if text is None else judgments.get(text) for text in request.texts),
        keys=tuple(None if text is None else keys.get(text) for text in request.texts),
        from_cache=tuple(text in cached for text in request.texts),
        missing_text=sum(text is None for text in request.texts),
        reason=reason,
    )


async def _last_look(
    look: Callable[[Sequence[str]], Awaitable[Sequence[Found]]], keys: Sequence[str], deadline: Deadline
) -> Sequence[Found]:
    """What one read of the cache gives when the time may be nearly over; nothing if it fails or is too slow."""
    with contextlib.suppress(TimeoutError, *REDIS_ERRORS):
        async with _look_limit(deadline):
            return await look(keys)
    return ()


def _look_limit(deadline: Deadline) -> AbstractAsyncContextManager[object]:
    """The limit for one read of the cache: the margin before the deadline, or a moment from now if that is later.

    The engine may have used up all the time: scores that are cached count all the same.
    """
    clock = deadline.clock
    return clock.limit(max(deadline.due_s - RENDER_MARGIN_S, clock.monotonic_s() + LOOK_S))
