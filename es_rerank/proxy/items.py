"""The searches of an `_msearch`: what is decided of each, what its window is worth, what its answer is.

Asks and waits for nothing: multi.py does that, for all of them at once. What takes a moment for one search takes long
for thousands, so each step is a function of all of them, to be run beside the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.events.searched import searched_of
from es_rerank.proxy.http.own import caller_kind, error_body
from es_rerank.proxy.scoring.ask import ScoreRequest
from es_rerank.proxy.search.decide import Relay, Rerank, decide, with_types
from es_rerank.proxy.search.many import joined, read_responses
from es_rerank.proxy.search.render import BLOCK, render_answer, turned
from es_rerank.proxy.search.search_pipeline import taken_over
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.proxy.steps import (
    can_read,
    failed,
    opened,
    relayed,
    scored,
    settle,
    skipped,
    unranked,
    verdict_of,
    why_unfit,
    why_useless,
    window_of,
)
from es_rerank.rawjson import open_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.scoring.ask import WindowScores
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.render import Verdict
    from es_rerank.proxy.search.status import SearchStatus
    from es_rerank.proxy.search.window import EngineAnswer, WindowPlan, WindowShape
    from es_rerank.rawjson import RawObject
    from es_rerank.reasons import Reason
    from es_rerank.records import Reply, Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One search, decided. `plan` is None where it is not reranked; `status` says why, or why not if nothing comes."""

    call: SearchCall
    decision: Rerank | Relay
    status: SearchStatus
    plan: WindowPlan | None = None
    searched: Searched | None = None


Entry = Item | CallerError
"""A search, or what it asked of us that isn't allowed: such a search is not sent to the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The engine's answer for all windows. `answers` and `found` are parallel to the searches that were sent.

    `found` is an answer opened: None for a search that is not reranked, and for an answer that has no hits.
    """

    reply: Reply
    body_bytes: int
    top: RawObject
    answers: Sequence[msgspec.Raw]
    found: Sequence[EngineAnswer | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A window that is judged: its texts, and the request for their scores, which another window may have too."""

    decision: Rerank
    found: EngineAnswer
    read: Texts
    request: ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A window's scores, its new order, and what became of it."""

    scores: WindowScores
    verdict: Verdict
    status: SearchStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A search's answer, as members or as raw JSON, and what became of it."""

    item: Item
    answer: Any
    status: SearchStatus
    searched: Searched | None


def decide_items(
    calls: Sequence[SearchCall], book: RuleBook, parts: Parts, known: Sequence[Mapping[str, bool]]
) -> list[Entry]:
    """What is done with each search, whatever the others are.

    `known`, parallel to the calls, is what is known of the fields that each names.
    """
    return [_decide_item(call, book, parts, is_text) for call, is_text in zip(calls, known, strict=True)]


def _decide_item(call: SearchCall, book: RuleBook, parts: Parts, is_text: Mapping[str, bool]) -> Entry:
    try:
        asked, call = opened(call, book, parts.points)
        decision = decide(call, asked, book, is_text)
    except CallerError as error:
        return error
    if isinstance(decision, Relay):
        return Item(call=call, decision=decision, status=relayed(decision))
    call = taken_over(call)
    searched = None
    if parts.events is not None:
        searched = searched_of(call, asked, decision, rules_version=book.version, new_id=uuid4().hex)
    plan = plan_window(call, decision)
    if parts.large_windows.knows(plan.shape, parts.clock.monotonic_s()):
        return Item(call=call, decision=decision, status=failed(decision, "answer_too_large"), searched=searched)
    broken = failed(decision, "internal_error")
    return Item(call=call, decision=decision, status=broken, plan=plan, searched=searched)


def in_doubt_of(item: Item) -> tuple[str, ...]:
    """The fields whose types may change the question of a search that is reranked."""
    return item.decision.in_doubt if item.plan is not None and isinstance(item.decision, Rerank) else ()


def with_known(items: Sequence[Item], known: Sequence[Mapping[str, bool]]) -> list[Item]:
    """The items, once this is known, parallel to them, of the fields that their searches name."""
    return [_with_known(item, is_text) for item, is_text in zip(items, known, strict=True)]


def _with_known(item: Item, is_text: Mapping[str, bool]) -> Item:
    if not in_doubt_of(item) or not isinstance(item.decision, Rerank):
        return item
    decision = with_types(item.decision, is_text)
    searched = None if item.searched is None else replace(item.searched, decision=decision)
    return replace(item, decision=decision, searched=searched)


def sent_of(entries: Sequence[Entry]) -> list[Item]:
    """The searches that the engine is asked for, in order."""
    return [entry for entry in entries if isinstance(entry, Item)]


def ask_windows(items: Sequence[Item]) -> Request:
    """The request for all windows, and for the searches that have none."""
    return joined([plan_plain(item.call) if item.plan is None else item.plan.request for item in items])


def ask_plainly(items: Sequence[Item]) -> Request:
    """The request for the client's own searches, sent so that we can read the answers and write into them."""
    return joined([plan_plain(item.call) for item in items])


def shape_of(items: Sequence[Item]) -> WindowShape:
    """What makes the answer for all windows large."""
    shapes = [item.plan.shape for item in items if item.plan is not None]
    return ",".join(shape[0] for shape in shapes), sum(shape[1] for shape in shapes), None


def given_up(item: Item, reason: Reason) -> Item:
    """The item as one that is not reranked; for this reason, if it was to be."""
    if item.plan is None or not isinstance(item.decision, Rerank):
        return item
    return replace(item, plan=None, status=failed(item.decision, reason))


def open_windows(reply: Reply, body: bytes, items: Sequence[Item]) -> Windows | None:
    """The answer opened as deep as it is read; None if it does not have one answer for each search."""
    responses = open_responses(body, len(items))
    if responses is None:
        return None
    top, answers = responses
    found = [
        None if item.plan is None else read_answer(bytes(answer)) for item, answer in zip(items, answers, strict=True)
    ]
    return Windows(reply=reply, body_bytes=len(body), top=top, answers=answers, found=found)


def open_responses(body: bytes, count: int) -> tuple[RawObject, list[msgspec.Raw]] | None:
    """See `read_responses`; None too where there are more answers than `count`, or fewer."""
    responses = read_responses(body)
    return responses if responses is not None and len(responses[1]) == count else None


def useless_of(items: Sequence[Item], windows: Windows) -> list[SearchStatus | None]:
    """The status of each search whose window can't stand for the client's own search, None where it can."""
    return [
        _why_useless(item, answer, found)
        for item, answer, found in zip(items, windows.answers, windows.found, strict=True)
    ]


def _why_useless(item: Item, answer: msgspec.Raw, found: EngineAnswer | None) -> SearchStatus | None:
    if item.plan is None or not isinstance(item.decision, Rerank):
        return None
    if found is None:
        refused = "error" in (open_object(bytes(answer)) or {})
        return failed(item.decision, "engine_refused" if refused else "unreadable_answer")
    why = why_useless(found, item.decision)
    return None if why is None else skipped(why, item.decision)


def choose(items: Sequence[Item], windows: Windows, useless: Sequence[SearchStatus | None]) -> dict[int, Chosen]:
    """By place: the windows that are judged."""
    chosen: dict[int, Chosen] = {}
    for place, (item, found) in enumerate(zip(items, windows.found, strict=True)):
        decision, plan = item.decision, item.plan
        if found is None or plan is None or not isinstance(decision, Rerank) or useless[place] is not None:
            continue
        if why_unfit(found, decision) is not None:
            continue
        read = read_texts(found, decision)
        if can_read(decision, read):
            request = ScoreRequest(scoring=decision.scoring, texts=read.texts)
            chosen[place] = Chosen(decision=decision, found=found, read=read, request=request)
    return chosen


def requests_of(chosen: Mapping[int, Chosen]) -> list[ScoreRequest]:
    """What is asked of the scorers, each once: searches for different facets of one question have equal windows."""
    return [*dict.fromkeys(one.request for one in chosen.values())]


def judged_of(
    chosen: Mapping[int, Chosen], requests: Sequence[ScoreRequest], judged: Sequence[WindowScores]
) -> dict[int, Judged]:
    """By place: what came of the windows. `judged` is parallel to the requests."""
    scores_of = dict(zip(requests, judged, strict=True))
    found: dict[int, Judged] = {}
    for place, one in chosen.items():
        scores = scores_of[one.request]
        window = window_of(one.found, scores, one.decision, one.read.texts)
        verdict = verdict_of(window, scores, one.decision)
        status = scored(one.decision, scores, one.read.missing_fields)
        found[place] = Judged(scores=scores, verdict=verdict, status=status)
    return found


def answered_of(
    items: Sequence[Item],
    windows: Windows,
    useless: Sequence[SearchStatus | None],
    own: Sequence[msgspec.Raw],
    judged: Mapping[int, Judged],
) -> list[Answered]:
    """The answer to each search, parallel to the items. `own` are, in order, those for which a window was useless."""
    again = iter(own)
    answered: list[Answered] = []
    for place, item in enumerate(items):
        found, why = windows.found[place], useless[place]
        if why is not None:
            answered.append(_passed(item, next(again), why))
        elif found is None or item.plan is None or not isinstance(item.decision, Rerank):
            answered.append(_passed(item, windows.answers[place], item.status))
        else:
            answered.append(_ranked(item, item.plan, item.decision, found, judged.get(place)))
    return answered


def _ranked(item: Item, plan: WindowPlan, decision: Rerank, found: EngineAnswer, judged: Judged | None) -> Answered:
    """The client's page out of the window: in its new order, or in the engine's where the window was not judged."""
    if judged is None:
        verdict = unranked(found, decision)
        decision = turned(found, decision, verdict)
        status = skipped(why_unfit(found, decision) or "language", decision)
        members = render_answer(found, plan, replace(decision, include=frozenset()), verdict)
    else:
        verdict, status = judged.verdict, judged.status
        decision = turned(found, decision, verdict)
        members = render_answer(found, plan, decision, verdict)
    searched = None if item.searched is None else item.searched.with_hits(found, verdict, decision)
    return Answered(item=item, answer=members, status=status, searched=searched)


def passed(items: Sequence[Item], answers: Sequence[msgspec.Raw]) -> list[Answered]:
    """The searches with the engine's own answers, which are parallel to them."""
    return [_passed(item, answer, item.status) for item, answer in zip(items, answers, strict=True)]


def _passed(item: Item, answer: msgspec.Raw, status: SearchStatus) -> Answered:
    if status.status == "failed":
        status = settle(status, _http_status(answer))
    return Answered(item=item, answer=answer, status=status, searched=item.searched)


def _http_status(answer: msgspec.Raw) -> int:
    """The HTTP status that the engine gives one of many searches."""
    members = open_object(bytes(answer)) or {}
    if "error" not in members:
        return 200
    try:
        return msgspec.json.decode(members.get("status", b"500"), type=int)
    except ValueError:
        return 500


def in_order(entries: Sequence[Entry], answered: Sequence[Answered]) -> list[Answered | CallerError]:
    """The answers in the order of the request, with our refusals in their places."""
    given = iter(answered)
    return [entry if isinstance(entry, CallerError) else next(given) for entry in entries]


def with_answers(
    top: RawObject, answers: Sequence[Answered | CallerError], statuses: Sequence[SearchStatus]
) -> dict[str, Any]:
    """The members of the engine's answer with these answers in it. `statuses` are those of the searches, in order."""
    given = iter(statuses)
    responses = [
        msgspec.Raw(error_body(one.status, one.kind or caller_kind(one.status), str(one)))
        if isinstance(one, CallerError)
        else _with_status(one, next(given))
        for one in answers
    ]
    return {**top, "responses": responses}


def _with_status(one: Answered, status: SearchStatus) -> Any:
    """The answer, and the status of its search as its last member if that was asked for and the engine did not refuse.

    What is not written into keeps its bytes.
    """
    if "status" not in one.item.decision.include:
        return one.answer
    members = one.answer if isinstance(one.answer, dict) else open_object(bytes(one.answer))
    return one.answer if members is None or "error" in members else {**members, BLOCK: status.block()}
