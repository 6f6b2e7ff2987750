"""Has the engine make searches of templates, as the caller. Nothing of them is kept for another request."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from es_rerank.errors import UpstreamError
from es_rerank.proxy.http.coding import UnreadableBodyError
from es_rerank.proxy.items import Item, decide_items
from es_rerank.proxy.offload import compute
from es_rerank.proxy.search.call import SearchCall
from es_rerank.proxy.search.control import take_controls
from es_rerank.proxy.search.decide import Relay
from es_rerank.proxy.search.question import NOTHING_KNOWN
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.template import read_rendered, rendered_call, rendering_of
from es_rerank.proxy.steps import READING_COST, drop, fetch, why_lost, with_pipelines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.memory import Share
    from es_rerank.proxy.items import Entry
    from es_rerank.proxy.laps import Laps
    from es_rerank.proxy.parts import Parts
    from es_rerank.reasons import Reason
    from es_rerank.rules.book import RuleBook

LOG = logging.getLogger(__name__)
# Of one request, at a time.
MAX_RENDERING = 8
# The template is wrong, or there is none.
REFUSED_STATUSES = (400, 404)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template under the rule with this name: its call, and what was asked of es-rerank in it, taken out."""

    call: SearchCall
    asked: Mapping[str, Any]
    rule: str | None

    def unmade(self, reason: Reason, status: Literal["failed", "skipped"] = "failed") -> SearchStatus:
        """The status of the search if it is not made."""
        return SearchStatus(status=status, reason=reason, rule=self.rule)


async def render(
    templates: Sequence[Template], due_s: float, parts: Parts, share: Share
) -> list[SearchCall | SearchStatus]:
    """Parallel to the templates: the search that the engine makes of each, or why there is none at `due_s`.

    MAX_RENDERING are asked for at a time. If no host is reached in this time, the client's own request has more of it.
    """
    turns = asyncio.Semaphore(MAX_RENDERING)
    tasks = [asyncio.create_task(_render(one, turns, due_s, parts, share)) for one in templates]
    try:
        with suppress(TimeoutError):
            async with parts.clock.limit(due_s):
                await asyncio.wait(tasks)
        return [
            task.result() if task.done() else one.unmade("deadline") for one, task in zip(templates, tasks, strict=True)
        ]
    finally:
        for task in tasks:
            drop(task)


async def _render(
    template: Template, turns: asyncio.Semaphore, due_s: float, parts: Parts, share: Share
) -> SearchCall | SearchStatus:
    async with turns:
        try:
            reply, body = await fetch(rendering_of(template.call), parts, share, due_s=due_s)
        except (UpstreamError, UnreadableBodyError) as error:
            LOG.warning("the engine's answer for a template is of no use: %s", error)
            return template.unmade(why_lost(error))
    if reply.status != 200:
        return template.unmade("engine_refused", "skipped" if reply.status in REFUSED_STATUSES else "failed")
    search = read_rendered(body)
    if search is None:
        return template.unmade("unreadable_answer")
    if len(search) > parts.limits.max_request_bytes:
        return template.unmade("body_too_large", "skipped")
    return await compute(READING_COST * len(search), rendered_call, template.call, template.asked, search)


async def render_items(  # noqa: PLR0917
    entries: list[Entry], calls: list[SearchCall], book: RuleBook, parts: Parts, share: Share, laps: Laps
) -> tuple[list[Entry], list[SearchCall]]:
    """The entries, and the calls that they were decided of, with the searches that are made of templates.

    All have the time that the one with the latest deadline has.
    """
    places = [place for place, entry in enumerate(entries) if _rendering_s(entry) is not None]
    if not places:
        return entries, calls
    due_s = laps.started_s + max(_rendering_s(entries[place]) or 0.0 for place in places)
    cost = READING_COST * sum(len(calls[place].body) for place in places)
    waiting = [(entries[place], calls[place]) for place in places]
    templates = await compute(cost, _templates_of, waiting)
    made = dict(zip(places, await render(templates, due_s, parts, share), strict=True))
    laps.lap("engine")
    searches = {place: one for place, one in made.items() if isinstance(one, SearchCall)}
    cost = READING_COST * sum(len(one.body) for one in searches.values())
    searches = dict(zip(searches, await with_pipelines([*searches.values()], book, parts, cost), strict=True))
    known = [NOTHING_KNOWN] * len(searches)
    decided = await compute(cost, decide_items, [*searches.values()], book, parts, known)
    by_place = dict(zip(searches, decided, strict=True))
    unmade = {
        place: replace(entry, status=one)
        for place, one in made.items()
        if isinstance(one, SearchStatus) and isinstance(entry := entries[place], Item)
    }
    return (
        [by_place.get(place) or unmade.get(place) or entry for place, entry in enumerate(entries)],
        [searches.get(place, call) for place, call in enumerate(calls)],
    )


def _rendering_s(entry: Entry) -> float | None:
    """How long after the request has come the search may be made; None where there is nothing to make."""
    return entry.decision.rendering_s if isinstance(entry, Item) and isinstance(entry.decision, Relay) else None


def _templates_of(waiting: Sequence[tuple[Entry, SearchCall]]) -> list[Template]:
    """The templates, out of what was decided of each, and the call as it came."""
    templates = []
    for entry, came in waiting:
        asked, call = take_controls(came)
        rule = entry.decision.rule if isinstance(entry, Item) else None
        templates.append(Template(call=call, asked=asked, rule=rule))
    return templates
