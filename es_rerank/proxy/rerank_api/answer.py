"""Answers a rerank request: the key, the body, the scores, the answer; or the refusal, in the product's own shape.

These APIs have no gaps. So an answer is whole, or it is an error after which asking again helps: the scores that have
come by then are in the cache. Only a document that can't be scored at all has a score of 0, and comes last.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError
from es_rerank.language import LANGUAGE_NAMES, may_be_in
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.rerank_api.keys import holds_key
from es_rerank.proxy.rerank_api.read import open_members, read_request
from es_rerank.proxy.rerank_api.shapes import PATH_SHAPES, error_of, find_shape
from es_rerank.proxy.rerank_api.write import rank_documents, write_answer
from es_rerank.proxy.scoring.ask import ScoreRequest, Scoring, Stage
from es_rerank.proxy.steps import READING_COST, read_whole
from es_rerank.records import Reply
from es_rerank.telemetry import log_event

if TYPE_CHECKING:
    from es_rerank.judgment import ScoreRule
    from es_rerank.models import Model, RerankApi
    from es_rerank.proxy.http.exchange import Exchange
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.rerank_api.request import RerankRequest
    from es_rerank.proxy.rerank_api.shapes import Shape
    from es_rerank.proxy.scoring.ask import WindowScores
    from es_rerank.records import Headers, Request

LOG = logging.getLogger(__name__)
SCORE: ScoreRule = "paper"
RETRY_AFTER_S = 1
# What is said where documents have no score, by reason; any other reason is the scorer's own failure.
UNAVAILABLE = {
    "overloaded": (429, "too many requests wait for the scorer already; ask again soon"),
    "deadline": (
        503,
        "not all documents were scored within the deadline; the scores that were made are kept, so ask again",
    ),
    "no_worker": (503, "no worker serves this model now"),
    "no_redis": (503, "scores can't be had now: es-rerank does not reach its Redis"),
    "redis_refuses": (503, "scores can't be had now: the Redis of es-rerank refuses"),
    "claim_too_large": (413, "the documents are too long to be scored together; send fewer at a time"),
}
SCORER_FAILED = (503, "the scorer failed; the log of its worker has the reason")


@dataclass(slots=True, eq=False)
class _Run:
    """One request on its way: the shape as far as it is known, and what the log will say."""

    shape: Shape
    fields: dict[str, Any] = field(default_factory=dict)


def is_rerank(request: Request) -> bool:
    """Whether a request is one of the rerank API's, where that is configured."""
    return request.method == "POST" and request.path in PATH_SHAPES


async def answer_rerank(exchange: Exchange, api: RerankApi, parts: Parts) -> Reply:
    """The answer to a request for which `is_rerank` holds, and its log line. Raises CallerLeftError, no other error."""
    laps = Laps(parts.clock)
    run = _Run(PATH_SHAPES[exchange.request.path])
    try:
        reply = await _answer(exchange, api, parts, run)
    except CallerError as error:
        reply = _refusal(run.shape, error.status, str(error))
    except Exception:
        LOG.exception("a rerank request broke")
        reply = _refusal(run.shape, 500, "es-rerank failed; its log has the reason")
    level = logging.WARNING if reply.status in (429, 500, 503) else logging.INFO
    log_event(
        LOG, level, "rerank", shape=run.shape, http_status=reply.status, **run.fields, took_ms=laps.took_ms()["total"]
    )
    return reply


async def _answer(exchange: Exchange, api: RerankApi, parts: Parts, run: _Run) -> Reply:
    """Raises CallerError for everything that is not answered with 200."""
    if not holds_key(exchange.request.header(b"authorization"), api.settings.keys):
        raise CallerError("a key is needed, as in 'Authorization: Bearer KEY'", status=401)
    body = await _read_body(exchange, parts)
    cost = READING_COST * len(body)
    members = await compute(cost, open_members, body)
    run.shape = find_shape(exchange.request.path, members)
    request = await compute(cost, read_request, run.shape, members, api)
    laps = Laps(parts.clock)
    deadline = Deadline(parts.clock, laps.started_s + api.settings.deadline_s)
    run.fields = {"model": request.model.name, "scorer": request.model.scorer_name, "documents": len(request.texts)}
    scoring = scoring_of(request.model, request.question, api)
    [scores] = await parts.scores.judge([ScoreRequest(scoring=scoring, texts=request.texts)], deadline, laps)
    run.fields |= {"scored": scores.scored, "cached": scores.cached, "reason": scores.reason}
    check_whole(request, scores)
    warnings = warnings_of(request, scores)
    results = rank_documents(request, scores.judgments, SCORE)
    written = await compute(len(body) if request.with_documents else 0, write_answer, request, results, warnings)
    told = tuple((b"warning", f'299 es-rerank "{text}"'.encode()) for text in warnings)
    return _reply(200, written, told)


async def _read_body(exchange: Exchange, parts: Parts) -> bytes:
    """The body without its coding. Raises CallerError for one that is too long, or that there is no room for."""
    request = replace(exchange.request, body=await exchange.read_body(parts.limits.max_request_bytes))
    full = CallerError("too many requests are held already; ask again soon", status=429)
    body = await read_whole(request, parts, exchange.share, no_room=full)
    if body is None:
        raise CallerError("the body must be a JSON object, and there is none")
    return body


def scoring_of(model: Model, question: str, api: RerankApi) -> Scoring:
    """How a model judges a question: as a search under a rule that says the same, so that both share their scores."""
    return Scoring(
        fingerprint=model.fingerprint,
        question=question,
        instruction=api.settings.instruction if model.scorer.abilities.reads_instruction else "",
        stages=(Stage(budget_tokens=model.budget_tokens),),
        score=SCORE,
    )


def check_whole(request: RerankRequest, scores: WindowScores) -> None:
    """Raise CallerError where documents have no score that could have one, or were cut and must not be."""
    pairs = list(zip(request.texts, scores.judgments, strict=True))
    missing = sum(text is not None and judgment is None for text, judgment in pairs)
    # One document that fails alone would fail again; a scorer that fails on all of them is broken.
    if missing and not (scores.reason == "document_failed" and scores.scored):
        status, text = UNAVAILABLE.get(scores.reason or "", SCORER_FAILED)
        raise CallerError(f"{text} ({missing} of {len(pairs)} documents have no score)", status=status)
    if not request.may_cut:
        for index, (_, judgment) in enumerate(pairs):
            if judgment is not None and judgment.truncated:
                raise CallerError(f"the query, or document {index}, is longer than the model reads", status=413)


def warnings_of(request: RerankRequest, scores: WindowScores) -> tuple[str, ...]:
    """What a person should know of an answer, in ASCII: nothing of it is in the scores themselves."""
    said = list(request.warnings)
    unscored = len(scores.judgments) - scores.scored
    if unscored:
        said.append(f"{unscored} documents have no score, are last and have 0: they have no text, or the scorer failed")
    if scores.truncated:
        said.append(
            f"{scores.truncated} scores are of a query or document that was cut: it is longer than the model reads"
        )
    if scores.cut:
        said.append(f"{scores.cut} scores were made before the model's thinking ended: the deadline came")
    language = request.model.scorer.abilities.language
    if language is not None and not may_be_in(language, request.question, request.texts):
        said.append(f"the model reads {LANGUAGE_NAMES[language]}, and this is hardly in it: the scores mean little")
    return tuple(said)


def _refusal(shape: Shape, status: int, text: str) -> Reply:
    status, value = error_of(shape, status, text)
    headers: Headers = ()
    if status in (429, 503):
        headers = ((b"retry-after", b"%d" % RETRY_AFTER_S),)
    elif status == 401:
        headers = ((b"www-authenticate", b"Bearer"),)
    return _reply(status, msgspec.json.encode(value), headers)


def _reply(status: int, body: bytes, headers: Headers) -> Reply:
    length = (b"content-length", b"%d" % len(body))
    return Reply(status=status, headers=((b"content-type", b"application/json"), length, *headers), body=body)
