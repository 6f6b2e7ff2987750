"""The path of an async search: its submit goes to the engine as it is, and the answer that completes it is reranked.

That is the answer to the submit, or to a later request for the result. Its window is fetched by a plain search, which
goes the path of all searches (pipeline.py); only the hits of the engine's answer are replaced.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.proxy.events.searched import searched_of
from es_rerank.proxy.http.coding import UnreadableBodyError
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.outcome import OneSearch, Outcome
from es_rerank.proxy.pipeline import Trace, decided, rerank
from es_rerank.proxy.search.async_answer import read_async, same_hits, with_status
from es_rerank.proxy.search.async_search import asked_by, window_call
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.carrier import asked_readably
from es_rerank.proxy.search.control import HEADER, take_controls
from es_rerank.proxy.search.decide import Relay, decide, foreign_format
from es_rerank.proxy.search.endpoint import endpoint_of
from es_rerank.proxy.search.search_pipeline import taken_over
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.write import end_body, start_body, writing_cost
from es_rerank.proxy.steps import (
    READING_COST,
    failed,
    fetch,
    holds,
    reading_cost,
    relayed,
    settle,
    skipped,
    why_lost,
    with_warning,
    written,
)
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT, open_object
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.rules.book import BoundRule
from es_rerank.upstream import AnswerTooLargeError, NoRoomError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.memory import Share
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.search.async_answer import AsyncAnswer
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.reasons import Reason
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """What an answer about one async search is made from.

    `call` is the search, under the headers of the caller who asks now. `shown` is the request that is answered, which
    says how: the submit, or the request for a result. `searched` is None where the search leaves no event.
    """

    call: SearchCall
    shown: SearchCall
    decision: Rerank | Relay
    searched: Searched | None = None
    parts: Parts
    share: Share
    laps: Laps

    def finished(self, status: SearchStatus) -> SearchStatus:
        """The status with what is known last."""
        query_id = None if self.searched is None else self.searched.names.query_id
        return replace(status, took_ms=self.laps.took_ms(), query_id=query_id)

    def search(self, status: SearchStatus) -> OneSearch:
        """What became of the search."""
        return OneSearch(expression=self.call.expression, status=status, searched=self.searched)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """The engine's answer, its body without its coding, and what was read in it; None where it is of another shape."""

    reply: Reply
    body: bytes
    answer: AsyncAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """What came of reranking. `members` is the answer in its new order, None where the engine's order stays."""

    status: SearchStatus
    searched: Searched | None
    members: dict[str, Any] | None = None


async def answer_submitted(request: Request, expression: str, book: RuleBook, parts: Parts, share: Share) -> Outcome:
    """The outcome of a request that submits an async search.

    A search that runs on has no outcome yet: it is told at the answer that completes it. Raises as
    `pipeline.answer` does.
    """
    laps = Laps(parts.clock)
    plain = replace(request, headers=without_headers(request.headers, HEADER))
    try:
        max_bytes = parts.limits.max_request_bytes
        call = await compute(reading_cost(request), read_call, request, expression, max_bytes=max_bytes)
        has_room = holds(share, call.body, request.body)
        asked, call = await compute(READING_COST * len(call.body), take_controls, call)
        plain = call.carrier.request
        if not has_room:
            status = SearchStatus(status="failed", reason="memory_full", took_ms=laps.took_ms())
            return Outcome(searches=(OneSearch(expression=expression, status=status),), forward=plain)
        asking = await _asking(call, call, asked, book, parts, share, laps)
        return await _answer_submit(asking, asked)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the search is answered
        LOG.exception("an async search broke; it goes through")
        status = SearchStatus(status="failed", reason="internal_error", took_ms=laps.took_ms())
        return Outcome(searches=(OneSearch(expression=expression, status=status),), forward=plain)


async def answer_result(request: Request, _: str, book: RuleBook, parts: Parts, share: Share) -> Outcome:
    """The outcome of a request for the result of an async search.

    It passes where we don't know what the search asked, and where the search runs on; then there is none to tell of.
    Raises UpstreamError if no engine host answers, and CallerError as `pipeline.answer` does.
    """
    laps = Laps(parts.clock)
    endpoint = endpoint_of(request)
    search_id = "" if endpoint is None else endpoint.search_id
    search = parts.async_searches.find(search_id, parts.clock.monotonic_s())
    max_bytes = parts.limits.max_request_bytes
    asked, shown = await compute(reading_cost(request), _read_poll, request, max_bytes)
    plain = shown.carrier.request
    if search is None:
        return Outcome(searches=(), forward=plain)
    try:
        call = await compute(READING_COST * len(search.body), search.as_call, plain.headers)
        asking = await _asking(call, shown, {**search.asked, **asked}, book, parts, share, laps)
        return await _answer_poll(asking, search_id)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the search is answered
        LOG.exception("the result of an async search broke; it goes through")
        return Outcome(searches=(), forward=plain)


def _read_poll(request: Request, max_bytes: int) -> tuple[dict[str, Any], SearchCall]:
    """What a request for a result asks of us, and the request without that. Raises CallerError."""
    return take_controls(read_call(request, "", max_bytes=max_bytes))


async def _asking(  # noqa: PLR0917
    call: SearchCall,
    shown: SearchCall,
    asked: dict[str, Any],
    book: RuleBook,
    parts: Parts,
    share: Share,
    laps: Laps,
) -> _Asking:
    """With what is decided. Raises CallerError where what is asked isn't allowed."""
    bound = book.find(call.expression)
    decision: Rerank | Relay
    if isinstance(bound, BoundRule) and not bound.rule.async_search:
        first = await compute(READING_COST * len(call.body), decide, call, asked, book)
        decision = Relay(reason="async_search", rule=bound.rule.name, include=first.include)
    else:
        call, decision = await decided(call, asked, book, parts)
    asking = _Asking(call=call, shown=shown, decision=decision, parts=parts, share=share, laps=laps)
    if parts.events is None or isinstance(decision, Relay):
        return asking
    searched = searched_of(call, asked, decision, rules_version=book.version, new_id=uuid4().hex)
    return replace(asking, searched=searched)


async def _answer_submit(asking: _Asking, asked: Mapping[str, Any]) -> Outcome:
    decision, parts = asking.decision, asking.parts
    plain = asking.shown.carrier.request
    if isinstance(decision, Relay):
        status = relayed(decision)
        if "status" not in decision.include or not asking.call.held or decision.reason == "format":
            return Outcome(searches=(asking.search(asking.finished(status)),), forward=plain)
    answered = await _ask_engine(asking)
    if isinstance(answered, SearchStatus):
        return Outcome(searches=(asking.search(asking.finished(answered)),), forward=plain)
    answer = answered.answer
    if isinstance(decision, Relay):
        return await _as_it_is(answered, relayed(decision), asking)
    if answer is not None and answered.reply.status == 200:
        search = asked_by(asking.call, asked)
        parts.async_searches.remember(answer.search_id, search, parts.clock.monotonic_s())
        if answer.running and answer.search_id:
            return await _as_it_is(answered, None, asking)
        parts.async_searches.claim(answer.search_id)
    return await _complete(answered, decision, asking)


async def _answer_poll(asking: _Asking, search_id: str) -> Outcome:
    answered = await _ask_engine(asking)
    if not isinstance(answered, SearchStatus) and (answered.answer is None or answered.answer.running):
        # What is not found is perhaps another caller's: that tells nothing of how the search ended.
        return await _as_it_is(answered, None, asking)
    searches = asking.parts.async_searches
    if not searches.claim(search_id):  # it is told already, so nothing is told of it now, nor has it another event
        return replace(await _answer_end(answered, replace(asking, searched=None)), searches=())
    try:
        return await _answer_end(answered, asking)
    except BaseException:  # the caller left, and the next one tells
        searches.unclaim(search_id)
        raise


async def _answer_end(answered: _Answered | SearchStatus, asking: _Asking) -> Outcome:
    """The outcome of a request for a result, once that is there, or can't be held."""
    decision = asking.decision
    if isinstance(answered, SearchStatus):
        search = asking.search(asking.finished(answered))
        return Outcome(searches=(search,), forward=asking.shown.carrier.request)
    if isinstance(decision, Relay):
        return await _as_it_is(answered, relayed(decision), asking)
    return await _complete(answered, decision, asking)


async def _ask_engine(asking: _Asking) -> _Answered | SearchStatus:
    """The engine's answer, held, or why it can't be held. Raises UpstreamError if none came."""
    shown = asking.shown
    request = shown.carrier.request
    if foreign_format(shown) is None:  # else nothing can be written into the answer, so it comes as it is
        request = asked_readably(request, drop=set(), add={}, filtered=bool(shown.filter_path))
    try:
        reply, body = await fetch(request, asking.parts, asking.share)
    except (AnswerTooLargeError, NoRoomError, UnreadableBodyError) as error:
        LOG.warning("the answer about an async search is of no use: %s", error)
        reason = why_lost(error)
        if isinstance(asking.decision, Relay):
            return relayed(asking.decision)
        return failed(asking.decision, reason)
    asking.laps.lap("engine")
    return _Answered(reply=reply, body=body, answer=await compute(len(body), read_async, body))


async def _complete(answered: _Answered, decision: Rerank, asking: _Asking) -> Outcome:
    """The answer about a search that has ended: with its hits reranked, or as it is."""
    answer = answered.answer
    if answered.reply.status != 200:
        status = settle(failed(decision, "engine_refused"), answered.reply.status)
        return await _as_it_is(answered, status, asking)
    if answer is None:
        return await _as_it_is(answered, failed(decision, "unreadable_answer"), asking)
    if not answer.complete:
        return await _as_it_is(answered, skipped("partial_answer", decision), asking)
    if answer.found is None:
        return await _as_it_is(answered, failed(decision, "unreadable_answer"), asking)
    ranked = await _ranked(answer, len(answered.body), decision, asking)
    asking = replace(asking, searched=ranked.searched)
    if ranked.members is None:
        return await _as_it_is(answered, ranked.status, asking)
    return await _write(answered, ranked.members, ranked.status, asking)


async def _ranked(answer: AsyncAnswer, cost: int, decision: Rerank, asking: _Asking) -> _Ranked:
    """The client's page of the ranked window in the place of the engine's own, if it comes by the deadline."""
    parts = asking.parts
    deadline = Deadline(parts.clock, parts.clock.monotonic_s() + decision.deadline_s)
    trace = Trace()
    # The status is ours to write, at another place.
    unsaid = replace(decision, include=decision.include - {"status"})
    try:
        searched = taken_over(asking.call)
        call = await compute(cost, partial(window_call, filtered=bool(asking.shown.filter_path)), searched)
        async with deadline.limit():
            outcome = await rerank(call, unsaid, asking.searched, parts, asking.share, trace)
        status = replace(outcome.status, took_ms=_together(asking.laps.took_ms(), outcome.status.took_ms))
        if outcome.window is None or outcome.reply is None:
            return _Ranked(status=status, searched=outcome.searched)
        members = await compute(cost, _with_page, answer, outcome.reply.body, trace)
        if members is None:
            return _Ranked(status=failed(decision, "index_changed"), searched=asking.searched)
        return _Ranked(status=status, searched=outcome.searched, members=members)
    except TimeoutError:
        reason: Reason = "deadline"
    except UpstreamError as error:
        LOG.warning("the window of an async search is lost: %s", error)
        reason = why_lost(error)
    except Exception:
        LOG.exception("reranking an async search broke; it is answered in the engine's order")
        reason = "internal_error"
    return _Ranked(status=failed(decision, reason), searched=asking.searched)


def _with_page(answer: AsyncAnswer, body: bytes, trace: Trace) -> dict[str, Any] | None:
    """The answer with the hits of a plain search's answer; None where they can't take the place of its own."""
    hits_object = RAW_OBJECT.decode(RAW_OBJECT.decode(body)["hits"])
    hits = RAW_LIST.decode(hits_object["hits"])
    if answer.found is None or trace.found is None or not same_hits(answer.found, trace.found.ids, hits):
        return None
    return answer.with_hits(hits_object)


def _together(all_ms: Mapping[str, float], window_ms: Mapping[str, float]) -> dict[str, float]:
    """The times of the steps of one search, as part of those of the whole request."""
    return {**window_ms, "engine": round(all_ms["engine"] + window_ms.get("engine", 0.0), 1), "total": all_ms["total"]}


async def _as_it_is(answered: _Answered, status: SearchStatus | None, asking: _Asking) -> Outcome:
    """The engine's answer in its own order; `status` is None for a search that runs on."""
    if status is not None and not status.took_ms:
        status = asking.finished(status)
    written = status is not None and "status" in asking.decision.include and answered.reply.status == 200
    if written or asking.shown.filter_path:
        members = await compute(len(answered.body), open_object, answered.body)
        if members is not None:
            return await _write(answered, members, status, asking)
    headers = with_warning(answered.reply.headers, None if status is None else status.warning())
    searches = () if status is None else (asking.search(status),)
    return Outcome(searches=searches, reply=replace(answered.reply, headers=headers))


async def _write(
    answered: _Answered, members: Mapping[str, Any], status: SearchStatus | None, asking: _Asking
) -> Outcome:
    """The answer with these members, the status at the end of the search answer in it, in the engine's coding."""
    engine = answered.reply
    if status is not None and "status" in asking.decision.include and engine.status == 200:
        members = await compute(len(answered.body), with_status, members, status.block())
    coding = first_header(engine.headers, b"content-encoding")
    cost = writing_cost(len(answered.body), asking.shown, coding)
    body = end_body(await compute(cost, start_body, members, asking.shown, coding))
    warning = None if status is None else status.warning()
    searches = () if status is None else (asking.search(status),)
    return Outcome(searches=searches, reply=written(engine, body, warning))
