"""Asks OpenSearch, as the caller, what the search pipeline of a search does, and keeps the answers for a while.

They are kept by caller, so nobody learns what only another one may see. Whatever goes wrong, the pipeline counts as one
that we know nothing of, and no search fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from es_rerank.errors import UpstreamError
from es_rerank.proxy.caller import asked_as, caller_of
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES
from es_rerank.proxy.search.search_pipeline import NO_PIPELINE, asks_to_rerank, named_pipeline, work_of
from es_rerank.records import first_header
from es_rerank.rules.book import BoundRule
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS

if TYPE_CHECKING:
    from es_rerank.clock import Clock
    from es_rerank.memory import MemoryBudget
    from es_rerank.proxy.caller import Fetches
    from es_rerank.proxy.search.call import PipelineWork, SearchCall
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook

LOG = logging.getLogger(__name__)
KEPT_S = 300.0
KEPT_UNKNOWN_S = 30.0
MAX_KEPT = 4096
MAX_ASKING = 64
# How long the engine has for its answers; what a search waits for them is the search's own affair.
ASKED_S = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
DEFAULT_SETTING = "index.search.default_pipeline"

_Key = tuple[bytes, str, str]
"""A caller, an index expression ('' where a pipeline is named), and the name of a pipeline ('' for the default)."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a pipeline does, and until when that is believed."""

    work: PipelineWork
    until_s: float


class SearchPipelines:
    """What search pipelines do, as the engine tells each caller. Used in one event loop only.

    An answer is kept for KEPT_S, and that nothing was told for KEPT_UNKNOWN_S. At most MAX_KEPT are kept; the one that
    was met first makes room. Searches that want to know the same at the same time ask once.
    """

    def __init__(self, engine: Fetches, memory: MemoryBudget, clock: Clock) -> None:
        self._engine = engine
        self._memory = memory
        self._clock = clock
        self._kept: dict[_Key, _Kept] = {}
        self._asking: dict[_Key, asyncio.Task[None]] = {}
        self._salt = os.urandom(16)

    async def find(self, call: SearchCall, due_s: float) -> PipelineWork:
        """What the pipeline of a search does, as far as that is known by the instant `due_s`. Never raises.

        Nobody is asked with a name or an index expression of more than MAX_EXPRESSION_CHARACTERS.
        """
        named = named_pipeline(call)
        if isinstance(named, dict):
            return work_of(named)
        if named == NO_PIPELINE:
            return "none"
        if named is not None and not isinstance(named, str):
            return "other"
        expression, name = ("", named) if named else (call.expression, "")
        if max(len(expression), len(name)) > MAX_EXPRESSION_CHARACTERS:
            return "other"
        key = (caller_of(call, self._salt), expression, name)
        asking = self._begin(call, key)
        if asking is not None:
            with suppress(TimeoutError):
                async with self._clock.limit(due_s):
                    await asyncio.shield(asking)
        kept = self._kept_of(key)
        return "other" if kept is None else kept.work

    def _begin(self, call: SearchCall, key: _Key) -> asyncio.Task[None] | None:
        """Begin to ask, if nothing is kept; None if nothing is asked."""
        asking = self._asking.get(key)
        if asking is None and self._kept_of(key) is None and len(self._asking) < MAX_ASKING:
            asking = self._asking[key] = asyncio.create_task(self._ask(call, key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return asking

    def _kept_of(self, key: _Key) -> _Kept | None:
        """What is kept of a pipeline; None if nothing is kept any more."""
        kept = self._kept.get(key)
        return kept if kept is not None and kept.until_s > self._clock.monotonic_s() else None

    async def _ask(self, call: SearchCall, key: _Key) -> None:
        """Ask about this pipeline, and keep what comes. Never raises."""
        work: PipelineWork | None = None
        due_s = self._clock.monotonic_s() + ASKED_S
        try:
            async with self._clock.limit(due_s):
                work = await self._look(call, key[2], due_s)
        except (TimeoutError, UpstreamError, UnreadableBodyError, ValueError) as error:
            LOG.debug("what the search pipeline of a search does is not known: %s", error)
        except Exception:  # no search fails because of this
            LOG.exception("asking for a search pipeline broke")
        until_s = self._clock.monotonic_s() + (KEPT_UNKNOWN_S if work is None else KEPT_S)
        self._kept.pop(key, None)
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(work or "other", until_s)

    async def _look(self, call: SearchCall, named: str, due_s: float) -> PipelineWork:
        """What the engine says that a pipeline does, '' for the default one of the indices that are searched."""
        if not named:
            path = f"/{quote(call.expression, safe=',*', errors='replace')}" if call.expression else ""
            options = "flat_settings=true&ignore_unavailable=true&allow_no_indices=true"
            target = f"{path}/_settings/{DEFAULT_SETTING}?{options}"
            default = default_of(await self._fetch(asked_as(call, target), due_s))
            if default is None:
                return "none"
            named = default
        pipelines = await self._fetch(asked_as(call, f"/_search/pipeline/{quote(named, safe='')}"), due_s)
        if named not in pipelines:
            raise ValueError("the engine did not tell of it")
        return work_of(pipelines[named])

    async def _fetch(self, request: Request, due_s: float) -> dict[str, Any]:
        """The object that the engine answers. Raises ValueError for any other answer."""
        if len(request.target) > MAX_TARGET_BYTES - len("GET  HTTP/1.1"):
            raise ValueError("the names are too long to be asked about")
        with self._memory.share() as share:
            reply = await self._engine.fetch(request, max_bytes=MAX_ANSWER_BYTES, hold=share.take, due_s=due_s)
            if reply.status != 200:
                raise ValueError(f"the engine answered {reply.status}")
            coding = first_header(reply.headers, b"content-encoding")
            body = decode_body(reply.body, coding, max_bytes=MAX_ANSWER_BYTES)
            return msgspec.json.decode(body, type=dict[str, Any])


def default_of(settings: dict[str, Any]) -> str | None:
    """The default pipeline that a search of these indices goes through, from their flat settings; None for none.

    Indices without one don't count, and two that differ cancel each other (measured on OpenSearch 2.19).
    """
    named: set[str] = set()
    for index in settings.values():
        given = index.get("settings", {}) if isinstance(index, dict) else {}
        default = given.get(DEFAULT_SETTING) if isinstance(given, dict) else None
        if isinstance(default, str) and default != NO_PIPELINE:
            named.add(default)
    return named.pop() if len(named) == 1 else None


def is_looked_at(call: SearchCall, book: RuleBook) -> bool:
    """Whether what the pipeline of a search does may matter to what we do, if the engine is OpenSearch.

    It matters where a search asks OpenSearch to rerank, and where a rule takes any first stage and one is named. Others
    are not looked at: without `ext.rerank` a processor that reranks by a model refuses the search.
    """
    asks, named = asks_to_rerank(call), named_pipeline(call) is not None
    bound = book.find(call.expression) if asks or named else None
    return isinstance(bound, BoundRule) and (asks or bound.rule.first_stage == "any")
