"""The steps that one search and many at once share: ask the engine, keep the deadline, judge a window's worth, rank it.

What becomes of a search when one of them fails is decided by who takes the steps: pipeline.py and multi.py.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.rank import Window, rank
from es_rerank.judgment import Judgment
from es_rerank.language import may_be_in
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body, inflated_bytes
from es_rerank.proxy.offload import compute
from es_rerank.proxy.search.control import take_controls
from es_rerank.proxy.search.decide import Rerank
from es_rerank.proxy.search.render import Verdict, page_of, turned
from es_rerank.proxy.search.similarity import relevance_of
from es_rerank.proxy.search.split import split_off
from es_rerank.proxy.search.status import SearchStatus, outcome_of
from es_rerank.proxy.search.write import writing_cost
from es_rerank.proxy.search_pipelines import worth_s
from es_rerank.records import LongBody, Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, NoRoomError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from es_rerank.clock import Deadline
    from es_rerank.memory import Share
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.points import Points
    from es_rerank.proxy.scoring.ask import ScoreRequest, WindowScores
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Relay
    from es_rerank.proxy.search.window import EngineAnswer
    from es_rerank.reasons import Reason
    from es_rerank.records import Headers, Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import Texts

LOG = logging.getLogger(__name__)
# A request is read into Python's own objects, which takes so much longer than opening an answer as long.
READING_COST = 4
# To divide a text into chunks and to compare them, over opening an answer as long.
CHUNKING_COST = 50
# No filter makes writing an answer take much longer than this times opening it.
MOST_WRITING_COST = 10
# How long a search waits at most for the types of its fields, or to learn what its pipeline does.
MOST_WAIT_S = 0.5
Useful = TypeVar("Useful")
PassedOn = TypeVar("PassedOn")
NO_TEXT = Judgment(rank_score=0.0)


async def fetch(
    request: Request, parts: Parts, share: Share, *, due_s: float | None = None, new_connection: bool = False
) -> tuple[Reply, bytes]:
    """The engine's answer, and its body without its coding, both held by `share`.

    Raises UpstreamError (AnswerTooLargeError, NoRoomError among them) and UnreadableBodyError.
    """
    max_bytes = parts.limits.max_answer_bytes
    reply = await parts.engine.fetch(
        request, max_bytes=max_bytes, hold=share.take, due_s=due_s, new_connection=new_connection
    )
    coding = first_header(reply.headers, b"content-encoding")
    cost = min(inflated_bytes(reply.body, coding), max_bytes)
    body = await compute(cost, decode_body, reply.body, coding, max_bytes=max_bytes)
    if not holds(share, body, reply.body):
        raise NoRoomError("the engine's answer can't be inflated now: limits.max_held_bytes are held")
    return reply, body


def holds(share: Share, read: bytes, came: object) -> bool:
    """Whether there is room for what was read, beside what came: a body that was compressed is there twice."""
    return read is came or share.take(len(read))


async def useful_by(
    deadline: Deadline,
    fetching: asyncio.Task[Useful | SearchStatus],
    pass_on: Callable[[], Coroutine[Any, Any, PassedOn]],
) -> Useful | SearchStatus | PassedOn:
    """What is fetched; or a status that says why that is of no use; or what passing on the client's own request gave.

    At the deadline, what is being fetched is not given up: the client's own request is passed on beside it, and the
    first of the two that is answered well counts. So a window that takes much longer than the search costs no more than
    the deadline, and where the whole engine is slow, scores that are in the cache still count. Raises UpstreamError if
    no answer came. Ends both.
    """
    try:
        async with deadline.limit():
            return await asyncio.shield(fetching)
    except TimeoutError:
        own = asyncio.create_task(pass_on())
        try:
            return await _first_useful(fetching, own)
        finally:
            drop(own)
    finally:
        drop(fetching)


async def _first_useful(
    fetching: asyncio.Task[Useful | SearchStatus], own: asyncio.Task[PassedOn]
) -> Useful | PassedOn:
    """The window if it comes first and is of use, else the client's own search; if that fails, what is left."""
    await asyncio.wait({fetching, own}, return_when=asyncio.FIRST_COMPLETED)
    if fetching.done() and fetching.exception() is None and not isinstance(window := fetching.result(), SearchStatus):
        return window
    try:
        return await own
    except UpstreamError:
        window = await fetching
        if not isinstance(window, SearchStatus):
            return window
        raise


def drop(task: asyncio.Task[Any]) -> None:
    """Cancel a task whose result nobody needs any more, if it still runs."""
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def why_lost(error: Exception) -> Reason:
    """Why the answer for a window is of no use, from what `fetch` raised."""
    if isinstance(error, AnswerTooLargeError):
        return "answer_too_large"
    if isinstance(error, NoRoomError):
        return "memory_full"
    return "unreadable_answer" if isinstance(error, UnreadableBodyError) else "window_lost"


def _lacks_page(found: EngineAnswer, decision: Rerank) -> bool:
    """Whether a window may lack what the client's own search finds.

    A shard may have failed on our window alone. An answer that is incomplete otherwise serves if its page is full.
    """
    return found.shards_failed or not (found.complete or len(found.hits) >= decision.page.end)


def why_useless(found: EngineAnswer, decision: Rerank) -> Reason | None:
    """Why the client's own search has to be sent although a window came, or None."""
    if _lacks_page(found, decision):
        return "partial_answer"
    cursor, scores = decision.cursor, found.scores[: decision.window]
    return "past_window" if cursor is not None and (not scores or cursor.is_behind(min(scores))) else None


def why_unfit(found: EngineAnswer, decision: Rerank) -> Reason | None:
    """Why an answer that has the client's page is not reranked, or None."""
    if not found.complete:
        return "partial_answer"
    return "system_index" if decision.may_reach_system and found.has_system_hits else None


def can_read(decision: Rerank, read: Texts) -> bool:
    """Whether the scorer can read the window. Its first hits decide, so that all pages of a search agree.

    A window without any text is left to scoring, which says so.
    """
    language = decision.language
    return language is None or not any(read.texts) or may_be_in(language, decision.scoring.question, read.texts)


def opened(call: SearchCall, book: RuleBook, points: Points) -> tuple[dict[str, Any], SearchCall]:
    """What a search asks of us, unchecked, and the search as the engine may see it.

    It knows the indices of the point in time that it names, and has no reranker of ours in it. Raises CallerError.
    """
    asked, call = take_controls(call)
    return asked, split_off(points.located(call, asked, book), book)


def texts_cost(body_bytes: int, decisions: Iterable[Rerank | Relay]) -> int:
    """How much there is to compute for reading texts out of an answer: to divide them into chunks takes longer."""
    similar = [one.similarity for one in decisions if isinstance(one, Rerank)]
    chunked = any(one is not None and one.chunking is not None for one in similar)
    return body_bytes * (CHUNKING_COST if chunked else 1)


async def types_of(call: SearchCall, fields: Sequence[str], parts: Parts, due_s: float) -> Mapping[str, bool]:
    """By field, whether it is a text, as far as that is known at this instant at the latest."""
    types = parts.field_types
    return {} if types is None else await types.find(call, fields, due_s)


async def with_pipelines(calls: Sequence[SearchCall], book: RuleBook, parts: Parts, cost: int) -> list[SearchCall]:
    """The searches, with what their search pipelines do where that may matter. `cost` is that of looking at them."""
    pipelines = parts.search_pipelines
    if pipelines is None or parts.engine.product:  # Elasticsearch has none
        return [*calls]
    worth = await compute(cost, _worth, calls, book)
    now_s = parts.clock.monotonic_s()
    asked = [pipelines.find(calls[place], now_s + min(MOST_WAIT_S, wait_s)) for place, wait_s in worth.items()]
    works = dict(zip(worth, await asyncio.gather(*asked), strict=True))
    return [replace(call, pipeline=works.get(place)) for place, call in enumerate(calls)] if works else [*calls]


def _worth(calls: Sequence[SearchCall], book: RuleBook) -> dict[int, float]:
    """By place, how long a search may wait for its pipeline; those that need not are left out."""
    waits = {place: worth_s(call, book) for place, call in enumerate(calls)}
    return {place: wait_s for place, wait_s in waits.items() if wait_s}


def note_absent_fields(decision: Rerank, read: Texts, parts: Parts) -> None:
    """Warn, once, of a rule's field that no hit of many searches has."""
    if decision.similarity is not None:
        return
    fields = decision.text.names
    hits = len(read.texts)
    for field in parts.absent_fields.note(decision.rule, fields, hits=hits, missing=read.missing_fields):
        LOG.warning("rule %r: no hit of the last searches has the field %r in its _source", decision.rule, field)


def window_of(found: EngineAnswer, scores: WindowScores, decision: Rerank, texts: Sequence[str | None]) -> Window:
    """What is ranked: the hits that were judged, with both of their scores. `texts` are theirs, None for no text.

    Where relevance alone counts, hits without a text are the least relevant, if any hit has one. A hit whose text was
    not scored stays a gap.
    """
    judgments = scores.judgments
    if decision.similarity is not None and scores.scored:
        judgments = tuple(
            [NO_TEXT if text is None else judgment for text, judgment in zip(texts, judgments, strict=True)]
        )
    size = len(judgments)
    return Window(ids=found.ids[:size], engine_scores=found.scores[:size], judgments=judgments)


def verdict_of(window: Window, scores: WindowScores, decision: Rerank) -> Verdict:
    """The window's new order, without the hits that are not relevant enough for a `text_similarity_reranker`."""
    ranked = rank(window.engine_scores, window.judgments, decision.recipe)
    least = None if decision.similarity is None else decision.similarity.min_score
    dropped = frozenset(
        index
        for index, score in enumerate(ranked.rank_scores)
        if least is not None and score is not None and relevance_of(score) < least
    )
    return Verdict(ranked=ranked, judgments=window.judgments, from_cache=scores.from_cache, dropped=dropped)


def unranked(found: EngineAnswer, decision: Rerank) -> Verdict:
    """The window in the engine's order, with nothing judged."""
    scores = found.scores[: decision.window]
    gaps = (None,) * len(scores)
    return Verdict(ranked=rank(scores, gaps, decision.recipe), judgments=gaps)


async def with_reasoning(  # noqa: PLR0917
    verdict: Verdict,
    found: EngineAnswer,
    decision: Rerank,
    request: ScoreRequest,
    scores: WindowScores,
    deadline: Deadline,
    parts: Parts,
) -> Verdict:
    """With what was thought about the hits of the page."""
    page = turned(found, decision, verdict).page
    places = [index for _, index in page_of(found, page, verdict)]
    shown = [index for index in places if index < len(request.texts)]
    return replace(verdict, reasoning=await parts.scores.find_reasoning(shown, request, scores, deadline))


def writing_s(read_s: float, call: SearchCall, engine: Reply) -> float:
    """About how long the answer takes to write, if opening it took `read_s`: so much sooner the wait for scores ends.

    A long answer takes longer than the margin that is always kept, and everything does on a busy machine.
    """
    return read_s * min(MOST_WRITING_COST, writing_cost(1, call, first_header(engine.headers, b"content-encoding")))


def reading_cost(request: Request) -> int:
    """How much there is to compute for reading a request, 0 where its body is not held."""
    body = request.body if isinstance(request.body, bytes) else b""
    return READING_COST * (len(body) + inflated_bytes(body, request.header(b"content-encoding")))


def scored(decision: Rerank, scores: WindowScores, missing_fields: Mapping[str, int]) -> SearchStatus:
    """What became of a window."""
    size = len(scores.judgments)
    # A hit without text can't be scored. If no hit of a window has text, the rule probably names the wrong fields.
    expected = size - scores.missing_text or size
    outcome, reason = outcome_of(window=expected, scored=scores.scored, reason=scores.reason)
    return SearchStatus(
        status=outcome,
        reason=reason,
        rule=decision.rule,
        scorer=decision.scorer,
        window=size,
        scored=scores.scored,
        cached=scores.cached,
        missing_text=scores.missing_text,
        missing_fields=missing_fields,
        mode=decision.mode,
        first_stage=decision.first_stage,
        question=decision.told_question,
        cut=scores.cut,
        low_mass=scores.low_mass,
        truncated=scores.truncated,
    )


def relayed(relay: Relay) -> SearchStatus:
    """The status of a search that was never begun. Only where memory is full would it have been reranked."""
    outcome: Literal["failed", "skipped"] = "failed" if relay.reason == "memory_full" else "skipped"
    return SearchStatus(status=outcome, reason=relay.reason, rule=relay.rule)


def skipped(reason: Reason, decision: Rerank) -> SearchStatus:
    """The status of a search that turned out not to be ours."""
    return SearchStatus(
        status="skipped",
        reason=reason,
        rule=decision.rule,
        first_stage=decision.first_stage,
        question=decision.told_question,
    )


def failed(decision: Rerank, reason: Reason) -> SearchStatus:
    """The status of a search that could not be reranked."""
    return SearchStatus(
        status="failed",
        reason=reason,
        rule=decision.rule,
        scorer=decision.scorer,
        first_stage=decision.first_stage,
        question=decision.told_question,
    )


def settle(status: SearchStatus, engine_status: int) -> SearchStatus:
    """The status of a search that passed on, once the engine's answer is known: its refusal is not our failure."""
    if engine_status == 200 or status.status != "failed":
        return status
    return replace(status, status="skipped", reason="engine_refused")


def with_warning(headers: Headers, warning: bytes | None) -> Headers:
    """The headers of an answer, and the Warning where reranking was partial or failed."""
    return headers if warning is None else (*headers, (b"warning", warning))


def written(engine: Reply, body: bytes, warning: bytes | None) -> Reply:
    """The engine's answer with another body, and the Warning where reranking was partial or failed."""
    headers = (*without_headers(engine.headers, b"content-length"), (b"content-length", b"%d" % len(body)))
    return Reply(status=engine.status, headers=with_warning(headers, warning), body=body)


async def read_whole(request: Request, parts: Parts, share: Share, *, no_room: CallerError) -> bytes | None:
    """A request's body as `Exchange.read_body` gave it, without its coding, held by `share`; None for no body.

    Raises CallerError: 413 for a body that is too long, as it came or once it is inflated, 400 for one that can't be
    read, and `no_room` where the memory for bodies is full.
    """
    most = parts.limits.max_request_bytes
    body = request.body
    if body is None:
        return None
    if isinstance(body, LongBody) and body.no_room:
        raise no_room
    too_long = CallerError(f"the body is longer than limits.max_request_bytes = {most}", status=413)
    if not isinstance(body, bytes):
        raise too_long
    coding = request.header(b"content-encoding")
    cost = min(inflated_bytes(body, coding), most)
    try:
        read = await compute(cost, decode_body, body, coding, max_bytes=most)
    except UnreadableBodyError as error:
        if error.head:
            raise too_long from None
        raise CallerError(f"the body can't be read: {error}") from None
    if not holds(share, read, body):
        raise no_room
    return read
