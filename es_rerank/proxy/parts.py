"""What a search is answered with: the long-lived parts of one proxy process, made and ended together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self

from es_rerank.clock import SystemClock
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.events.opening import open_recorder
from es_rerank.proxy.field_types import FieldTypes
from es_rerank.proxy.jobs import Jobs
from es_rerank.proxy.points import Points
from es_rerank.proxy.scoring.opening import open_score_source
from es_rerank.proxy.search.absent_fields import AbsentFields
from es_rerank.proxy.search.async_memory import AsyncSearches
from es_rerank.proxy.search.large_windows import LargeWindows
from es_rerank.proxy.search_pipelines import SearchPipelines
from es_rerank.proxy.stats import SearchStats
from es_rerank.rules.merge import RuleBase
from es_rerank.rules.source import FileRules
from es_rerank.store.engine import StoreEngine, keep_preparing
from es_rerank.store.rules import follow_rules
from es_rerank.supervised import end
from es_rerank.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from es_rerank.clock import Clock
    from es_rerank.models import RerankApi
    from es_rerank.proxy.events.recorder import EventRecorder
    from es_rerank.proxy.scoring.source import ScoreSource
    from es_rerank.records import Reply, Request
    from es_rerank.rules.source import RuleSource
    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.settings import Settings
    from es_rerank.store.rules import StoredRules
    from es_rerank.tables import LimitSettings
    from es_rerank.upstream import StreamedReply


PREPARE_AGAIN_S = 5.0


class Engine(Protocol):
    """The engine as the proxy needs it. See `Upstream`."""

    @property
    def product(self) -> bytes | None:
        """The engine's X-Elastic-Product, as last seen."""
        ...

    def send(self, request: Request) -> AbstractAsyncContextManager[StreamedReply]:
        """The answer as it comes."""
        ...

    async def fetch(
        self,
        request: Request,
        *,
        max_bytes: int,
        hold: Callable[[int], bool],
        due_s: float | None = None,
        new_connection: bool = False,
    ) -> Reply:
        """The whole answer. No connection to a host is waited for beyond `due_s`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that outlives a request.

    `field_types` is None where nobody is asked about the types of fields, and `search_pipelines` where nobody is asked
    about those.
    `sniffed_address` is None where clients may learn the addresses of the engine's nodes.
    `store` is None where es-rerank keeps no indices of its own, and so is `stored_rules`, which else are the `rules`.
    `events` is None where searches leave no events, and `rerank_api` where that API is not answered.
    `scorers` are all that the configuration knows, by name, and `jobs` those that run in this process.
    """

    clock: Clock
    engine: Engine
    rules: RuleSource
    scores: ScoreSource
    limits: LimitSettings
    memory: MemoryBudget
    forwarded_headers: bool = False
    sniffed_address: str | None = None
    field_types: FieldTypes | None = None
    search_pipelines: SearchPipelines | None = None
    store: StoreEngine | None = None
    events: EventRecorder | None = None
    stored_rules: StoredRules | None = None
    rerank_api: RerankApi | None = None
    scorers: Mapping[str, ScorerSettings] = field(default_factory=dict)
    jobs: Jobs = field(default_factory=Jobs)
    large_windows: LargeWindows = field(default_factory=LargeWindows)
    absent_fields: AbsentFields = field(default_factory=AbsentFields)
    async_searches: AsyncSearches = field(default_factory=AsyncSearches)
    points: Points = field(default_factory=lambda: Points(SystemClock()))
    stats: SearchStats = field(default_factory=lambda: SearchStats(SystemClock()))

    def without_events(self) -> Self:
        """The same for searches that leave no events, and so get no id that an event would have."""
        return replace(self, events=None)


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of a proxy. What is down at the start may come up later.

    With a store, its rules are looked for first, see `follow_rules`; nothing else is connected to yet.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Upstream(settings.upstream, clock))
        memory = MemoryBudget(settings.limits.max_held_bytes)
        store = None if settings.store is None else StoreEngine(engine, settings.store, memory)
        events = await stack.enter_async_context(open_recorder(settings))
        if store is not None:
            preparing = asyncio.create_task(_prepare(store, events))
            stack.push_async_callback(end, preparing)
        stored_rules = None
        if store is not None and settings.store is not None:
            base = RuleBase(
                rules=settings.rules,
                scorers=settings.known_scorers(),
                limits=settings.limits,
                endpoints=settings.endpoints(),
            )
            following = follow_rules(store, base, clock, pause_s=settings.store.poll_s)
            stored_rules = await stack.enter_async_context(following)
        scores = await stack.enter_async_context(open_score_source(settings, clock))
        jobs = Jobs()
        stack.push_async_callback(jobs.close)
        yield Parts(
            clock=clock,
            engine=engine,
            rules=stored_rules or FileRules(settings.book()),
            scores=scores,
            limits=settings.limits,
            memory=memory,
            field_types=FieldTypes(engine, memory, clock),
            search_pipelines=SearchPipelines(engine, memory, clock),
            store=store,
            events=events,
            stored_rules=stored_rules,
            rerank_api=settings.bound_rerank_api(),
            scorers=settings.known_scorers(),
            jobs=jobs,
            forwarded_headers=settings.upstream.forwarded_headers,
            sniffed_address=settings.server.sniffed_address,
        )


async def _prepare(store: StoreEngine, events: EventRecorder | None) -> None:
    """Make our own indices, and only then let events be written: the engine must know their fields."""
    await keep_preparing(store, pause_s=PREPARE_AGAIN_S)
    if events is not None:
        events.open()
