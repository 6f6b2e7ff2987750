"""The judgments of a window: stages, the cache before the workers, and what is left when something is missing."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.cache.keys import score_keys
from es_rerank.cache.scores import CutJudgment, MemoryScoreCache
from es_rerank.clock import Deadline, SystemClock
from es_rerank.judgment import Judgment
from es_rerank.proxy.classify import Rerank, Stage
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.score import best_texts, score_window
from es_rerank.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.score import WindowScores
    from es_rerank.wire import Claim

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "scorers": {"erank": {"kind": "vllm", "model": "m"}},
        "rules": [{"name": "a", "indices": ["a"], "fields": ["t"], "scorer": "erank"}],
    }
)
THINK, DIRECT = Stage(budget_tokens=64), Stage(budget_tokens=0)


def sure(answer: int, **more: Any) -> Judgment:
    """A judgment that is sure of an answer."""
    return Judgment(distribution=tuple(float(place == answer) for place in range(11)), **more)


class FakeWorkers:
    """Dispatcher and collector in one: answers a claim with `judge` of each text and budget, as workers would.

    The same contract is held to real ones in tests/e2e and tests/llm.
    """

    def __init__(self, judge: Any, *, workers: int = 1, end: str | None = "") -> None:
        self.judge = judge
        self.workers = workers
        self.end = end
        self.claims: list[Claim] = []
        self.cancelled: list[str] = []
        self._waiting: Any = None

    async def count_workers(self, fingerprint: str) -> int:
        """See `Dispatcher`."""
        return self.workers

    @contextmanager
    def expect(self, query_id: str, count: int) -> Iterator[Any]:
        """See `Collector`."""
        self._waiting = SimpleNamespace(judgments=[None] * count, end=self.end, wait=self._wait)
        yield self._waiting

    async def send(self, query_id: str, claim: Claim, fingerprint: str) -> None:
        """See `Dispatcher`."""
        self.claims.append(claim)
        self._waiting.judgments = [self.judge(text, claim.budget_tokens) for text in claim.texts]

    async def cancel(self, query_id: str, fingerprint: str) -> None:
        """See `Dispatcher`."""
        self.cancelled.append(query_id)

    async def _wait(self, deadline: Deadline, margin_s: float) -> bool:
        if self.end is None:
            await asyncio.sleep(deadline.remaining_s())
        return self.end is not None


def decision(*stages: Stage) -> Rerank:
    """A reranked search with these stages."""
    return Rerank(
        rule=SETTINGS.rules[0],
        question="q",
        instruction="i",
        window=10,
        alpha=0.2,
        method="zscore",
        mode="think",
        stages=stages,
        score="expected",
        keep_reasoning=False,
        page_from=0,
        page_size=10,
    )


async def scored(
    texts: Sequence[str | None], workers: FakeWorkers, cache: MemoryScoreCache, *stages: Stage, within_s: float = 60.0
) -> WindowScores:
    """What the window of these texts gets."""
    clock = SystemClock()
    parts = cast(
        "Parts",
        SimpleNamespace(
            settings=SETTINGS,
            cache=cache,
            dispatcher=workers,
            collector=workers,
            permits=asyncio.Semaphore(1),
        ),
    )
    deadline = Deadline(clock, clock.monotonic_s(), within_s)
    return await score_window(texts, decision(*stages), deadline, parts, Laps(clock))


def key_of(text: str, stage: Stage) -> str:
    """The cache key of a text's judgment in a stage."""
    fingerprint = SETTINGS.known_scorers()["erank"].fingerprint()
    [key] = score_keys(
        fingerprint=fingerprint, budget_tokens=stage.budget_tokens, instruction="i", query="q", texts=[text]
    )
    return key


async def test_only_what_the_cache_lacks_is_asked_for() -> None:
    """Equal texts are judged once, cached ones not at all, and a hit without text stays a gap."""
    cache = MemoryScoreCache()
    await cache.put_many({key_of("a", THINK): sure(3)})
    workers = FakeWorkers(lambda text, budget: sure(5))
    found = await scored(["a", None, "b", "b"], workers, cache, THINK)
    assert found.rank_scores == (3.0, None, 5.0, 5.0)
    assert (found.cached, found.missing_text, found.reason) == (1, 1, None)
    [claim] = workers.claims
    assert (claim.texts, claim.budget_tokens) == (["b"], 64)
    assert 0 < claim.lifetime_ms <= 60_000


async def test_a_cascade_thinks_about_the_best_and_keeps_the_rest() -> None:
    """The second stage gets the best of all, cached ones among them; the others keep their direct judgment."""
    cache = MemoryScoreCache()
    await cache.put_many({key_of("d", DIRECT): sure(9)})
    workers = FakeWorkers(lambda text, budget: sure("abc".find(text) + 1) if not budget else sure(10, think_tokens=4))
    found = await scored(list("abcd"), workers, cache, DIRECT, Stage(budget_tokens=64, top=2))
    assert [claim.texts for claim in workers.claims] == [["a", "b", "c"], ["d", "c"]]
    assert found.rank_scores == (1.0, 2.0, 10.0, 10.0)
    assert (found.cached, found.reason) == (0, None)
    assert found.keys[2] == key_of("c", Stage(budget_tokens=64))


async def test_a_second_stage_that_fails_leaves_the_first() -> None:
    """Every hit keeps its direct judgment, and the search says what was missing."""
    workers = FakeWorkers(lambda text, budget: None if budget else sure(2))
    found = await scored(["a", "b"], workers, MemoryScoreCache(), DIRECT, Stage(budget_tokens=64, top=1))
    assert (found.rank_scores, found.reason) == ((2.0, 2.0), "document_failed")


async def test_judgments_that_a_deadline_cut_never_pass_for_full_ones() -> None:
    """They count as scored and as cut, and the window has a reason, though nothing is missing."""
    workers = FakeWorkers(lambda text, budget: sure(4, cut="deadline", think_tokens=2))
    found = await scored(["a", "b"], workers, MemoryScoreCache(), THINK)
    assert (found.scored, found.cut, found.reason) == (2, 2, "deadline")


async def test_an_earlier_cut_is_better_than_nothing() -> None:
    """Without any worker a text is served from what an earlier deadline cut, and says so; else never."""
    cache = MemoryScoreCache()
    cut = sure(7, cut="deadline", think_tokens=9)
    for text in ("a", "b"):
        await cache.put_cut({key_of(text, THINK): CutJudgment(judgment=cut)})
    alone = await scored(["a", "c"], FakeWorkers(None, workers=0), cache, THINK)
    assert (alone.rank_scores, alone.cut, alone.reason) == ((7.0, None), 1, "no_worker")
    beside = await scored(["a", "b"], FakeWorkers(lambda text, budget: sure(1)), cache, THINK)
    assert (beside.rank_scores, beside.reason) == ((1.0, 1.0), None)


async def test_who_leaves_has_the_query_cancelled() -> None:
    """A caller who leaves while workers are busy has them told."""
    workers = FakeWorkers(lambda text, budget: None, end=None)
    asking = asyncio.ensure_future(scored(["a"], workers, MemoryScoreCache(), THINK))
    while not workers.claims:  # noqa: ASYNC110  a fake has no event
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(workers.cancelled) == 1


async def test_a_deadline_that_passes_cancels_nothing() -> None:
    """Late scores fill the cache: only a caller who left has the work dropped."""
    workers = FakeWorkers(lambda text, budget: None, end=None)
    found = await scored(["a"], workers, MemoryScoreCache(), THINK, within_s=0.2)
    assert (found.reason, workers.cancelled) == ("deadline", [])


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 10), max_size=8), st.integers(1, 10))
def test_the_best_are_the_best(answers: dict[str, int], top: int) -> None:
    """As many as asked for, none better left out, ties in engine order; without a number all of them."""
    judgments = {text: sure(answer) for text, answer in answers.items()}
    best = best_texts(list(answers), judgments, "expected", top)
    assert len(best) == min(top, len(answers))
    left = [answers[text] for text in answers if text not in best]
    assert all(answers[text] >= worse for text in best for worse in left)
    assert best_texts(list(answers), judgments, "expected", None) == list(answers)
