"""The judgments of windows: stages, the cache before the workers, and what is left when something is missing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from es_rerank.cache.keys import score_keys
from es_rerank.cache.scores import CutJudgment, MemoryScoreCache
from es_rerank.clock import Deadline
from es_rerank.judgment import Judgment
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.scoring.ask import Condition, ScoreRequest, Scoring, Stage, WindowScores
from es_rerank.proxy.scoring.source import ScoreSource, best_texts
from es_rerank.proxy.scoring.workers import RENDER_MARGIN_S, Answered
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from es_rerank.reasons import Gap

THINK, DIRECT = Stage(budget_tokens=64), Stage(budget_tokens=0)
FINGERPRINT = "vllm-0"
DEADLINE_S = 60.0


def sure(answer: int, **more: Any) -> Judgment:
    """A judgment with all probability on this answer."""
    return Judgment(distribution=tuple(float(place == answer) for place in range(11)), **more)


class FakeWorkers:
    """Answers with `judge` of each text and budget, or gives `reason`. The contract is `Workers`."""

    def __init__(self, judge: Callable[[str, int], Judgment | None] | None, *, reason: Gap | None = None) -> None:
        self.judge = judge
        self.reason = reason
        self.asked: list[tuple[list[str], Stage]] = []

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """See `Workers`."""
        assert len(keys) == len(texts)
        self.asked.append((list(texts), stage))
        made = [None if self.judge is None else self.judge(text, stage.budget_tokens) for text in texts]
        return Answered(judgments=made, reason=(self.reason or "document_failed") if None in made else None)

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """See `Workers`."""
        return Condition(reachable=True, writable=True, readable=True, error=None, workers=(1,) * len(fingerprints))


class StallingCache(MemoryScoreCache):
    """A cache of which one operation never ends."""

    def __init__(self, stalls: str) -> None:
        super().__init__()
        self.stalls = stalls

    async def get_many(self, keys: Sequence[str]) -> list[Judgment | None]:
        """See `ScoreCache`."""
        await self._stall("get_many")
        return await super().get_many(keys)

    async def get_cut(self, keys: Sequence[str]) -> list[CutJudgment | None]:
        """See `ScoreCache`."""
        await self._stall("get_cut")
        return await super().get_cut(keys)

    async def get_reasoning(self, keys: Sequence[str]) -> list[str | None]:
        """See `ScoreCache`."""
        await self._stall("get_reasoning")
        return await super().get_reasoning(keys)

    async def _stall(self, name: str) -> None:
        if name == self.stalls:
            await asyncio.Event().wait()


class BrokenCache(MemoryScoreCache):
    """A cache whose Redis is gone."""

    async def get_many(self, keys: Sequence[str]) -> list[Judgment | None]:
        """See `ScoreCache`."""
        raise RedisConnectionError


def request_of(texts: Sequence[str | None], *stages: Stage, question: str = "q") -> ScoreRequest:
    """A window with these texts, judged in these stages."""
    scoring = Scoring(fingerprint=FINGERPRINT, question=question, instruction="i", stages=stages, score="expected")
    return ScoreRequest(scoring=scoring, texts=tuple(texts))


async def judged(
    requests: Sequence[ScoreRequest], workers: FakeWorkers, cache: MemoryScoreCache, clock: VirtualClock | None = None
) -> list[WindowScores]:
    """What the windows get."""
    clock = clock or VirtualClock()
    deadline = Deadline(clock, clock.now_s + DEADLINE_S)
    return await ScoreSource(cache, workers).judge(requests, deadline, Laps(clock))


async def scored(
    texts: Sequence[str | None], workers: FakeWorkers, cache: MemoryScoreCache, *stages: Stage
) -> WindowScores:
    """What one window gets."""
    [scores] = await judged([request_of(texts, *stages)], workers, cache)
    return scores


def rank_scores(scores: WindowScores) -> list[float | None]:
    """The mean answers of a window's judgments."""
    return [None if one is None else one.score("expected") for one in scores.judgments]


def key_of(text: str, stage: Stage, question: str = "q") -> str:
    """The cache key of a text's judgment in a stage."""
    [key] = score_keys(
        fingerprint=FINGERPRINT, budget_tokens=stage.budget_tokens, instruction="i", query=question, texts=[text]
    )
    return key


async def test_only_what_the_cache_lacks_is_asked_for() -> None:
    """Equal texts are judged once, cached texts not again, and a hit without text stays a gap."""
    cache = MemoryScoreCache()
    await cache.put_many({key_of("a", THINK): sure(3)})
    workers = FakeWorkers(lambda text, budget: sure(5))
    found = await scored(["a", None, "b", "b"], workers, cache, THINK)
    assert rank_scores(found) == [3.0, None, 5.0, 5.0]
    assert (found.cached, found.missing_text, found.reason) == (1, 1, None)
    assert workers.asked == [(["b"], THINK)]


async def test_a_cascade_thinks_about_the_best_and_keeps_the_rest() -> None:
    """The second stage gets the best of all, cached ones among them; the others keep their direct judgment."""
    cache = MemoryScoreCache()
    await cache.put_many({key_of("d", DIRECT): sure(9)})
    workers = FakeWorkers(lambda text, budget: sure("abc".find(text) + 1) if not budget else sure(10, think_tokens=4))
    found = await scored(list("abcd"), workers, cache, DIRECT, Stage(budget_tokens=64, top=2))
    assert [texts for texts, _ in workers.asked] == [["a", "b", "c"], ["d", "c"]]
    assert rank_scores(found) == [1.0, 2.0, 10.0, 10.0]
    assert (found.cached, found.reason) == (0, None)
    assert found.keys[2] == key_of("c", Stage(budget_tokens=64))


async def test_a_second_stage_that_fails_leaves_the_first() -> None:
    """Every hit keeps its direct judgment, and the search says what was missing."""
    workers = FakeWorkers(lambda text, budget: None if budget else sure(2))
    found = await scored(["a", "b"], workers, MemoryScoreCache(), DIRECT, Stage(budget_tokens=64, top=1))
    assert (rank_scores(found), found.reason) == ([2.0, 2.0], "document_failed")


async def test_judgments_that_a_deadline_cut_never_pass_for_full_ones() -> None:
    """Cut judgments count as scored and as cut, and the window has a reason although no score is missing."""
    workers = FakeWorkers(lambda text, budget: sure(4, cut="deadline", think_tokens=2))
    found = await scored(["a", "b"], workers, MemoryScoreCache(), THINK)
    assert (found.scored, found.cut, found.reason) == (2, 2, "deadline")


async def test_an_earlier_cut_is_better_than_nothing() -> None:
    """A judgment that an earlier deadline cut is used only if no worker answers, and it counts as cut."""
    cache = MemoryScoreCache()
    cut = sure(7, cut="deadline", think_tokens=9)
    for text in ("a", "b"):
        await cache.put_cut({key_of(text, THINK): CutJudgment(judgment=cut)})
    alone = await scored(["a", "c"], FakeWorkers(None, reason="no_worker"), cache, THINK)
    assert (rank_scores(alone), alone.cut, alone.reason) == ([7.0, None], 1, "no_worker")
    beside = await scored(["a", "b"], FakeWorkers(lambda text, budget: sure(1)), cache, THINK)
    assert (rank_scores(beside), beside.reason) == ([1.0, 1.0], None)


async def test_windows_are_judged_together() -> None:
    """Several windows share one look into the cache, wait side by side, and each gets what is its own."""
    cache = MemoryScoreCache()
    await cache.put_many({key_of("a", THINK, "one"): sure(3)})
    workers = FakeWorkers(lambda text, budget: sure("abc".find(text) + (5 if budget else 1)))
    requests = [
        request_of(["a", "b"], THINK, question="one"),
        request_of([], DIRECT),
        request_of(["a", None, "c"], DIRECT, Stage(budget_tokens=64, top=1), question="two"),
    ]
    one, nothing, two = await judged(requests, workers, cache)
    assert rank_scores(one) == [3.0, 6.0]
    assert (one.cached, one.reason) == (1, None)
    assert (nothing.judgments, nothing.reason) == ((), None)
    assert rank_scores(two) == [1.0, None, 7.0]
    assert [texts for texts, _ in workers.asked] == [["b"], ["a", "c"], ["c"]]


async def test_a_window_that_fails_costs_no_other() -> None:
    """A window that fails has a reason of its own, and the other windows have none."""
    workers = FakeWorkers(lambda text, budget: None if text == "bad" else sure(1))
    bad, good = await judged([request_of(["bad"], DIRECT), request_of(["x"], DIRECT)], workers, MemoryScoreCache())
    assert (bad.reason, good.reason) == ("document_failed", None)


async def test_cached_scores_count_after_the_deadline() -> None:
    """An engine that takes all the time costs no score that is in the cache."""
    clock, cache = VirtualClock(), MemoryScoreCache()
    await cache.put_many({key_of("a", DIRECT): sure(3)})
    clock.now_s = DEADLINE_S * 2
    deadline = Deadline(clock, DEADLINE_S)
    workers = FakeWorkers(None, reason="deadline")
    requests = [request_of(["a"], DIRECT), request_of(["a", "b"], DIRECT)]
    whole, part = await ScoreSource(cache, workers).judge(requests, deadline, Laps(clock))
    assert (rank_scores(whole), whole.reason) == ([3.0], None)
    assert (rank_scores(part), part.reason) == ([3.0, None], "deadline")


async def test_an_earlier_cut_is_read_where_redis_takes_no_claim() -> None:
    """A Redis that refuses writes and answers reads is `no_redis`, and still gives what an earlier deadline cut."""
    cache = MemoryScoreCache()
    await cache.put_cut({key_of("a", THINK): CutJudgment(judgment=sure(7, cut="deadline", think_tokens=9))})
    found = await scored(["a", "b"], FakeWorkers(None, reason="no_redis"), cache, THINK)
    assert (rank_scores(found), found.reason) == ([7.0, None], "no_redis")


async def test_the_cache_is_read_again_only_where_time_has_passed() -> None:
    """Without a worker the second look would find what the first one found, so there is none."""

    class Counting(MemoryScoreCache):
        looks = 0

        async def get_many(self, keys: Sequence[str]) -> list[Judgment | None]:
            self.looks += bool(keys)
            return await super().get_many(keys)

    cache = Counting()
    await scored(["a"], FakeWorkers(None, reason="no_worker"), cache, DIRECT)
    assert cache.looks == 1
    await scored(["a"], FakeWorkers(None, reason="deadline"), cache, DIRECT)
    assert cache.looks == 3


async def test_scores_that_workers_cached_without_a_word_count() -> None:
    """What another query had scored in the meantime is in the cache: one last look finds it, before giving up."""
    cache = MemoryScoreCache()

    class Silent(FakeWorkers):
        async def ask(
            self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
        ) -> Answered:
            await cache.put_many({key_of(text, stage): sure(4) for text in texts if text != "c"})
            return await super().ask(scoring, stage, texts, keys, deadline)

    workers = Silent(None, reason="deadline")
    some = await scored(["a", "c"], workers, cache, DIRECT)
    assert (rank_scores(some), some.reason) == ([4.0, None], "deadline")
    whole = await scored(["b", "d"], workers, cache, DIRECT)
    assert (rank_scores(whole), whole.reason) == ([4.0, 4.0], None)


async def test_a_cache_that_hangs_costs_the_deadline_and_no_more() -> None:
    """A cache read that never ends is given up one margin before the deadline, and then no worker is asked."""
    clock, workers = VirtualClock(), FakeWorkers(lambda text, budget: sure(1))
    asking = asyncio.ensure_future(judged([request_of(["a"], DIRECT)], workers, StallingCache("get_many"), clock))
    await clock.advance(DEADLINE_S - 2 * RENDER_MARGIN_S)
    assert not asking.done()
    await clock.advance(RENDER_MARGIN_S)
    [found] = await asking
    assert (found.scored, found.reason, workers.asked) == (0, "deadline", [])


async def test_a_look_for_cut_judgments_that_hangs_ends_with_the_margin() -> None:
    """The read for cut judgments ends before the deadline too, and the reason stays that of the workers."""
    clock, workers = VirtualClock(), FakeWorkers(None, reason="no_worker")
    asking = asyncio.ensure_future(judged([request_of(["a"], THINK)], workers, StallingCache("get_cut"), clock))
    await clock.advance(DEADLINE_S - RENDER_MARGIN_S)
    [found] = await asking
    assert (found.scored, found.reason) == (0, "no_worker")


async def test_without_redis_no_worker_is_asked() -> None:
    """If the cache can't be reached, the reason is `no_redis`, at once, and no worker is asked."""
    workers = FakeWorkers(lambda text, budget: sure(1))
    found = await scored(["a"], workers, BrokenCache(), DIRECT)
    assert (found.scored, found.reason, workers.asked) == (0, "no_redis", [])


async def reasoning_of(cache: MemoryScoreCache, workers: FakeWorkers, clock: VirtualClock) -> dict[int, str]:
    """The reasoning of a window with two texts that were thought about, for its first place and one without text."""
    source, deadline = ScoreSource(cache, workers), Deadline(clock, clock.now_s + DEADLINE_S)
    request = request_of(["a", None, "b"], THINK)
    [scores] = await source.judge([request], deadline, Laps(clock))
    return await source.find_reasoning([0, 1], request, scores, deadline)


async def test_reasoning_is_that_which_was_kept() -> None:
    """Reasoning that was kept is given by place, and no worker is asked."""
    cache, workers = MemoryScoreCache(), FakeWorkers(lambda text, budget: sure(1, think_tokens=3))
    await cache.put_reasoning({key_of("a", THINK): "since"})
    assert await reasoning_of(cache, workers, VirtualClock()) == {0: "since"}
    assert len(workers.asked) == 1


async def test_reasoning_that_was_not_kept_is_thought_again() -> None:
    """Only the hits that are asked for are thought about again; reasoning that is still missing then is left out."""
    workers = FakeWorkers(lambda text, budget: sure(1, think_tokens=3))
    assert await reasoning_of(MemoryScoreCache(), workers, VirtualClock()) == {}
    assert [texts for texts, _ in workers.asked] == [["a", "b"], ["a"]]


async def test_without_workers_only_the_cache_counts() -> None:
    """What is cached is judged, with the keys to its reasoning; the rest are gaps, and no model is asked."""
    cache, clock = MemoryScoreCache(), VirtualClock()
    workers = FakeWorkers(lambda text, budget: sure(1, think_tokens=3))
    key = key_of("a", THINK)
    await cache.put_many({key: sure(7, think_tokens=3)})
    await cache.put_reasoning({key: "since"})
    source, deadline = ScoreSource(cache, workers).cached_only(), Deadline(clock, DEADLINE_S)
    [scores] = await source.judge([request_of(["b", "a"], THINK)], deadline, Laps(clock))
    assert (scores.judgments, scores.keys, scores.reason) == ((None, sure(7, think_tokens=3)), (None, key), "no_worker")
    assert await source.kept_reasoning({1: key, 4: "es-rerank:score:other"}, deadline) == {1: "since"}
    assert (await source.check([FINGERPRINT])).workers == (0,)
    assert workers.asked == []


async def test_a_look_for_reasoning_that_hangs_ends_with_the_margin() -> None:
    """If the read for reasoning hangs, the search is answered without reasoning, in time."""
    clock, workers = VirtualClock(), FakeWorkers(lambda text, budget: sure(1, think_tokens=3))
    asking = asyncio.ensure_future(reasoning_of(StallingCache("get_reasoning"), workers, clock))
    await clock.advance(DEADLINE_S - RENDER_MARGIN_S)
    await clock.advance(RENDER_MARGIN_S)
    assert asking.done()
    assert await asking == {}


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 10), max_size=8), st.integers(1, 10))
def test_the_best_are_the_best(answers: dict[str, int], top: int) -> None:
    """The best texts are as many as asked for, no better one is left out, ties are in engine order; None means all."""
    judgments = {text: sure(answer) for text, answer in answers.items()}
    best = best_texts(list(answers), judgments, "expected", top)
    assert len(best) == min(top, len(answers))
    left = [answers[text] for text in answers if text not in best]
    assert all(answers[text] >= worse for text in best for worse in left)
    assert best_texts(list(answers), judgments, "expected", None) == list(answers)
