"""The rules in force where some are stored: reads them with the login of es-rerank itself, and follows changes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from es_rerank.rules.merge import merge
from es_rerank.store.engine import StoreError
from es_rerank.store.indices import RULES
from es_rerank.store.rule_versions import LAST_CHANGE, NEWEST_OF_EACH, SEARCH, in_force, mark_in, versions_in
from es_rerank.supervised import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.clock import Clock
    from es_rerank.rules.book import RuleBook
    from es_rerank.rules.merge import RuleBase, RulesInForce
    from es_rerank.store.engine import StoreEngine

LOG = logging.getLogger(__name__)
# An engine that hangs must not keep a proxy from following once it serves again.
LOOK_LIMIT_S = 5.0
START_LIMIT_S = 2.0


class StoredRules:
    """The file's rules and, over them, the stored ones. See `es_rerank.rules.source.RuleSource`.

    Until a first look at the index has gone well, the file's rules hold alone. Where the index or its engine is gone,
    the last book stays.
    """

    def __init__(self, engine: StoreEngine, base: RuleBase, clock: Clock) -> None:
        self.base = base
        self._engine = engine
        self._clock = clock
        self._in_force = merge(base, {})
        self._mark: tuple[Any, ...] = ()
        self._turn = asyncio.Lock()
        self._failure = ""

    @property
    def book(self) -> RuleBook:
        """The book in force now."""
        return self._in_force.book

    @property
    def in_force(self) -> RulesInForce:
        """The book, and what is stored of it."""
        return self._in_force

    async def look(self) -> bool:
        """Read the stored rules, if any has changed since the last look. True if that went well.

        What failed is logged, once as long as it is the same.
        """
        try:
            async with self._clock.limit(self._clock.monotonic_s() + LOOK_LIMIT_S), self._turn:
                await self._read()
        except StoreError as error:
            self._say(f"the stored rules can't be read, the last ones stay: {error}")
        except TimeoutError:
            self._say(f"the stored rules can't be read, the last ones stay: no answer within {LOOK_LIMIT_S:g} s")
        except Exception as error:
            if repr(error) != self._failure:
                self._failure = repr(error)
                LOG.exception("reading the stored rules broke, the last ones stay")
        else:
            if self._failure:
                LOG.info("the stored rules can be read again")
            self._failure = ""
        return not self._failure

    async def follow(self, *, pause_s: float) -> None:
        """Look again after each pause. Ends only by a cancellation."""
        while True:
            await self.look()
            await asyncio.sleep(pause_s)

    async def _read(self) -> None:
        last = await self._engine.ask("POST", SEARCH, LAST_CHANGE, allowed=(404,))
        if last is None and self._mark:
            raise StoreError(f"the index {RULES.name} is gone")
        if last is None:  # it was not made yet
            return
        mark = mark_in(last)
        if mark == self._mark:
            return
        newest = versions_in(await self._engine.ask("POST", SEARCH, NEWEST_OF_EACH))
        # In a thread: with hundreds of rules it takes longer than a search may wait.
        found = await asyncio.to_thread(in_force, self.base, newest)
        self._tell(found)
        self._in_force, self._mark = found, mark

    def _tell(self, found: RulesInForce) -> None:
        """Log another version of the book, and each rule that is newly left out."""
        if found.book.version != self.book.version:
            LOG.info("rules of version %s are in force, %d of them stored", found.book.version, len(found.versions))
        for name, why in found.invalid.items():
            if self._in_force.invalid.get(name) != why:
                LOG.warning("the stored rule %s is left out: %s", name, why)

    def _say(self, failure: str) -> None:
        if failure != self._failure:
            self._failure = failure
            LOG.warning("%s", failure)


@asynccontextmanager
async def follow_rules(
    engine: StoreEngine, base: RuleBase, clock: Clock, *, pause_s: float
) -> AsyncIterator[StoredRules]:
    """The rules in force, looked for again after each pause as long as the block lasts.

    The stored ones are read before it begins, if the engine gives them within two seconds: a proxy that starts again
    does not serve by the file's rules first.
    """
    rules = StoredRules(engine, base, clock)
    with suppress(TimeoutError):
        async with clock.limit(clock.monotonic_s() + START_LIMIT_S):
            await rules.look()
    following = asyncio.create_task(rules.follow(pause_s=pause_s))
    try:
        yield rules
    finally:
        await end(following)
