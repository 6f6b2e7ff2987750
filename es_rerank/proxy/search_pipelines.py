"""Asks OpenSearch, as the caller, what the search pipeline of a search does, and keeps the answers for a while.

They are kept by caller, so nobody learns what only another one may see. Whatever goes wrong, the pipeline counts as one
that we know nothing of, and no search fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from es_rerank.proxy.caller import KeptAnswers, asked_as
from es_rerank.proxy.search.decide import DOUBT_SHARE
from es_rerank.proxy.search.search_pipeline import NO_PIPELINE, asks_to_rerank, named_pipeline, work_of
from es_rerank.rules.book import BoundRule
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.clock import Clock
    from es_rerank.memory import MemoryBudget
    from es_rerank.proxy.caller import Fetches
    from es_rerank.proxy.search.call import PipelineWork, SearchCall
    from es_rerank.rules.book import RuleBook

MAX_KEPT = 4096
DEFAULT_SETTING = "index.search.default_pipeline"
READ_OBJECT = msgspec.json.Decoder(dict[str, Any]).decode

_Key = tuple[bytes, str, str]
"""A caller, an index expression ('' where a pipeline is named), and the name of a pipeline ('' for the default)."""


class SearchPipelines:
    """What search pipelines do, as the engine tells each caller: see `KeptAnswers`. At most MAX_KEPT are kept."""

    def __init__(self, engine: Fetches, memory: MemoryBudget, clock: Clock) -> None:
        self._answers: KeptAnswers[_Key, PipelineWork] = KeptAnswers(engine, memory, clock, max_kept=MAX_KEPT)

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
        key = (self._answers.caller_of(call), expression, name)

        async def ask(_: Sequence[_Key], due_s: float) -> Mapping[_Key, PipelineWork]:
            return {key: await self._look(call, name, due_s)}

        known = await self._answers.known_by(due_s, self._answers.begin([key], ask), [key])
        return known.get(key, "other")

    async def _look(self, call: SearchCall, named: str, due_s: float) -> PipelineWork:
        """What the engine says that a pipeline does, '' for the default one of the indices that are searched."""
        if not named:
            path = f"/{quote(call.expression, safe=',*', errors='replace')}" if call.expression else ""
            options = "flat_settings=true&ignore_unavailable=true&allow_no_indices=true"
            request = asked_as(call, f"{path}/_settings/{DEFAULT_SETTING}?{options}")
            default = default_of(await self._answers.fetch(request, due_s, READ_OBJECT))
            if default is None:
                return "none"
            named = default
        request = asked_as(call, f"/_search/pipeline/{quote(named, safe='')}")
        pipelines = await self._answers.fetch(request, due_s, READ_OBJECT)
        if named not in pipelines:
            raise ValueError("the engine did not tell of it")
        return work_of(pipelines[named])


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


def worth_s(call: SearchCall, book: RuleBook) -> float:
    """How long a search may wait to learn what its pipeline does, if the engine is OpenSearch; 0 where it need not.

    It matters where a search asks OpenSearch to rerank, and where a rule takes any first stage and one is named. Others
    are not looked at: without `ext.rerank` a processor that reranks by a model refuses the search.
    """
    asks, named = asks_to_rerank(call), named_pipeline(call) is not None
    bound = book.find(call.expression) if asks or named else None
    if not isinstance(bound, BoundRule) or not (asks or bound.rule.first_stage == "any"):
        return 0.0
    return bound.deadline_s * DOUBT_SHARE
