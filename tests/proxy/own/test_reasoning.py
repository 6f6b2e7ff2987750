"""A comparison shows what the model thought, as far as it is kept and whoever looks may see the text that it is about.

The cache, the engine and the replay's documents are faked here; tests/cache, tests/relay and test_replays.py hold the
real ones to the same contracts.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from es_rerank.cache.keys import score_keys
from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.errors import UpstreamError
from es_rerank.judgment import Judgment
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.own.call import OwnCall
from es_rerank.proxy.own.job_answers import one
from es_rerank.proxy.own.jobs import Job
from es_rerank.proxy.own.reasoning import LIMIT_S
from es_rerank.proxy.parts import Parts
from es_rerank.proxy.replay.plan import make_plan, rule_for
from es_rerank.proxy.scoring.source import ScoreSource
from es_rerank.records import Reply, Request
from es_rerank.rules.source import FileRules
from es_rerank.settings import Settings
from es_rerank.store.engine import StoreEngine
from es_rerank.tables import StoreSettings
from es_rerank.tuning.judged import JudgedQuery
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from es_rerank.clock import Deadline
    from es_rerank.proxy.replay.plan import ReplayPlan
    from es_rerank.proxy.scoring.ask import Condition, Scoring, Stage
    from es_rerank.proxy.scoring.workers import Answered
    from es_rerank.upstream import StreamedReply

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "scorers": {"llm": {"kind": "vllm", "model": "m", "max_think_tokens": 64}},
        "rules": [{"name": "films", "indices": ["films"], "fields": ["text"], "scorer": "llm", "instruction": "Find."}],
    }
)
BOOK = SETTINGS.book()
WORDS = "a robot in love"
TEXTS = {"a": "of a robot", "b": "of love and secret", "c": "of war", "d": "of the sea"}
# What each caller finds: Bob is not shown one document, and of another one not the whole text.
SEEN = {b"ann": TEXTS, b"bob": {"b": "of love and ***", "c": "of war", "d": "of the sea"}}
MOVED = ("a", "b", "c")


def plan_of(**overrides: Any) -> ReplayPlan:
    """The plan of the replay that recorded the windows."""
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


def documents_of(plan: ReplayPlan) -> dict[str, dict[str, Any]]:
    """The documents in the index of jobs: a comparison, the replay of its side b, and the replay's queries."""
    always: dict[str, Any] = {"state": "done", "timestamp": "", "updated": "", "index": "films", "scorer": "llm"}
    hits = [{"index": "films", "id": key, "a": 1, "b": 2, "grade": None} for key in MOVED]
    moved = [{"query_id": "q1", "user_query": WORDS, "a": 0.0, "b": 1.0, "hits": hits}]
    asked = {"a": "engine", "b": {"recording": "r1"}, "judgments": "people"}
    rule = plan.rule.model_dump(mode="json", exclude_unset=True)
    jobs = (
        Job(id="c1", kind="comparison", request=asked, result={"moved": moved, "wins": 1}, **always),
        Job(
            id="r1",
            kind="replay",
            request={"index": "films", "effective_rule": rule},
            result={"head": msgspec.to_builtins(plan.head)},
            **always,
        ),
    )
    queries = [JudgedQuery(query_id="q0", user_query="other"), JudgedQuery(query_id="q1", user_query=WORDS)]
    kept = {"id": "r1", "kind": "query_set", "request": {"queries": msgspec.to_builtins(queries)}}
    return {**{job.id: msgspec.to_builtins(job) for job in jobs}, "r1@queries": kept}


class FilmsEngine:
    """An engine with films, of which each caller sees their own, and documents of jobs. The contract is `Engine`.

    A search for films, but the one that asks for the right to search, answers `fails` if it is not None.
    """

    product: bytes | None = None

    def __init__(self, documents: Mapping[str, Any], fails: Any = None) -> None:
        self.documents = documents
        self.fails = fails
        self.requests: list[Request] = []

    async def fetch(self, request: Request, **_: Any) -> Reply:
        """See `Engine`."""
        self.requests.append(request)
        if request.path == b"/films/_search":
            assert isinstance(request.body, bytes)
            return await self._search(json.loads(request.body), request.header(b"authorization") or b"")
        kept = self.documents.get(request.path.decode().rpartition("/")[2])
        found = {"found": True, "_seq_no": 1, "_primary_term": 1, "_source": kept}
        return reply(200, found) if kept is not None else reply(404, {"found": False})

    async def _search(self, body: Mapping[str, Any], caller: bytes) -> Reply:
        if self.fails is not None and body["size"]:
            if isinstance(self.fails, Exception):
                raise self.fails
            await self.fails.wait()
            return reply(403, {"error": {"reason": "not allowed"}})
        hits = [
            {"_index": "films", "_id": key, "_score": float(9 - place), "_source": {"text": text}}
            for place, (key, text) in enumerate(SEEN[caller].items())
        ]
        return reply(200, {"timed_out": False, "hits": {"hits": hits}})

    def send(self, request: Request) -> AbstractAsyncContextManager[StreamedReply]:
        """See `Engine`. Nothing is streamed here."""
        raise AssertionError(request)


class NeverAsked:
    """Workers that must not be asked. The contract is `Workers`."""

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """See `Workers`."""
        raise AssertionError(texts)

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """See `Workers`."""
        raise AssertionError(fingerprints)


def reply(status: int, value: Any) -> Reply:
    """An answer of the engine."""
    return Reply(status=status, headers=((b"content-type", b"application/json"),), body=json.dumps(value).encode())


async def kept_about(plan: ReplayPlan, *ids: str) -> MemoryScoreCache:
    """A cache in which all documents, as Ann sees them, are judged, and the reasoning about some is kept."""
    cache = MemoryScoreCache()
    keys = score_keys(
        fingerprint=plan.head.fingerprint,
        budget_tokens=64 if plan.head.mode == "think" else 0,
        instruction="Find.",
        query=WORDS,
        texts=list(TEXTS.values()),
    )
    judgment = Judgment(distribution=(0.0,) * 10 + (1.0,), think_tokens=9)
    await cache.put_many(dict.fromkeys(keys, judgment))
    await cache.put_reasoning({key: f"why {name}" for name, key in zip(TEXTS, keys, strict=True) if name in ids})
    return cache


async def shown(
    engine: FilmsEngine, cache: MemoryScoreCache, caller: bytes = b"ann", clock: VirtualClock | None = None
) -> dict[str, Any]:
    """The result of the comparison, as it is shown to a caller."""
    memory = MemoryBudget(SETTINGS.limits.max_held_bytes)
    parts = Parts(
        clock=clock or VirtualClock(),
        engine=engine,
        rules=FileRules(BOOK),
        scores=ScoreSource(cache, NeverAsked()),
        limits=SETTINGS.limits,
        memory=memory,
        scorers=SETTINGS.known_scorers(),
        store=StoreEngine(engine, StoreSettings(), memory),
    )
    request = Request(method="GET", target=b"/", headers=((b"authorization", caller),), body=None)
    with memory.share() as share:
        call = OwnCall(request=request, names={"id": "c1"}, parameters={}, parts=parts, share=share)
        told = await one("comparison")(call)
    assert memory.held_bytes == 0
    result: dict[str, Any] = told.value["result"]
    assert result["wins"] == 1
    return result


def reasoning_in(result: Mapping[str, Any]) -> dict[str, Any]:
    """By hit, the reasoning that is shown."""
    [query] = result["moved"]
    assert [hit["id"] for hit in query["hits"]] == list(MOVED)
    return {hit["id"]: hit["reasoning"] for hit in query["hits"] if "reasoning" in hit}


async def test_the_hits_that_moved_have_the_reasoning_that_is_kept() -> None:
    """By side, for the hits that are shown; no model is asked, and nothing is written."""
    plan = plan_of()
    engine = FilmsEngine(documents_of(plan))
    result = await shown(engine, await kept_about(plan, "a", "c", "d"))
    assert reasoning_in(result) == {"a": {"b": "why a"}, "c": {"b": "why c"}}
    bodies = [json.loads(request.body) for request in engine.requests if isinstance(request.body, bytes)]
    assert [body["query"] for body in bodies if body["size"]] == [{"multi_match": {"query": WORDS, "fields": ["text"]}}]
    assert all(request.method == "GET" or request.path == b"/films/_search" for request in engine.requests)


async def test_nobody_reads_about_a_text_that_they_may_not_see() -> None:
    """Who is not shown a document, or sees a part of its text masked, gets no reasoning about it."""
    plan = plan_of()
    cache = await kept_about(plan, *TEXTS)
    engine = FilmsEngine(documents_of(plan))
    assert set(reasoning_in(await shown(engine, cache))) == {"a", "b", "c"}
    assert reasoning_in(await shown(engine, cache, caller=b"bob")) == {"c": {"b": "why c"}}


async def test_a_model_that_did_not_think_has_no_reasoning() -> None:
    """Then no query is searched for again."""
    plan = plan_of(mode="direct")
    engine = FilmsEngine(documents_of(plan), fails=AssertionError("searched"))
    assert reasoning_in(await shown(engine, await kept_about(plan, *TEXTS))) == {}


@pytest.mark.parametrize(
    ("gone", "fails"),
    [(("r1",), None), (("r1@queries",), None), ((), UpstreamError("gone")), ((), ZeroDivisionError())],
)
async def test_what_fails_leaves_the_comparison_without_reasoning(gone: tuple[str, ...], fails: Any) -> None:
    """A recording that is deleted, an engine that is away, a bug of ours: the comparison is shown all the same."""
    plan = plan_of()
    documents = {key: document for key, document in documents_of(plan).items() if key not in gone}
    assert reasoning_in(await shown(FilmsEngine(documents, fails), await kept_about(plan, *TEXTS))) == {}


async def test_a_slow_engine_is_not_waited_for() -> None:
    """After the limit the comparison is shown without reasoning."""
    plan, clock = plan_of(), VirtualClock()
    engine = FilmsEngine(documents_of(plan), fails=asyncio.Event())
    showing = asyncio.create_task(shown(engine, await kept_about(plan, *TEXTS), clock=clock))
    await clock.advance(LIMIT_S - 0.1)
    assert not showing.done()
    await clock.advance(0.2)
    assert reasoning_in(await showing) == {}
