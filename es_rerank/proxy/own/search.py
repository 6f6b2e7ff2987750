"""Runs a search below our path as the caller, through the very pipeline that serves searches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.own.call import EngineRefusedError
from es_rerank.proxy.pipeline import Trace, answer
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT
from es_rerank.records import Reply, first_header, without_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.memory import Share
    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.search.status import SearchStatus
    from es_rerank.rawjson import RawObject
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook

# Who asks below our path is a person, also where the request comes from Dev Tools, which mark it as a page's.
MARKS = (b"x-elastic-product-origin", b"x-opensearch-product-origin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search's hits as answered, each with its members as raw JSON; what became of it; and what it met."""

    hits: tuple[RawObject, ...]
    status: SearchStatus
    trace: Trace


def search_request(call: OwnCall, expression: str, parameters: Mapping[str, str], body: bytes | None) -> Request:
    """The caller's own search of these indices ('' for none), as it would come to the proxy."""
    path = f"/{quote(expression, safe='')}/_search" if expression else "/_search"
    target = f"{path}?{urlencode(parameters)}" if parameters else path
    request = call.as_caller("POST", target, body)
    return replace(request, headers=without_headers(request.headers, *MARKS))


async def search(call: OwnCall, request: Request, expression: str, book: RuleBook, share: Share) -> Searched:
    """The search, reranked or not, as this proxy answers it.

    Raises EngineRefusedError if the engine refuses it, CallerError if it asks es-rerank for something that isn't
    allowed or there is no room for it now, and UpstreamError if no engine host answers. Leaves no log line
    and no event.
    """
    trace = Trace()
    outcome = await answer(request, expression, book, call.parts.without_events(), share, trace)
    reply = outcome.reply or await _fetch(call, outcome.forward or request, share)
    if reply.status != 200:
        raise EngineRefusedError(reply)
    return Searched(hits=hits_of(reply, call.parts.limits.max_answer_bytes), status=outcome.status, trace=trace)


async def search_engine(call: OwnCall, request: Request, share: Share) -> tuple[RawObject, ...]:
    """The hits that the engine itself answers, without es-rerank. Raises EngineRefusedError and UpstreamError."""
    reply = await _fetch(call, request, share)
    if reply.status != 200:
        raise EngineRefusedError(reply)
    return hits_of(reply, call.parts.limits.max_answer_bytes)


async def _fetch(call: OwnCall, request: Request, share: Share) -> Reply:
    if not isinstance(request.body, bytes | None):
        raise CallerError("limits.max_held_bytes are held: try again", status=503)
    return await call.parts.engine.fetch(request, max_bytes=call.parts.limits.max_answer_bytes, hold=share.take)


def hits_of(reply: Reply, max_bytes: int) -> tuple[RawObject, ...]:
    """The hits of a search's answer. Raises CallerError where there are none to be read."""
    try:
        body = decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=max_bytes)
        return tuple(
            RAW_OBJECT.decode(hit)
            for hit in RAW_LIST.decode(RAW_OBJECT.decode(RAW_OBJECT.decode(body)["hits"])["hits"])
        )
    except (KeyError, ValueError, RecursionError, UnreadableBodyError) as error:
        raise CallerError("the engine's answer to the search can't be read", status=503) from error


def value_of(raw: msgspec.Raw | None) -> Any:
    """A member of a hit as a value, None where it is missing or can't be read."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
