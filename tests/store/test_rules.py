"""The rules in force are followed: every change is found, and nothing that fails takes a rule away."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, cast

import pytest

from es_rerank.clock import SystemClock
from es_rerank.memory import MemoryBudget
from es_rerank.rules.merge import RuleBase
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.store.engine import StoreEngine, StoreError, prepare
from es_rerank.store.indices import RULES
from es_rerank.store.rule_versions import LAST_CHANGE, RuleVersion, document_of
from es_rerank.store.rules import START_LIMIT_S, StoredRules, follow_rules
from es_rerank.tables import LimitSettings, StoreSettings, UpstreamSettings
from es_rerank.upstream import Upstream
from tests.conftest import send_json
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from es_rerank.rules.source import RuleSource
    from tests.conftest import Engine

KEYS = {"indices": ["films"], "fields": ["text"]}
BASE = RuleBase(
    rules=(Rule(name="films", indices=("films",), fields=("title",), window=100),),
    scorers={"minilm": MinilmSettings()},
    limits=LimitSettings(),
)


class FakeEngine:
    """As much of an engine as answers what is asked for rules. `fails` is raised instead, `hangs` waits for ever."""

    def __init__(self) -> None:
        self.versions: list[RuleVersion] | None = []
        self.fails: Exception | None = None
        self.hangs = False
        self.asked: list[Any] = []

    async def ask(self, method: str, target: str, body: Any = None, *, allowed: tuple[int, ...] = ()) -> Any:
        """See StoreEngine."""
        self.asked.append(body)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        if self.versions is None:
            assert 404 in allowed
            return None
        newest = {version.name: version for version in self.versions}
        shown = self.versions[-1:] if body is LAST_CHANGE else newest.values()
        hits = [{"_id": one.id, "sort": [one.version], "_source": document_of(one, None)} for one in shown]
        return {"hits": {"total": {"value": len(self.versions)}, "hits": hits}}

    def put(self, window: int) -> None:
        """One more version of the rule."""
        assert self.versions is not None
        number = len(self.versions) + 1
        self.versions.append(RuleVersion(name="films", version=number, rule={**KEYS, "window": window}))


@pytest.fixture
def engine() -> FakeEngine:
    """An engine whose index has no version."""
    return FakeEngine()


@pytest.fixture
def rules(engine: FakeEngine) -> StoredRules:
    """The rules that follow it."""
    return StoredRules(cast("StoreEngine", engine), BASE, SystemClock())


def window_of(rules: RuleSource) -> int:
    """The window of the rule in force."""
    return rules.book.rules[0].rule.window


async def test_a_change_is_read_and_no_change_costs_one_request(engine: FakeEngine, rules: StoredRules) -> None:
    """A search that has the book keeps it; the next one gets the new one."""
    assert await rules.look()
    kept = rules.book
    engine.put(7)
    assert await rules.look()
    assert (window_of(rules), rules.in_force.versions) == (7, {"films": 1})
    assert kept.rules[0].rule.window == 100
    book, asked = rules.book, len(engine.asked)
    assert await rules.look()
    assert rules.book is book
    assert engine.asked[asked:] == [LAST_CHANGE]


@pytest.mark.parametrize("fault", ["refuses", "gone", "broken"])
async def test_what_fails_keeps_the_last_book(
    engine: FakeEngine, rules: StoredRules, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Engine or index gone, or an answer that nobody foresaw: the last book stays, one line says so, and it passes."""
    caplog.set_level(logging.INFO)
    engine.put(7)
    await rules.look()
    versions, caplog.records[:] = engine.versions, []
    if fault == "gone":
        engine.versions = None
    else:
        engine.fails = StoreError("the engine answered 503", status=503) if fault == "refuses" else KeyError("hits")
    assert not await rules.look()
    assert not await rules.look()
    assert window_of(rules) == 7
    assert len(caplog.records) == 1
    engine.fails, engine.versions = None, versions
    engine.put(8)
    assert await rules.look()
    assert window_of(rules) == 8
    assert any(record.getMessage() == "the stored rules can be read again" for record in caplog.records)


async def test_before_the_index_is_made_the_file_holds(
    engine: FakeEngine, rules: StoredRules, caplog: pytest.LogCaptureFixture
) -> None:
    """An index that was not made yet is no failure."""
    engine.versions = None
    assert await rules.look()
    assert window_of(rules) == 100
    assert not caplog.records


async def test_what_is_left_out_is_told_once(
    engine: FakeEngine, rules: StoredRules, caplog: pytest.LogCaptureFixture
) -> None:
    """A stored rule beyond the file's limits is left out: one line, however often it is read."""
    engine.put(201)
    await rules.look()
    assert window_of(rules) == 100
    engine.put(202)
    await rules.look()
    engine.versions = [*(engine.versions or ()), RuleVersion(name="new", version=1, rule={**KEYS, "indices": ["new"]})]
    await rules.look()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        "the stored rule films is left out: window = 201: at most limits.max_window = 200",
        "the stored rule films is left out: window = 202: at most limits.max_window = 200",
    ]
    assert len(rules.book.rules) == 2


async def test_rules_are_followed_while_the_block_lasts(engine: FakeEngine) -> None:
    """The stored rules hold from the start, a later change is found by itself, and nothing is asked for afterwards."""
    engine.put(7)
    async with follow_rules(cast("StoreEngine", engine), BASE, SystemClock(), pause_s=0.001) as rules:
        assert window_of(rules) == 7
        engine.put(8)
        async with asyncio.timeout(10):
            while window_of(rules) != 8:  # noqa: ASYNC110  nothing tells of a change but the book
                await asyncio.sleep(0.001)
    asked = len(engine.asked)
    await settle()
    assert len(engine.asked) == asked


async def test_an_engine_that_hangs_does_not_stop_the_start(engine: FakeEngine) -> None:
    """After two seconds the proxy starts with the file's rules."""
    clock = VirtualClock()
    engine.hangs = True

    async def start() -> int:
        async with follow_rules(cast("StoreEngine", engine), BASE, clock, pause_s=60) as rules:
            return window_of(rules)

    starting = asyncio.create_task(start())
    await clock.advance(START_LIMIT_S)
    assert await starting == 100


async def test_ten_thousand_versions_hide_no_rule(opensearch: Engine) -> None:
    """However often one rule was changed, the newest version of every rule is read, and the last change is seen."""
    async with Upstream(UpstreamSettings(urls=(opensearch.url,)), SystemClock()) as upstream:
        store = StoreEngine(upstream, StoreSettings(), MemoryBudget(64 * 1024 * 1024))
        await prepare(store)
        put = [RuleVersion(name="old", version=1, timestamp="2026-11-28T00:00:00Z", rule={**KEYS, "indices": ["old"]})]
        put += [
            RuleVersion(name="films", version=number, timestamp="2026-11-28T00:00:01Z", rule={**KEYS, "window": 50})
            for number in range(1, 10_002)
        ]
        lines = [line for one in put for line in ({"create": {"_id": one.id}}, document_of(one, None))]
        bulk = ("\n".join(map(json.dumps, lines)) + "\n").encode()
        send_json(f"{opensearch.url}/es-rerank-rules/_bulk?refresh=true", bulk, method="POST")
        try:
            rules = StoredRules(store, BASE, SystemClock())
            assert await rules.look()
            assert rules.in_force.versions == {"old": 1, "films": 10_001}
            last = document_of(RuleVersion(name="films", version=10_002, timestamp="2026-11-28T00:00:01Z"), None)
            target = f"{opensearch.url}/es-rerank-rules/_create/films@10002?refresh=true"
            send_json(target, {**last, "action": "delete"}, method="PUT")
            assert await rules.look()
            assert rules.in_force.versions == {"old": 1}
        finally:
            opensearch.make_anew(RULES)
