"""The retriever tree of a search: what it asks, what scores its hits, how many of them may be asked for. Pure.

Facts from the reference pages of retrievers; limits measured on Elasticsearch 8.19 and 9.1, for the kinds they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from es_rerank.proxy.search.clauses import (
    MAX_DEPTH,
    Clause,
    QueryReading,
    ScoredBy,
    fields_of,
    lacks_k,
    model_text,
    read_query,
)
from es_rerank.proxy.search.syntax import Piece

# Where none is given: of `rank_window_size`, and of `window_size` of a rescorer.
DEFAULT_WINDOW = 10
LARGEST_WINDOW = 10_000
# Those that fuse what several retrievers rank; they also take one text for several fields.
FUSING = {"rrf", "linear"}
# Those whose order is that of their scores, so that another one may take its place.
SCORING = {"standard", "knn", "rescorer", *FUSING}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverReading:
    """What there is to know of a tree: the outermost kind, and what is asked and what scores anywhere in it.

    `kind` is '' for what is no retriever. `ordered_otherwise` says that some of it sets an order of its own (pins, a
    `sort`, a reranking by the engine, or a kind that we don't know), so that the hits are not ours to rerank.
    """

    kind: str
    query: QueryReading
    ordered_otherwise: bool


def read_retriever(retriever: Any) -> RetrieverReading:
    """What there is to know of a parsed `retriever`. Never fails: the engine says what is wrong with it."""
    reader = _Reader()
    reader.read(retriever, MAX_DEPTH, outermost=True)
    kind, body = _opened(retriever)
    k_is_size = (kind == "standard" and read_query(body.get("query")).k_is_size) or (kind == "knn" and lacks_k(body))
    return RetrieverReading(
        kind=kind,
        query=QueryReading(clauses=tuple(reader.clauses), scored_by=frozenset(reader.scored_by), k_is_size=k_is_size),
        ordered_otherwise=reader.ordered_otherwise,
    )


def window_limit(retriever: Any) -> int | None:
    """How many hits a search with this retriever may be asked for at most, None for any number.

    Elasticsearch refuses a `size` above the window of the outermost retriever. What lies in it has its own `size`, so
    it does not matter here.
    """
    kind, body = _opened(retriever)
    if kind == "rescorer":
        return min(_windows(body.get("rescore")), default=DEFAULT_WINDOW)
    if kind in {"standard", "knn", ""}:
        return None
    return _whole(body.get("rank_window_size"), DEFAULT_WINDOW)


def rescore_window(rescore: Any) -> int | None:
    """How many hits of each shard a `rescore` of a search changes, None for no rescorer.

    With a rescorer by a model the smallest of these counts, else the largest: a model refuses a page past its window.
    """
    rescorers = [one for one in _list(rescore) if isinstance(one, dict)]
    by_model = _windows([one for one in rescorers if "learning_to_rank" in one])
    return min(by_model) if by_model else max(_windows(rescorers), default=None)


def _windows(rescore: Any) -> list[int]:
    return [_whole(one.get("window_size"), DEFAULT_WINDOW) for one in _list(rescore) if isinstance(one, dict)]


class _Reader:
    """Reads one tree."""

    def __init__(self) -> None:
        self.clauses: list[Clause] = []
        self.scored_by: set[ScoredBy] = set()
        self.ordered_otherwise = False

    def read(self, retriever: Any, depth: int, *, outermost: bool = False) -> None:
        """Read a retriever and all that lies in it."""
        kind, body = _opened(retriever)
        if depth == 0 or kind not in SCORING:
            self.ordered_otherwise = True
            return
        if kind == "standard":
            own_order = any(body.get(key) for key in ("sort", "search_after", "terminate_after"))
            self.ordered_otherwise |= outermost and own_order
            self._add(read_query(body.get("query")))
        elif kind == "knn":
            self._add(QueryReading(clauses=tuple(model_text("knn", body)), scored_by=frozenset({"vectors"})))
        elif kind == "rescorer":
            self.read(body.get("retriever"), depth - 1)
        else:
            self._add(_text_for_fields(body))
            for child in _list(body.get("retrievers")):
                inner = child.get("retriever") if isinstance(child, dict) else None
                self.read(child if inner is None else inner, depth - 1)

    def _add(self, reading: QueryReading) -> None:
        self.clauses.extend(reading.clauses)
        self.scored_by |= reading.scored_by
        self.ordered_otherwise |= "own_order" in reading.scored_by


def _text_for_fields(body: dict[str, Any]) -> QueryReading:
    """The text of a fusing retriever that seeks it in several fields by itself."""
    text = body.get("query")
    words = " ".join(text.split()) if isinstance(text, str) else ""
    if not words:
        return QueryReading()
    return QueryReading(
        clauses=(Clause((Piece(words, fields_of(body, "fields") or ()),)),), scored_by=frozenset({"words"})
    )


def _opened(retriever: Any) -> tuple[str, dict[str, Any]]:
    """The kind and the body of a retriever, '' for what is none."""
    if isinstance(retriever, dict) and len(retriever) == 1:
        [(kind, body)] = retriever.items()
        if isinstance(body, dict):
            return kind, body
    return "", {}


def _whole(value: Any, default: int) -> int:
    """A number of hits; the default for what is none, since the engine judges that."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_WINDOW
    return int(value) if whole else default


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
