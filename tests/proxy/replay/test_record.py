"""A query is recorded as its search went, and what went wrong is in the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import UpstreamError
from es_rerank.proxy.replay import record
from es_rerank.proxy.replay.record import ATTEMPTS, OutageError, RefusedError, record_query
from es_rerank.proxy.replay.run import headers_of
from es_rerank.proxy.scoring.workers import Answered
from tests.proxy.replay.parts import CALLER, SearchedEngine, films_plan, parts_on, queries
from tests.proxy.test_pipeline import LengthWorkers, hits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from es_rerank.clock import Deadline
    from es_rerank.proxy.scoring.ask import Scoring, Stage
    from es_rerank.reasons import Gap
    from es_rerank.tuning.recording import RecordedQuery

TEXTS = ("no", "the longest", "longer")
[QUERY] = queries("robots")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt comes at once."""
    monkeypatch.setattr(record, "AGAIN_S", 0.0)


class FailingWorkers(LengthWorkers):
    """Score nothing for this reason, a number of times."""

    def __init__(self, reason: Gap, times: int) -> None:
        super().__init__()
        self._reason, self._left = reason, times

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """See `Workers`."""
        if self._left:
            self._left -= 1
            return Answered(judgments=[None] * len(texts), reason=self._reason)
        return await super().ask(scoring, stage, texts, keys, deadline)


async def recorded(
    answer: Callable[[dict[str, Any]], Any], workers: LengthWorkers | None = None
) -> tuple[RecordedQuery, SearchedEngine]:
    """The query as it was recorded, and what the engine was asked."""
    engine = SearchedEngine(answer)
    parts = parts_on(engine, workers)
    found = await record_query(QUERY, films_plan(), headers_of(CALLER), parts)
    assert parts.memory.held_bytes == 0
    return found, engine


async def test_the_window_is_recorded_whole_and_without_text() -> None:
    """Ids, scores and judgments of all hits of the window, in engine order, from one search as the caller."""
    found, engine = await recorded(lambda _: hits_of(*TEXTS))
    assert (found.query_id, found.user_query, found.group) == ("robots", "robots", "g")
    assert (found.status, found.reason) == ("full", None)
    assert found.ids == (("films", "0"), ("films", "1"), ("films", "2"))
    assert found.engine_scores == (9.0, 8.0, 7.0)
    assert [one.rank_score for one in found.judgments if one is not None] == [2.0, 10.0, 6.0]
    [request] = engine.requests
    assert (request.method, request.path) == ("POST", b"/films/_search")
    assert request.header(b"authorization") == b"Basic YW5uOnNlY3JldA=="
    for name in (b"x-opensearch-product-origin", b"es-rerank"):
        assert request.header(name) is None


async def test_a_search_that_is_not_reranked_is_recorded_in_the_engines_order() -> None:
    """Its hits are there, without judgments, and so counts in what is measured."""
    german = [
        f"Der {bird} sitzt auf dem Dach und singt ein Lied, während der Regen fällt." for bird in ("Vogel", "Rabe")
    ]
    engine = SearchedEngine(lambda _: hits_of(*german))
    found = await record_query(QUERY, films_plan(any_language=False), headers_of(CALLER), parts_on(engine))
    assert (found.status, found.reason) == ("skipped", "language")
    assert (found.ids, found.judgments) == ((("films", "0"), ("films", "1")), (None, None))
    assert engine.requests[-1].target == b"/films/_search?from=0&size=5&_source=false"


async def test_a_search_that_finds_nothing_is_recorded_as_empty() -> None:
    """It counts too."""
    found, _ = await recorded(lambda _: hits_of())
    assert (found.ids, found.engine_scores, found.judgments) == ((), (), ())


@pytest.mark.parametrize("status", [400, 404])
async def test_a_search_that_the_engine_refuses_is_recorded_as_refused(status: int) -> None:
    """It has no hits, and the reason says why; it is not sent again and again."""
    found, engine = await recorded(lambda _: (status, {"error": "no"}))
    assert (found.status, found.reason, found.ids) == ("skipped", "engine_refused", ())
    assert len(engine.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_caller_whom_the_engine_does_not_know_ends_the_replay(status: int) -> None:
    """No query can be recorded then."""
    with pytest.raises(RefusedError, match=str(status)):
        await recorded(lambda _: (status, {"error": "no"}))


@pytest.mark.parametrize("answer", [(429, {}), (503, {}), UpstreamError("no engine host could be reached")])
async def test_an_engine_that_is_busy_or_gone_is_an_outage(answer: Any) -> None:
    """The query can be tried again."""
    with pytest.raises(OutageError):
        await recorded(lambda _: answer)


@pytest.mark.parametrize("reason", ["no_worker", "no_redis", "redis_refuses"])
async def test_scores_that_nobody_can_give_are_an_outage(reason: Gap) -> None:
    """A recording without judgments would be of no use."""
    with pytest.raises(OutageError):
        await recorded(lambda _: hits_of(*TEXTS), FailingWorkers(reason, 1))


async def test_scores_that_came_too_late_are_asked_for_again() -> None:
    """They are in the cache by then."""
    found, _ = await recorded(lambda _: hits_of(*TEXTS), FailingWorkers("deadline", ATTEMPTS - 1))
    assert found.status == "full"


async def test_a_search_that_never_goes_well_is_recorded_as_it_went() -> None:
    """After three attempts its status and reason are recorded, and it is not dropped."""
    found, engine = await recorded(lambda _: hits_of(*TEXTS), FailingWorkers("deadline", 99))
    assert (found.status, found.reason, len(found.ids), set(found.judgments)) == ("failed", "deadline", 3, {None})
    assert len(engine.requests) == ATTEMPTS


async def test_an_answer_without_some_shards_is_tried_again_and_then_recorded() -> None:
    """The reason says that hits may be missing."""
    partial = {**hits_of(*TEXTS), "_shards": {"failed": 1}}
    found, _ = await recorded(lambda _: partial)
    assert (found.status, found.reason) == ("skipped", "partial_answer")
