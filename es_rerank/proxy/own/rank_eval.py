"""`_rank_eval` in the engines' own request and answer shape, through the pipeline that serves searches."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.offload import compute
from es_rerank.proxy.own.call import EngineRefusedError, OwnAnswer
from es_rerank.proxy.own.rank_eval_metrics import Rated, mean
from es_rerank.proxy.own.rank_eval_spec import check_search, read_spec
from es_rerank.proxy.own.search import search, search_engine, search_request, value_of
from es_rerank.proxy.steps import READING_COST
from es_rerank.rawjson import edit_object, open_object
from es_rerank.records import first_header

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.rank_eval_metrics import Metric
    from es_rerank.proxy.own.rank_eval_spec import RankEvalSpec, RatedRequest
    from es_rerank.proxy.search.status import SearchStatus
    from es_rerank.rawjson import RawObject
    from es_rerank.records import Reply
    from es_rerank.rules.book import RuleBook

SEARCH_PARAMETERS = ("allow_no_indices", "expand_wildcards", "ignore_unavailable", "search_type")
# Of an engine's refusal of one search: who asks may not, or what is asked can't be read. No search would be answered.
REFUSES_ALL_STATUSES = (401, 403)
UNREADABLE = (
    "action_request_validation_exception",
    "illegal_argument_exception",
    "json_parse_exception",
    "named_object_not_found_exception",
    "parse_exception",
    "parsing_exception",
    "x_content_parse_exception",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """What one request found: the hits or the engine's refusal, in our order and in the engine's own."""

    request: RatedRequest
    hits: Sequence[RawObject] | msgspec.Raw
    engine_hits: Sequence[RawObject] | msgspec.Raw | None
    status: SearchStatus | None


async def answer(call: OwnCall) -> OwnAnswer:
    """Evaluate the requests in the body as the caller, each by the rule of its index.

    `?engine` puts the engine's own order's figures beside ours, `?status` what became of each request. What the engine
    can't read is refused as a whole; a search that fails is one of the `failures`, as in the engines.
    """
    call.allow("engine", "status", *SEARCH_PARAMETERS)
    compare, tell = call.flag("engine"), call.flag("status")
    body = await call.body()
    spec = await compute(READING_COST * len(body), read_spec, body)
    # Half of the room for searches that wait stays for live ones.
    most = max(1, call.parts.limits.max_in_flight // 2)
    book = call.parts.rules.book  # all requests are evaluated by the same rules
    turns = asyncio.Semaphore(min(spec.max_concurrent_searches, most))

    async def evaluate(number: int) -> _Answered:
        async with turns:
            body = await _body_of(call, spec, number)
            return await _evaluate(call, spec.requests[number], body, book, compare=compare)

    answered = await _all([evaluate(number) for number in range(len(spec.requests))])
    value = _value([(one.request, one.hits) for one in answered], spec.metric)
    if compare:
        value["engine"] = _value([(one.request, one.engine_hits or ()) for one in answered], spec.metric)
    statuses = {one.request.id: one.status for one in answered if one.status is not None}
    if tell:
        value["_es_rerank"] = {name: status.block() for name, status in statuses.items()}
    return OwnAnswer(value=value, warnings=_warnings(statuses))


async def _all(evaluations: Sequence[Coroutine[Any, Any, _Answered]]) -> list[_Answered]:
    """What all of them give, parallel to them. The first error ends the others."""
    tasks = [asyncio.create_task(one) for one in evaluations]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _body_of(call: OwnCall, spec: RankEvalSpec, number: int) -> bytes:
    """The body of a request's search: `k` hits, and of `_source` only what is to be shown.

    A template is filled by the engine. Raises CallerError and EngineRefusedError.
    """
    request = spec.requests[number]
    body = request.search
    if body is None:
        script = spec.templates[request.template_id or ""]
        named = {name: script[name] for name in ("source", "id") if name in script}
        rendered = await call.ask_engine("POST", "/_render/template", {**named, "params": request.params})
        output = rendered["template_output"]
        if not isinstance(output, dict):
            raise CallerError(f"[requests[{number}]] the template gives no JSON object")
        check_search(output, f"requests[{number}]")
        body = msgspec.json.encode(output)
    return edit_object(body, {"size": spec.metric.k, "_source": list(request.summary_fields) or False})


async def _evaluate(call: OwnCall, request: RatedRequest, body: bytes, book: RuleBook, *, compare: bool) -> _Answered:
    """Search, as this proxy answers and, to compare, as the engine does. Raises what refuses the whole."""
    index = call.names.get("index", "")
    passed_on = {name: call.parameters[name] for name in SEARCH_PARAMETERS if name in call.parameters}
    asked = search_request(call, index, passed_on, body)
    with call.parts.memory.share() as share:
        try:
            found = await search(call, asked, index, book, share)
        except EngineRefusedError as refused:
            failure = _failure(refused.reply, call.parts.limits.max_answer_bytes)
            return _Answered(request=request, hits=failure, engine_hits=failure if compare else None, status=None)
        engine_hits: Sequence[RawObject] | msgspec.Raw | None = None
        if compare:
            plain = asked if found.trace.call is None else found.trace.call.carrier.request
            try:
                engine_hits = await search_engine(call, plain, share)
            except EngineRefusedError as refused:
                engine_hits = _failure(refused.reply, call.parts.limits.max_answer_bytes)
    return _Answered(request=request, hits=found.hits, engine_hits=engine_hits, status=found.status)


def _failure(reply: Reply, max_bytes: int) -> msgspec.Raw:
    """The `error` of a search that failed. Raises EngineRefusedError where the engine would refuse the whole."""
    try:
        body = decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=max_bytes)
        error = (open_object(body) or {})["error"]
        kind = msgspec.json.decode(error)["type"]
    except (KeyError, TypeError, ValueError, UnreadableBodyError):
        raise EngineRefusedError(reply) from None
    if reply.status in REFUSES_ALL_STATUSES or (reply.status == 400 and kind in UNREADABLE):
        raise EngineRefusedError(reply)
    return msgspec.Raw(error)


def _value(found: Sequence[tuple[RatedRequest, Sequence[RawObject] | msgspec.Raw]], metric: Metric) -> dict[str, Any]:
    """The engines' answer. Of two requests with one id, the last one counts."""
    details: dict[str, Any] = {}
    failures: dict[str, Any] = {}
    values: dict[str, float] = {}
    for request, hits in found:
        if isinstance(hits, msgspec.Raw):
            failures[request.id] = {"error": hits}
            continue
        keys = [(value_of(hit.get("_index")), value_of(hit.get("_id"))) for hit in hits]
        ratings = [request.ratings.get(key) for key in keys]
        rated = Rated(ratings, [*request.ratings.values()])
        value, metric_details = metric.of(rated)
        values[request.id] = value
        details[request.id] = {
            "metric_score": _number(value),
            "unrated_docs": [
                {"_index": index, "_id": key}
                for (index, key), rating in zip(keys, ratings, strict=True)
                if rating is None
            ],
            "hits": [{"hit": hit, "rating": rating} for hit, rating in zip(hits, ratings, strict=True)],
            "metric_details": {metric.name: {name: _number(one) for name, one in metric_details.items()}},
        }
    return {"metric_score": _number(mean([*values.values()])), "details": details, "failures": failures}


def _number(value: float) -> float | str:
    """A number as the engines write it in JSON, which has no word for those that are not finite."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _warnings(statuses: Mapping[str, SearchStatus]) -> tuple[str, ...]:
    """That some requests were not reranked in full, so that the figures are not taken for what they are not."""
    short = [status for status in statuses.values() if status.status != "full"]
    if not short:
        return ()
    reasons = ", ".join(dict.fromkeys(str(status.reason) for status in short))
    said = f"{len(short)} of {len(statuses)} requests were not reranked in full ({reasons}): ?status names them"
    return (said,)
