"""A proxy on a faked engine for replays: what the engine answers is decided by the test, search by search."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.clock import SystemClock
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.parts import Parts
from es_rerank.proxy.replay.plan import make_plan, rule_for
from es_rerank.proxy.scoring.source import ScoreSource
from es_rerank.records import Reply
from es_rerank.rules.source import FileRules
from es_rerank.settings import Settings
from es_rerank.tuning.judged import JudgedQuery
from tests.proxy.test_pipeline import FakeEngine, LengthWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from es_rerank.proxy.replay.plan import ReplayPlan
    from es_rerank.records import Request

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "rules": [{"name": "films", "indices": ["films"], "fields": ["text"], "window": 5, "any_language": True}],
    }
)
BOOK = SETTINGS.book()
CALLER = (
    (b"authorization", b"Basic YW5uOnNlY3JldA=="),
    (b"x-opensearch-product-origin", b"opensearch-dashboards"),
    (b"content-length", b"7"),
    (b"es-rerank", b"off"),
)


class SearchedEngine(FakeEngine):
    """Answers a search by what `answer` says of its body, and counts how many it is asked at a time."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__()
        self._answer = answer

    async def fetch(self, request: Request, **_: Any) -> Reply:
        """See `Engine`."""
        self.requests.append(request)
        assert isinstance(request.body, bytes)
        found = self._answer(json.loads(request.body))
        if isinstance(found, Exception):
            raise found
        status, body = found if isinstance(found, tuple) else (200, found)
        headers = ((b"content-type", b"application/json"),)
        return Reply(status=status, headers=headers, body=json.dumps(body).encode())


def words_of(body: Mapping[str, Any]) -> str:
    """The words that a search is for."""
    return str(body["query"]["multi_match"]["query"])


def parts_on(engine: FakeEngine, workers: LengthWorkers | None = None) -> Parts:
    """The parts of a proxy in front of the engine."""
    return Parts(
        clock=SystemClock(),
        engine=engine,
        rules=FileRules(BOOK),
        scores=ScoreSource(MemoryScoreCache(), workers or LengthWorkers()),
        limits=SETTINGS.limits,
        memory=MemoryBudget(SETTINGS.limits.max_held_bytes),
        scorers=SETTINGS.known_scorers(),
    )


def films_plan(**overrides: Any) -> ReplayPlan:
    """The plan of a replay of films."""
    return make_plan(
        rule_for("films", overrides, BOOK),
        window=None,
        identity="r1",
        time="2026-11-28T09:00:00Z",
        index="films",
        request=None,
        book=BOOK,
        scorers=SETTINGS.known_scorers(),
    )


def queries(*words: str) -> tuple[JudgedQuery, ...]:
    """A query for each text, which is its id too."""
    return tuple(JudgedQuery(query_id=text, user_query=text, group="g") for text in words)
