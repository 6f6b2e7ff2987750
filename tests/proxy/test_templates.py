"""Templates that the engine makes searches of, or fails to: the caller is answered all the same, by the deadline."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import UpstreamError
from es_rerank.proxy.multi import answer_many
from es_rerank.proxy.pipeline import answer, answer_one
from es_rerank.proxy.search.template import VERBATIM
from es_rerank.proxy.templates import MAX_RENDERING
from es_rerank.records import Reply, Request
from es_rerank.rules.book import make_book
from es_rerank.upstream import UnreachableError
from tests.proxy.search.calls import JSON_HEADER
from tests.proxy.test_multi import ORDER, ids, many, reasons, shown
from tests.proxy.test_pipeline import DEADLINE_S, SEARCH, SETTINGS, TEXTS, FakeEngine, Late, hits_of, parts_with, reply
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from es_rerank.proxy.outcome import Outcome, SearchOutcome
    from es_rerank.proxy.parts import Parts

RULE = SETTINGS.rules[0].model_copy(update={"templates": True})
BOOK = make_book([RULE], SETTINGS.known_scorers(), SETTINGS.limits)
CLOSED = SETTINGS.book()
TEMPLATE = {"id": "stored", "params": {"words": "x"}}
FOUND = {**hits_of(*TEXTS), "status": 200}
FILMS, OTHER = {"index": "films"}, {"index": "other"}
REFUSED = {"error": {"type": "resource_not_found_exception", "reason": "unable to find script"}, "status": 404}


def rendered(search: Any = SEARCH) -> Reply:
    """An engine's answer with what a template makes."""
    return Reply(status=200, headers=(JSON_HEADER,), body=b'{"template_output":%b}' % json.dumps(search).encode())


def asked(body: Any = TEMPLATE, *headers: tuple[bytes, bytes]) -> Request:
    """A template for films."""
    return Request(
        method="POST",
        target=b"/films/_search/template",
        headers=(JSON_HEADER, *headers),
        body=json.dumps(body).encode(),
    )


async def answered(request: Request, parts: Parts, book: Any = BOOK) -> SearchOutcome:
    """The outcome of one template, with a share of the memory that ends with it."""
    with parts.memory.share() as share:
        return await answer(request, "films", book, parts, share, template=True)


async def answered_many(request: Request, parts: Parts) -> Outcome:
    """The outcome of many."""
    with parts.memory.share() as share:
        return await answer_many(request, "", BOOK, parts, share, template=True)


async def test_the_search_of_a_template_is_reranked() -> None:
    """It is rendered, and its window is asked for by the endpoint that the client took."""
    engine = FakeEngine(rendered(), reply(200, FOUND))
    outcome = await answered(asked(), parts_with(engine))
    assert outcome.reply is not None
    assert ids(json.loads(outcome.reply.body)) == ORDER
    assert (outcome.status.status, outcome.status.rule) == ("full", "films")
    assert [request.target for request in engine.requests] == [b"/_render/template", b"/films/_search/template"]
    body = engine.requests[1].body
    assert isinstance(body, bytes)
    assert json.loads(body)["source"] == VERBATIM


@pytest.mark.parametrize(
    ("answer_of_engine", "status", "reason"),
    [
        (reply(404, REFUSED), "skipped", "engine_refused"),
        (reply(400, REFUSED), "skipped", "engine_refused"),
        (reply(403, REFUSED), "failed", "engine_refused"),
        (reply(429, REFUSED), "failed", "engine_refused"),
        (reply(200, {"odd": 1}), "failed", "unreadable_answer"),
        (rendered([]), "skipped", "unreadable_body"),
        (rendered({"query": {"match_all": {}}}), "skipped", "no_text_query"),
        (rendered({**SEARCH, "sort": "n"}), "skipped", "sort"),
        (rendered({**SEARCH, "x": "y" * (SETTINGS.limits.max_request_bytes + 1)}), "skipped", "body_too_large"),
        (UpstreamError("it broke off"), "failed", "window_lost"),
        (UnreachableError("not in this time"), "failed", "window_lost"),
    ],
)
async def test_what_is_not_reranked_goes_through_as_it_came(
    answer_of_engine: Reply | UpstreamError, status: str, reason: str
) -> None:
    """Where rendering is refused or lost, or its search is not ours, the template itself is sent, and streamed."""
    outcome = await answered(asked(), parts_with(FakeEngine(answer_of_engine)))
    assert outcome.forward == asked()
    assert (outcome.status.status, outcome.status.reason, outcome.status.rule) == (status, reason, "films")


async def test_rendering_takes_half_of_the_deadline_at_most() -> None:
    """Then the client's own request goes, and what was asked is dropped."""
    clock, engine = VirtualClock(), FakeEngine(None)
    searching = asyncio.create_task(answered(asked(), parts_with(engine, clock=clock)))
    await clock.advance(DEADLINE_S / 2 - 0.1)
    assert not searching.done()
    await clock.advance(0.2)
    outcome = await searching
    assert (outcome.forward, outcome.status.reason, engine.dropped) == (asked(), "deadline", 1)


async def test_the_deadline_counts_rendering() -> None:
    """What rendering took, the window and the scores do not have."""
    clock = VirtualClock()
    late = Late(rendered())
    engine = FakeEngine(late, None, reply(200, FOUND))
    searching = asyncio.create_task(answered(asked(), parts_with(engine, clock=clock)))
    await clock.advance(1.0)
    late.comes.set()
    await clock.advance(DEADLINE_S - 1.0 - 0.1)
    assert not searching.done()
    await clock.advance(0.2)
    outcome = await searching
    assert (outcome.status.status, outcome.status.reason) == ("failed", "deadline")
    assert engine.requests[2].body == asked().body


async def test_a_rule_that_does_not_opt_in_has_nothing_rendered() -> None:
    """A wish at the top of the request is taken out, and the status says why it passes."""
    wish = {**TEMPLATE, "ext": {"es_rerank": {"include": ["status"]}}}
    engine = FakeEngine(reply(200, FOUND))
    outcome = await answered(asked(wish), parts_with(engine), CLOSED)
    assert outcome.reply is not None
    assert json.loads(outcome.reply.body)["_es_rerank"]["reason"] == "template"
    body = engine.requests[0].body
    assert isinstance(body, bytes)
    assert json.loads(body) == TEMPLATE
    assert (
        await answered(asked(TEMPLATE, (b"es-rerank", b"off")), parts_with(FakeEngine()), CLOSED)
    ).forward == asked()


async def test_a_wish_in_the_template_does_not_pass() -> None:
    """The search that was made goes without it, by the client's endpoint."""
    wish = {**SEARCH, "ext": {"es_rerank": {"rerank": False}}}
    with (parts := parts_with(FakeEngine(rendered(wish)))).memory.share() as share:
        outcome = await answer_one(asked(), "films", BOOK, parts, share, template=True)
    assert outcome.forward is not None
    assert outcome.forward.target == b"/films/_search/template"
    assert isinstance(outcome.forward.body, bytes)
    assert json.loads(json.loads(outcome.forward.body)["params"]["search"]) == SEARCH


async def test_each_of_many_templates_is_made_and_decided_alone() -> None:
    """One that is refused goes in its place as it came; all windows are one request."""
    other = {**TEMPLATE, "id": "other"}
    refused, unordered = reply(404, REFUSED), {**SEARCH, "sort": "n"}
    engine = FakeEngine(
        rendered(), refused, rendered(unordered), reply(200, {"responses": [FOUND, REFUSED, FOUND, FOUND]})
    )
    request = many(FILMS, TEMPLATE, FILMS, other, FILMS, TEMPLATE, OTHER, TEMPLATE, target=b"/_msearch/template")
    outcome = await answered_many(request, parts_with(engine))
    first, *others = shown(outcome)
    assert (ids(first), others) == (ORDER, [REFUSED, FOUND, FOUND])
    assert reasons(outcome) == [
        ("full", None),
        ("skipped", "engine_refused"),
        ("skipped", "sort"),
        ("skipped", "no_rule"),
    ]
    assert [one.target for one in engine.requests] == [b"/_render/template"] * 3 + [b"/_msearch/template"]
    assert isinstance(request.body, bytes)
    assert isinstance(engine.requests[-1].body, bytes)
    assert engine.requests[-1].body.splitlines()[2:] == request.body.splitlines()[2:]


async def test_where_none_of_many_is_made_the_request_goes_through() -> None:
    """As it came, and each template has its reason."""
    request = many(FILMS, TEMPLATE, FILMS, TEMPLATE)
    outcome = await answered_many(request, parts_with(FakeEngine(reply(404, REFUSED), reply(500, REFUSED))))
    assert outcome.forward == request
    assert reasons(outcome) == [("skipped", "engine_refused"), ("failed", "engine_refused")]


async def test_few_of_many_are_rendered_at_a_time_and_one_that_hangs_holds_up_no_other() -> None:
    """At half of the deadline, those that are made are searched."""
    clock, count = VirtualClock(), 2 * MAX_RENDERING
    late = [Late(rendered()) for _ in range(count - 1)]
    engine = FakeEngine(None, *late, reply(200, {"responses": [FOUND] * count}))
    request = many(*[FILMS, TEMPLATE] * count)
    searching = asyncio.create_task(answered_many(request, parts_with(engine, clock=clock)))
    await settle()
    assert len(engine.requests) == MAX_RENDERING
    for one in late:
        one.comes.set()
    await settle()
    assert len(engine.requests) == count
    await clock.advance(DEADLINE_S / 2)
    outcome = await searching
    assert reasons(outcome) == [("failed", "deadline")] + [("full", None)] * (count - 1)


async def test_nothing_of_a_template_is_kept_for_another_caller() -> None:
    """Each request has it rendered with its own headers; one that may not is not answered by what another was told."""
    engine = FakeEngine(rendered(), reply(200, FOUND), reply(403, REFUSED))
    parts = parts_with(engine)
    assert (await answered(asked(TEMPLATE, (b"authorization", b"one")), parts)).status.status == "full"
    second = asked(TEMPLATE, (b"authorization", b"two"))
    assert (await answered(second, parts)).forward == second
    assert [one.header(b"authorization") for one in engine.requests] == [b"one", b"one", b"two"]
