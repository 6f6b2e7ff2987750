"""What `_explain` says of a scorer that thinks, on parts without Redis. The whole path is tested in tests/e2e."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.judgment import Judgment
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.own import explain
from es_rerank.proxy.own.call import OwnCall
from es_rerank.proxy.parts import Parts
from es_rerank.proxy.scoring.source import ScoreSource
from es_rerank.proxy.scoring.workers import Answered
from es_rerank.records import Reply, Request
from es_rerank.rules.source import FileRules
from es_rerank.settings import Settings
from tests.proxy.events.test_recorder import recorder_with
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from es_rerank.clock import Deadline
    from es_rerank.proxy.scoring.ask import Condition, Scoring, Stage
    from es_rerank.upstream import StreamedReply

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "scorers": {"llm": {"kind": "vllm", "model": "m", "max_think_tokens": 64}},
        "rules": [
            {"name": "films", "indices": ["films"], "template": "{title}!", "scorer": "llm", "instruction": "Find it."}
        ],
    }
)
SURE = (0.0,) * 7 + (0.8, 0.0, 0.0, 0.0)
ANSWER = {
    "hits": {
        "hits": [
            {"_index": "films", "_id": "a", "_score": 2.0, "_source": {"title": "one"}},
            {"_index": "films", "_id": "b", "_score": 1.0, "_source": {}},
            {"_index": "films", "_id": "c", "_score": 0.5, "_source": {"title": "two"}},
        ]
    },
    "timed_out": False,
}


class OneAnswer:
    """An engine that answers every request alike, and keeps the requests. The contract is `Engine`."""

    product: bytes | None = None

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def fetch(
        self,
        request: Request,
        *,
        max_bytes: int,
        hold: Callable[[int], bool],
        due_s: float | None = None,
        new_connection: bool = False,
    ) -> Reply:
        """See `Engine`."""
        self.requests.append(request)
        return Reply(status=200, headers=(), body=json.dumps(ANSWER).encode())

    def send(self, request: Request) -> AbstractAsyncContextManager[StreamedReply]:
        """See `Engine`. Nothing is streamed here."""
        raise AssertionError(request)


class ThinksOfOne:
    """Workers that judge the first text alone. The contract is `Workers`."""

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """See `Workers`."""
        judged = Judgment(distribution=SURE, think_tokens=12, cut="budget", truncated=True)
        return Answered(judgments=[judged, *[None] * (len(texts) - 1)], reason="document_failed")

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """See `Workers`. Nobody asks here."""
        raise AssertionError(fingerprints)


async def explained(engine: OneAnswer, body: Any, **parameters: str) -> Any:
    """What is said of a search for films, where searches leave events."""
    parts = Parts(
        clock=VirtualClock(),
        engine=engine,
        rules=FileRules(SETTINGS.book()),
        scores=ScoreSource(MemoryScoreCache(), ThinksOfOne()),
        limits=SETTINGS.limits,
        memory=MemoryBudget(SETTINGS.limits.max_held_bytes),
        events=recorder_with()[0],
    )
    headers = ((b"authorization", b"Basic eA=="), (b"es-rerank", b"off"), (b"content-type", b"text/plain"))
    request = Request(method="GET", target=b"/", headers=headers, body=json.dumps(body).encode())
    with parts.memory.share() as share:
        call = OwnCall(request=request, names={"index": "films"}, parameters=parameters, parts=parts, share=share)
        return (await explain.answer(call)).value


async def test_a_judgment_is_shown_whole() -> None:
    """Text by the template, distribution, thinking and what cut it are told; gaps are null, with their text."""
    told = await explained(OneAnswer(), {"query": {"match": {"title": "one"}}}, _source="false")
    assert (told["status"]["status"], told["status"]["reason"]) == ("partial", "document_failed")
    assert told["rule"]["text"] == {"template": "{title}!"}
    assert (told["decision"]["mode"], told["decision"]["instruction"]) == ("think", "Find it.")
    assert told["window"]["without_text"] == 1
    first, second, third = told["hits"]
    assert first["judgment"] == {
        "distribution": SURE,
        "mass": 0.8,
        "think_tokens": 12,
        "cut": "budget",
        "truncated": True,
    }
    assert (first["text"], second["text"], third["text"]) == ("one!", None, "two!")
    assert (second["cached"], second["judgment"], third["rank_score"]) == (None, None, None)


async def test_the_search_is_the_caller_s() -> None:
    """It is sent with the caller's credentials, as JSON, and nothing of our own request's head changes it."""
    engine = OneAnswer()
    await explained(engine, {"query": {"match_all": {}}}, size="3")
    [request] = engine.requests
    assert request.target == b"/films/_search?size=3"
    assert request.header(b"authorization") == b"Basic eA=="
    assert request.header(b"content-type") == b"application/json"
    assert request.header(b"es-rerank") is None


async def test_no_id_of_an_event_that_is_never_written_is_told() -> None:
    """The search leaves no event, so its status names none, not even by the id that the search gave itself."""
    told = await explained(OneAnswer(), {"query": {"match": {"title": "one"}}, "ext": {"es_rerank": {"query_id": "q"}}})
    assert told["status"]["status"] == "partial"
    assert "query_id" not in told["status"]
