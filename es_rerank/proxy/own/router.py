"""Finds the route of a request below `/_es_rerank`, and writes the answer as the engines write theirs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from es_rerank.errors import CallerError
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.http.own import OWN_PATH
from es_rerank.proxy.offload import compute
from es_rerank.proxy.own.answer import FORMAT_PARAMETERS, write_answer, write_error, write_refusal, writing_cost
from es_rerank.proxy.own.call import EngineRefusedError, OwnCall
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.rawjson import open_object
from es_rerank.records import Reply, first_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.memory import Share
    from es_rerank.proxy.own.call import Route
    from es_rerank.proxy.parts import Parts
    from es_rerank.records import Request

NAME = re.compile(r"\{(\w+)\}")
# Of an engine's refusal, only what is about the refusal is passed on: the rest belongs to our own connection with it.
PASSED_ON = (b"www-authenticate", b"warning", b"retry-after")


async def answer_own(request: Request, routes: Sequence[Route], parts: Parts, share: Share) -> Reply:
    """The answer to a request below our path, whose body was read. `routes` are all paths that exist there.

    Raises CallerError, and UpstreamError where a handler needs the engine and no answer comes.
    """
    product = parts.engine.product
    path = request.path.rstrip(b"/")
    found = [(route, names) for route in routes if (names := _match(route.path, path)) is not None]
    if not found:
        shown = path.decode("utf-8", "replace")
        raise CallerError(f"no such path [{shown}]; GET [{OWN_PATH.decode()}] lists what there is", status=404)
    method = "GET" if request.method == "HEAD" else request.method
    fitting = next(((route, names) for route, names in found if method in route.methods), None)
    parameters = parse_query(request.query_string)
    if fitting is None:
        allowed = ", ".join(dict.fromkeys(method for route, _ in found for method in route.methods))
        reason = f"method [{request.method}] is not allowed here; allowed are [{allowed}]"
        return write_error(request, parameters, 405, "illegal_argument_exception", reason, product)
    route, names = fitting
    call = OwnCall(
        request=request,
        names=names,
        parameters={name: value for name, value in parameters.items() if name not in FORMAT_PARAMETERS},
        parts=parts,
        share=share,
    )
    try:
        answer = await route.answer(call)
        cost = writing_cost(request, parameters, answer)
        return await compute(cost, write_answer, request, parameters, answer, product)
    except EngineRefusedError as refused:
        return _refusal(request, parameters, refused.reply, parts)


def _refusal(request: Request, parameters: Mapping[str, str], engine: Reply, parts: Parts) -> Reply:
    """The engine's refusal, in the form that our answer would have had. Anything but JSON stays as it is."""
    passed_on = tuple((name, value) for name, value in engine.headers if name.lower() in PASSED_ON)
    coding = first_header(engine.headers, b"content-encoding")
    try:
        body = decode_body(engine.body, coding, max_bytes=parts.limits.max_answer_bytes)
    except UnreadableBodyError:
        body = b""
    if open_object(body) is None:
        kept = tuple(pair for pair in engine.headers if pair[0].lower() in (b"content-type", b"content-encoding"))
        length = (b"content-length", b"%d" % len(engine.body))
        return Reply(status=engine.status, headers=(*passed_on, *kept, length), body=engine.body)
    reply = write_refusal(request, parameters, engine.status, body, parts.engine.product)
    return Reply(status=reply.status, headers=(*reply.headers, *passed_on), body=reply.body)


def _match(pattern: str, path: bytes) -> dict[str, str] | None:
    """The decoded names of a path under a pattern; None if it has another form. A name that is empty does not match."""
    parts, wanted = path.split(b"/"), pattern.split("/")
    if len(parts) != len(wanted):
        return None
    names: dict[str, str] = {}
    for part, want in zip(parts, wanted, strict=True):
        name = NAME.fullmatch(want)
        if name is None:
            if part != want.encode():
                return None
        elif not part:
            return None
        else:
            names[name[1]] = unquote(part.decode("latin-1"), encoding="utf-8", errors="replace")
    return names
