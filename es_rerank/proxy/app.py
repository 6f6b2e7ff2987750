"""The proxy as an ASGI application: it tells five kinds of requests apart, and answers when something fails.

A search goes to the pipeline, our own paths, the rerank API and questions about nodes go to their handlers, everything
else streams through.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError, UpstreamError
from es_rerank.proxy.asynchronous import answer_result, answer_submitted
from es_rerank.proxy.http.exchange import CallerLeftError, Exchange, check_head
from es_rerank.proxy.http.own import UPSTREAM_KIND, caller_kind, error_reply, is_own
from es_rerank.proxy.multi import answer_many
from es_rerank.proxy.nodes import answer_nodes, asks_for_nodes
from es_rerank.proxy.own.answer import write_error
from es_rerank.proxy.own.router import answer_own
from es_rerank.proxy.own.routes import ROUTES
from es_rerank.proxy.parts import open_parts
from es_rerank.proxy.pipeline import answer_one
from es_rerank.proxy.points import MAX_ANSWER_BYTES, are_searched, changes_points, has_point
from es_rerank.proxy.rerank_api.answer import answer_rerank, is_rerank
from es_rerank.proxy.search.call import opaque_id
from es_rerank.proxy.search.control import may_ask
from es_rerank.proxy.search.endpoint import endpoint_of
from es_rerank.proxy.search.many import named_expressions
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.proxy.search.split import may_split
from es_rerank.proxy.search.status import SearchStatus, warning_of_all
from es_rerank.proxy.steps import settle, with_warning
from es_rerank.rules.book import may_cover
from es_rerank.telemetry import SEARCH_LOG, log_event
from es_rerank.upstream import end_to_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from es_rerank.memory import Share
    from es_rerank.proxy.outcome import Outcome
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.search.endpoint import Endpoint, SearchKind
    from es_rerank.records import Reply, Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.settings import Settings
    from es_rerank.upstream import StreamedReply

LOG = logging.getLogger(__name__)
HELD_BODY_BYTES = 64 * 1024
NO_ENGINE = SearchStatus(status="failed", reason="no_engine")
ANSWERS: Mapping[SearchKind, Callable[[Request, str, RuleBook, Parts, Share], Awaitable[Outcome]]] = {
    "one": answer_one,
    "many": answer_many,
    "async": answer_submitted,
    "async_result": answer_result,
    "template": partial(answer_one, template=True),
    "templates": partial(answer_many, template=True),
}


class App:
    """The ASGI application. Its parts live from the server's start to its stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts: Parts | None = None

    def product(self) -> bytes | None:
        """The engine's product header, as last seen, for refusals that no exchange writes."""
        return None if self._parts is None else self._parts.engine.product

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await receive()
            async with open_parts(self._settings) as self._parts:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif self._parts is not None:
            exchange = Exchange(scope, receive, send, self._parts.memory)
            try:
                await serve(exchange, self._parts)
            finally:
                exchange.close()


async def serve(exchange: Exchange, parts: Parts) -> None:
    """Answer one request, whatever happens. If an answer breaks off, its connection is closed."""
    product = parts.engine.product
    try:
        await _route(exchange, parts)
    except CallerLeftError:
        return
    except asyncio.CancelledError:
        if not exchange.caller_left:
            # A front, or a client with several hosts, asks another one when a connection breaks, as for a dead process.
            LOG.warning("the server stops, and cuts off a request that takes longer than the longest deadline")
            await exchange.cut_off()
    except (CallerError, UpstreamError) as error:
        if exchange.started:
            LOG.warning("an answer broke off: %s", error)
            return
        kind = UPSTREAM_KIND
        if isinstance(error, CallerError):
            kind = error.kind or caller_kind(error.status)
        else:
            LOG.warning("no answer of the engine: %s (%s)", error, error.detail or "no more is known")
        write = _write_own_error if is_own(exchange.request.path) else error_reply
        await exchange.reply(write(exchange.request, error.status, kind, str(error), product))
    except Exception:
        LOG.exception("a request failed")
        if not exchange.started:
            reason = "es-rerank failed; its log has the reason"
            await exchange.reply(error_reply(exchange.request, 500, "es_rerank_exception", reason, product))


def _write_own_error(request: Request, status: int, kind: str, reason: str, product: bytes | None) -> Reply:
    """An error below our path, in the form that its parameters ask for."""
    return write_error(request, parse_query(request.query_string), status, kind, reason, product)


async def _route(exchange: Exchange, parts: Parts) -> None:
    request = exchange.request
    check_head(request.headers)
    if is_own(request.path):
        request = replace(request, body=await exchange.read_body(parts.limits.max_request_bytes))
        await exchange.reply(await answer_own(request, ROUTES, parts, exchange.share))
        return
    if parts.rerank_api is not None and is_rerank(request):
        await exchange.reply(await answer_rerank(exchange, parts.rerank_api, parts))
        return
    if parts.forwarded_headers:
        request = _with_forwarded(request, exchange.client)
    endpoint = endpoint_of(request)
    if endpoint is not None:
        request = replace(request, body=await exchange.read_body(parts.limits.max_request_bytes))
        book = parts.rules.book  # the one reading: what is decided for this request is decided by it
        if _is_ours(endpoint, request, book, parts):
            with parts.stats.in_flight():
                await _search(exchange, request, endpoint, book, parts)
            return
    elif exchange.body_bytes is not None and exchange.body_bytes <= HELD_BODY_BYTES:
        # A small body is read whole first, so that a slow caller does not keep a connection to the engine.
        request = replace(request, body=await exchange.read_body(HELD_BODY_BYTES))
    if parts.sniffed_address is not None and asks_for_nodes(request):
        told = await answer_nodes(request, parts.sniffed_address, parts, exchange.share)
        if told is not None:
            await exchange.reply(told)
            return
    async with parts.engine.send(request) as reply:
        if endpoint is None and reply.status == 200 and changes_points(request) and are_searched(parts.rules.book):
            await _note_points(request, reply, parts)
        await exchange.stream(reply)


async def _note_points(request: Request, reply: StreamedReply, parts: Parts) -> None:
    """Remember what is opened before the caller knows of it, and forget what is closed."""
    body = await reply.peek(MAX_ANSWER_BYTES)
    if body is not None:
        parts.points.note_answer(request, reply.headers, body, parts.rules.book)


def _is_ours(endpoint: Endpoint, request: Request, book: RuleBook, parts: Parts) -> bool:
    """Whether a rule may hold for some search of a request, or one may ask something of es-rerank."""
    template = endpoint.is_template
    named = _named(endpoint, request, parts)
    if any(may_cover(book, one, template=template) for one in named) or may_ask(request):
        return True
    if endpoint.kind not in {"one", "many"}:
        return False
    return may_split(request, book) or (has_point(request) and are_searched(book))


def _named(endpoint: Endpoint, request: Request, parts: Parts) -> Iterable[str]:
    """The index expressions that a request searches, or whose results it asks for, as far as we know of them."""
    if endpoint.kind == "async_result":
        search = parts.async_searches.find(endpoint.search_id, parts.clock.monotonic_s())
        return () if search is None else (search.expression,)
    if endpoint.is_many:
        return named_expressions(request.body, endpoint.expression)
    return (endpoint.expression,)


async def _search(exchange: Exchange, request: Request, endpoint: Endpoint, book: RuleBook, parts: Parts) -> None:
    """Answer a request that searches; count its searches and log them, each as if it had come alone."""
    try:
        outcome = await ANSWERS[endpoint.kind](request, endpoint.expression, book, parts, exchange.share)
        searches = outcome.searches
        if outcome.reply is not None:
            await exchange.reply(outcome.reply)
        elif outcome.forward is not None:
            async with parts.engine.send(outcome.forward) as reply:
                searches = tuple([replace(one, status=settle(one.status, reply.status)) for one in searches])
                reply.headers = with_warning(reply.headers, warning_of_all([one.status for one in searches]))
                await exchange.stream(reply)
    except UpstreamError:
        if endpoint.kind != "async_result":  # the search may go on without this poll
            parts.stats.count(NO_ENGINE)
            _log(request, endpoint.expression, NO_ENGINE)
        raise
    for one in searches:
        parts.stats.count(one.status)
        _log(request, one.expression, one.status)
        if parts.events is not None and one.searched is not None:
            parts.events.record(one.searched, one.status)


def _log(request: Request, expression: str, status: SearchStatus) -> None:
    """Write the one log line of a search. It holds neither the query nor documents."""
    log_event(
        SEARCH_LOG,
        logging.WARNING if status.warning() else logging.INFO,
        "search",
        index=expression,
        **status.block(),
        opaque_id=opaque_id(request),
    )


def _with_forwarded(request: Request, client: str) -> Request:
    """The request with the usual X-Forwarded headers, which tell the engine who asked."""
    host = request.header(b"host") or b""
    added = ((b"x-forwarded-for", client.encode()), (b"x-forwarded-host", host), (b"x-forwarded-proto", b"http"))
    # Without the headers of the caller's connection, which could name ours as such and so have them dropped.
    return replace(request, headers=(*end_to_end(request.headers), *added))
