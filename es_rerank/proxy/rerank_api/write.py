"""Orders the documents of a rerank request by their scores, and writes the answer in the shape of the request. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.judgment import LARGEST_SCORE
from es_rerank.proxy.rerank_api.request import first_byte

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.judgment import Judgment, ScoreRule
    from es_rerank.proxy.rerank_api.request import RerankRequest

# Nothing is billed, and the proxy has no tokenizer that could count.
NO_TOKENS = {"total_tokens": 0, "prompt_tokens": 0}


@dataclass(frozen=True, slots=True)
class Result:
    """A document by its place in the request, and its score."""

    index: int
    score: float


def rank_documents(request: RerankRequest, judgments: Sequence[Judgment | None], rule: ScoreRule) -> list[Result]:
    """The results that are wanted, best first; equal ones, and at the end those without a judgment, as they came.

    `judgments` is parallel to the documents. A score is the rank score divided by ten, or the rank score itself where
    raw scores are asked for; a document without a judgment has 0.
    """
    largest = 1 if request.raw_scores else LARGEST_SCORE
    scores = [-1.0 if one is None else one.score(rule) for one in judgments]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return [Result(index, max(0.0, scores[index]) / largest) for index in order[: request.top]]


def write_answer(request: RerankRequest, results: Sequence[Result], warnings: Sequence[str]) -> bytes:
    """The answer as JSON. Documents that are asked for are as they came; vLLM's are their text."""
    return msgspec.json.encode(_answer(request, results, warnings))


def _answer(request: RerankRequest, results: Sequence[Result], warnings: Sequence[str]) -> Any:
    shape, model = request.shape, request.model.name
    if shape == "tei":
        return [_result(request, one, "score", "text") for one in results]
    rows = [_result(request, one, "relevance_score", "document") for one in results]
    if shape == "voyage":
        return {"object": "list", "data": rows, "model": model, "usage": {"total_tokens": 0}}
    if shape == "vllm":
        return {"id": f"rerank-{uuid.uuid4().hex}", "model": model, "usage": NO_TOKENS, "results": rows}
    meta: dict[str, Any] = {
        "api_version": {"version": "1" if shape == "v1" else "2"},
        "billed_units": {"search_units": 0},
    }
    if warnings:
        meta["warnings"] = warnings
    if shape == "cohere_v2":
        return {"id": str(uuid.uuid4()), "results": rows, "meta": meta}
    return {"id": str(uuid.uuid4()), "model": model, "results": rows, "usage": NO_TOKENS, "meta": meta}


def _result(request: RerankRequest, one: Result, score: str, document: str) -> dict[str, Any]:
    row: dict[str, Any] = {"index": one.index, score: one.score}
    if request.with_documents:  # else no key at all: some clients refuse null
        row[document] = _document(request, one.index)
    return row


def _document(request: RerankRequest, index: int) -> Any:
    raw = request.documents[index]
    if request.shape in ("tei", "voyage"):
        return raw
    if request.shape == "vllm":
        return {"text": request.texts[index] or ""}
    return {"text": raw} if first_byte(raw) == b'"' else raw
