"""What Elasticsearch's `text_similarity_reranker` asks, read from a search's `retriever`. Pure.

Names, defaults and the words of errors are Elasticsearch's (its specification, `TextSimilarityReranker`). A scorer of
ours gives what an inference endpoint would: a relevance of 0 to 1, the tenth of a rank score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.judgment import LARGEST_SCORE
from es_rerank.proxy.search.chunks import KEY, read_chunking
from es_rerank.rules.rule import field_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from es_rerank.proxy.search.chunks import Chunking
    from es_rerank.rules.book import BoundRule

NAME = "text_similarity_reranker"
DEFAULT_ENDPOINT = ".rerank-v1-elasticsearch"
DEFAULT_WINDOW = 10
REQUIRED = ("retriever", "inference_text", "field")
# By field: what Elasticsearch takes there. Of numbers it takes texts too.
TYPES: Mapping[str, tuple[type, ...]] = {
    "retriever": (dict,),
    "inference_id": (str,),
    "inference_text": (str,),
    "field": (str,),
    "rank_window_size": (int, float, str),
    "min_score": (int, float, str),
    "filter": (dict, list),
    "allow_rerank_failures": (bool,),
    KEY: (dict,),
}
NOT_DONE = ("_name",)
TOKENS: Mapping[type, str] = {
    dict: "START_OBJECT",
    list: "START_ARRAY",
    str: "VALUE_STRING",
    int: "VALUE_NUMBER",
    float: "VALUE_NUMBER",
    bool: "VALUE_BOOLEAN",
    type(None): "VALUE_NULL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """What one `text_similarity_reranker` asks of an endpoint that is ours; `policy` says how that scores.

    `window` is how many hits the inner retriever gives for that `rank_window_size`: fewer where it has a smaller one.
    Hits of a lower relevance than `min_score` are left out. `chunking` says what of a text is scored, None
    for all of it.
    """

    inference_id: str
    policy: BoundRule
    field: str
    question: str
    rank_window_size: int
    window: int
    min_score: float | None
    chunking: Chunking | None = None


def read_similarity(
    retriever: Any, endpoints: Mapping[str, BoundRule], *, max_window: int
) -> tuple[Similarity, dict[str, Any]] | None:
    """What the outermost retriever asks of one of these endpoints, and its own fields; None if it asks none.

    Raises CallerError for what is wrong in it or not done here, and where an endpoint of ours is asked for anywhere
    else: only the outermost retriever can be taken off.
    """
    asked = list(_asked_in(retriever, endpoints))
    if not asked:
        return None
    outermost = retriever.get(NAME) if len(retriever) == 1 else None
    if len(asked) > 1 or asked[0] is not outermost:
        inference_id = next(_endpoint_of(body) for body in asked if body is not outermost)
        raise CallerError(
            f"[{NAME}] with [inference_id: {inference_id}] must be the outermost retriever: es-rerank does the "
            "reranking of this endpoint, which the engine can't call from within another retriever"
        )
    return _read(asked[0], endpoints, max_window), asked[0]


def relevance_of(rank_score: float) -> float:
    """The relevance, 0 to 1, that an inference endpoint would tell for a document of this rank score."""
    return rank_score / LARGEST_SCORE


def score_of(rank_score: float) -> float:
    """The `_score` of a hit: Elasticsearch shows max(r, 0) + min(exp(r), 1) for a relevance r, here always 1 + r."""
    return 1 + relevance_of(rank_score)


def _asked_in(retriever: Any, endpoints: Mapping[str, BoundRule]) -> Iterator[dict[str, Any]]:
    """The fields of each reranker that asks one of these endpoints, the outermost first."""
    for kind, body in _walk(retriever):
        if kind == NAME and _endpoint_of(body) in endpoints:
            yield body


def _endpoint_of(body: dict[str, Any]) -> str:
    """The endpoint that a reranker names, '' where that is no text."""
    named = body.get("inference_id", DEFAULT_ENDPOINT)
    return named if isinstance(named, str) else ""


def _walk(retriever: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each retriever of a tree, its name and its fields. What is none is left out."""
    waiting = [retriever]
    while waiting:
        one = waiting.pop()
        for kind, body in one.items() if isinstance(one, dict) else ():
            if isinstance(body, dict):
                yield kind, body
                children = body.get("retrievers")
                waiting += children if isinstance(children, list) else ()
                # A child of `linear` stands beside its weight, in an object of its own.
                waiting += [body] if kind == "retriever" else [body.get("retriever")]


def _read(body: dict[str, Any], endpoints: Mapping[str, BoundRule], max_window: int) -> Similarity:
    for name, value in body.items():
        _check(name, value)
    missing = [name for name in REQUIRED if name not in body]
    if missing:
        raise _unparsed(f"Required [{', '.join(missing)}]")
    if [type(inner) for inner in body["retriever"].values()] != [dict]:
        raise _unparsed(f"[{NAME}] failed to parse field [retriever]: one retriever with its name is needed")
    if not body["inference_text"].strip():
        raise CallerError(f"[{NAME}] [inference_text] must not be empty")
    try:
        field = field_name(body["field"])
    except ValueError as error:
        raise CallerError(f"[{NAME}] [field] {error}") from None
    window = int(_number(body, "rank_window_size", DEFAULT_WINDOW))
    if window < 1:
        raise CallerError(f"[rank_window_size] must be greater than or equal to [1], was [{window}]")
    if window > max_window:
        raise CallerError(
            f"[{NAME}] [rank_window_size: {window}] must be at most [{max_window}], the limits.max_window of es-rerank"
        )
    inference_id = _endpoint_of(body)
    return Similarity(
        inference_id=inference_id,
        policy=endpoints[inference_id],
        field=field,
        question=body["inference_text"],
        rank_window_size=window,
        window=window,
        min_score=_number(body, "min_score", 0) if "min_score" in body else None,
        chunking=read_chunking(body[KEY]) if KEY in body else None,
    )


def _check(name: str, value: Any) -> None:
    """Refuse a field that is not done here, one that Elasticsearch does not know, and one of another type."""
    if name in NOT_DONE:
        raise CallerError(f"[{NAME}] es-rerank does not do [{name}]")
    if name not in TYPES:
        raise _unparsed(f"[{NAME}] unknown field [{name}]")
    if type(value) not in TYPES[name]:
        raise _unparsed(f"[{NAME}] {name} doesn't support values of type: {TOKENS[type(value)]}")
    if name == "filter" and isinstance(value, list) and not all(isinstance(one, dict) for one in value):
        raise _unparsed(f"[{NAME}] failed to parse field [filter]")


def _number(body: dict[str, Any], name: str, default: float) -> float:
    """A number, which Elasticsearch takes as a text too."""
    try:
        number = float(body.get(name, default))
        if abs(number) < 2**31:  # neither NaN nor endless
            return number
    except (ValueError, OverflowError):
        pass
    raise _unparsed(f"[{NAME}] failed to parse field [{name}]")


def _unparsed(problem: str) -> CallerError:
    """An error as Elasticsearch's parser gives one."""
    return CallerError(problem, kind="parsing_exception")
