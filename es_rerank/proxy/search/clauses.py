"""Walks a query tree and gives its clauses that ask for words, and what scores. Pure; knows no mappings, rules or HTTP.

Words count where they score: `bool` is followed through `must` and `should` (not `filter` or `must_not`), and compound
queries through their inner query. A clause with a boost of 0 scores nothing, so it has no words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from es_rerank.proxy.search.syntax import LUCENE_TOKEN, MAX_SYNTAX_CHARS, SIMPLE_TOKEN, Piece, read_syntax

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELD_TEXT = {"match", "match_phrase", "match_phrase_prefix", "match_bool_prefix", "common"}
BODY_TEXT = {"multi_match", "combined_fields"}
SYNTAX_TEXT = {"query_string": LUCENE_TOKEN, "simple_query_string": SIMPLE_TOKEN}
SPANS = {  # span query: the keys under which the spans lie that it finds
    "span_near": ("clauses",),
    "span_or": ("clauses",),
    "span_first": ("match",),
    "span_multi": ("match",),
    "span_not": ("include",),
    "span_containing": ("big", "little"),
    "span_within": ("big", "little"),
    "span_field_masking": ("query",),
    "field_masking_span": ("query",),
}
# Queries of a word, or a part of one, as it is in the index.
WORD_PARTS = {"prefix", "wildcard", "fuzzy"}
INTERVAL_WORDS = {"match": "query", "prefix": "prefix", "wildcard": "pattern", "fuzzy": "term"}
INTERVAL_GROUPS = ("any_of", "all_of")
INNER_QUERY = {  # compound query: the keys under which scoring queries lie
    "bool": ("must", "should"),
    "dis_max": ("queries",),
    "function_score": ("query",),
    "script_score": ("query",),
    "boosting": ("positive",),
    "constant_score": ("filter",),
    "nested": ("query",),
    "hybrid": ("queries",),
}
MODEL_TEXT = {  # query that scores by vectors or features of documents: the keys under which its text lies
    "knn": ("query_vector_builder", "text_embedding", "model_text"),
    "neural": ("query_text",),
    "neural_sparse": ("query_text",),
    "rank_feature": (),
    "semantic": ("query",),
    "sparse_vector": ("query",),
    "text_expansion": ("model_text",),
    "weighted_tokens": (),
}
# Of those, the ones whose parameters may lie under the name of a field.
UNDER_FIELD = {"knn", "neural", "neural_sparse", "text_expansion"}
# Queries by which people order hits, and one whose hits are queries.
OWN_ORDER = {"percolate", "pinned", "rule", "rule_query"}
MAX_DEPTH = 64
WILDCARD = re.compile(r"\\(.)|[*?]")
FIELD_BOOST = re.compile(r"\^([0-9.]*)$")

Sort = Literal["text", "words", "word"]
ScoredBy = Literal["words", "vectors", "fusion", "own_order"]
"""What a query scores by: words of texts; vectors, models or features of documents; several lists of hits, whose scores
are fused; or an order that people have set."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One query that asks for words: its pieces, in order, none of them empty.

    `text` is what the engine analyses as a text. The others compare words with those of the index, and ask for words
    only where the field is a text, else for a value: `words` are several (or the beginning of one), so that they can
    only be a person's; a `word` by itself may as well be a status or a colour.
    """

    pieces: tuple[Piece, ...]
    sort: Sort = "text"

    @property
    def words(self) -> str:
        """All words of the clause."""
        return " ".join(piece.words for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryReading:
    """The clauses of a query in the order of the request, repeats included, and all that it scores by.

    The text of which a model makes a vector is a clause too, sought in no field of its own. `k_is_size` says that some
    `knn` query in it finds as many neighbours as the search asks for hits.
    """

    clauses: tuple[Clause, ...] = ()
    scored_by: frozenset[ScoredBy] = frozenset()
    k_is_size: bool = False


def read_query(query: Any) -> QueryReading:
    """What there is to know of a parsed `query`, or of a list of them. What is malformed has no clauses."""
    reader = _Reader()
    clauses = tuple(clause for clause in reader.queries(query, MAX_DEPTH) if clause.pieces)
    return QueryReading(clauses=clauses, scored_by=frozenset(reader.scored_by), k_is_size=reader.k_is_size)


class _Reader:
    """Reads one tree. Of all its query strings together, only so many characters are parsed."""

    def __init__(self) -> None:
        self.scored_by: set[ScoredBy] = set()
        self.k_is_size = False
        self._left_chars = MAX_SYNTAX_CHARS

    def queries(self, query: Any, depth: int) -> Iterator[Clause]:
        """The clauses of a query or a list of them."""
        for clause in _list(query) if depth else ():
            for kind, body in clause.items() if isinstance(clause, dict) else ():
                if kind in OWN_ORDER:
                    self.scored_by.add("own_order")
                elif kind in MODEL_TEXT:
                    self.scored_by.add("vectors")
                    # Elasticsearch makes a knn of `semantic` on a dense field, whose k is the size.
                    self.k_is_size |= kind == "semantic" or (kind == "knn" and lacks_k(body))
                    yield from model_text(kind, body)
                elif isinstance(body, dict):
                    yield from self._query(kind, body, depth - 1)

    def _query(self, kind: str, body: dict[str, Any], depth: int) -> Iterator[Clause]:
        if kind == "hybrid":
            self.scored_by.add("fusion")
        if kind in INNER_QUERY:
            # Whatever of the tree does not count may still score by vectors.
            silent = _is_silent(body)
            for key in INNER_QUERY[kind]:
                words = _word_by_word(body.get(key)) if key == "should" else None
                found = self._lexical(words) if words is not None else self.queries(body.get(key), depth)
                yield from (clause for clause in found if not silent)
        elif kind in SPANS or kind == "span_term":
            yield from self._lexical(Clause(tuple(_span_pieces({kind: body}, depth))))
        elif not _is_silent(body):
            yield from self._lexical(*self._text_query(kind, body, depth))

    def _lexical(self, *clauses: Clause) -> Iterator[Clause]:
        """The clauses, which score by words."""
        for clause in clauses:
            if clause.pieces:
                self.scored_by.add("words")
                yield clause

    def _text_query(self, kind: str, body: dict[str, Any], depth: int) -> Iterator[Clause]:
        if kind in FIELD_TEXT:
            yield from (Clause(_pieces(_value_of(value, "query"), (field,))) for field, value in body.items())
        elif kind in BODY_TEXT and (fields := fields_of(body, "fields")) is not None:
            yield Clause(_pieces(body.get("query"), fields))
        elif kind == "more_like_this" and (fields := fields_of(body, "fields")) is not None:
            yield from (Clause(_pieces(like, fields)) for like in _list(body.get("like")))
        elif kind in SYNTAX_TEXT:
            text = _plain(body.get("query"))[: self._left_chars]
            self._left_chars -= len(text)
            fields = fields_of(body, "fields" if body.get("fields") else "default_field")
            if fields is not None:
                yield Clause(read_syntax(text, SYNTAX_TEXT[kind], fields))
        elif kind == "intervals":
            yield from (Clause(tuple(_interval_pieces(rule, (field,), depth))) for field, rule in body.items())
        elif kind == "terms_set":
            yield from (_words(field, _list(_value_of(value, "terms"))) for field, value in body.items())
        elif kind in WORD_PARTS:
            for field, value in body.items():
                yield Clause(_pieces(_without_wildcards(_value_of(value, "value")), (field,)), "words")


def lacks_k(knn: Any) -> bool:
    """Whether a `knn`, as Elasticsearch writes it, leaves it to the number of hits how many neighbours it finds."""
    return isinstance(knn, dict) and isinstance(knn.get("field"), str) and knn.get("k") is None


def model_text(kind: str, body: Any) -> Iterator[Clause]:
    """The text of which a model makes what a query looks for."""
    forms = [body, *(body.values() if isinstance(body, dict) and kind in UNDER_FIELD else ())]
    for form in forms:
        if isinstance(form, dict) and not _is_silent(form):
            text = _at(form, MODEL_TEXT[kind])
            if isinstance(text, str) and (words := _plain(text)):
                yield Clause((Piece(words),))


def _at(body: Any, path: tuple[str, ...]) -> Any:
    """What lies in an object under these keys, each in what the one before it leads to; None if nothing does."""
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body if path else None


def _word_by_word(should: Any) -> Clause | None:
    """A list of nothing but `term` queries on one field, as one clause; None for anything else."""
    terms: list[Any] = []
    fields: dict[str, None] = {}
    for clause in _list(should):
        term = clause.get("term") if isinstance(clause, dict) and len(clause) == 1 else None
        if not isinstance(term, dict):
            return None
        for field, value in term.items():
            fields[field] = None
            terms.append(_value_of(value, "value"))
    return _words(next(iter(fields)), terms, alone="word") if len(fields) == 1 else None


def _words(field: str, terms: list[Any], *, alone: Sort = "words") -> Clause:
    """The clause of terms that are sought in one field; `alone` is its sort if there is but one."""
    pieces = tuple(piece for term in terms for piece in _pieces(term, (field,)))
    return Clause(pieces, "words" if len(pieces) > 1 else alone)


def _span_pieces(span: Any, depth: int) -> Iterator[Piece]:
    """The words of a span query, or of a list of them, in the order in which they stand there."""
    for one in _list(span) if depth else ():
        for kind, body in one.items() if isinstance(one, dict) else ():
            if not isinstance(body, dict) or _is_silent(body):
                continue
            for key in SPANS.get(kind, ()):
                yield from _span_pieces(body.get(key), depth - 1)
            if kind == "span_term":
                for field, value in body.items():
                    yield from _pieces(_value_of(value, "value", "term"), (field,))
            elif kind in WORD_PARTS:
                for field, value in body.items():
                    yield from _pieces(_without_wildcards(_value_of(value, "value")), (field,))


def _interval_pieces(rule: Any, fields: tuple[str, ...], depth: int) -> Iterator[Piece]:
    """The words of a rule of an `intervals` query, those of its `filter` left out."""
    for kind, body in rule.items() if isinstance(rule, dict) and depth else ():
        if not isinstance(body, dict) or _is_silent(rule):
            continue
        if kind in INTERVAL_GROUPS:
            for inner in _list(body.get("intervals")):
                yield from _interval_pieces(inner, fields, depth - 1)
        elif kind in INTERVAL_WORDS:
            words = body.get(INTERVAL_WORDS[kind])
            yield from _pieces(_without_wildcards(words) if kind == "wildcard" else words, fields)


def _pieces(value: Any, fields: tuple[str, ...]) -> tuple[Piece, ...]:
    words = _plain(value)
    return (Piece(words, fields),) if words else ()


def fields_of(body: dict[str, Any], key: str) -> tuple[str, ...] | None:
    """The fields that a query names, without their boosts; () if it names none, None if all have a boost of 0."""
    named = [field for field in _list(body.get(key)) if isinstance(field, str)]
    fields = tuple(FIELD_BOOST.sub("", field) for field in named if not _is_zero(_boost_of(field)))
    if named and not fields:
        return None
    return () if "*" in fields else fields


def _boost_of(field: str) -> str | None:
    boost = FIELD_BOOST.search(field)
    return None if boost is None else boost[1]


def _is_silent(body: dict[str, Any]) -> bool:
    """Whether a query's boost is 0. A query that has its parameters under the name of a field is looked at there."""
    return _is_zero(body.get("boost"))


def _is_zero(boost: Any) -> bool:
    """Whether this is a boost of 0; the engines read a number in quotation marks too."""
    if isinstance(boost, str):
        return re.fullmatch(r"0+\.?0*|\.0+", boost.strip()) is not None
    return isinstance(boost, int | float) and not isinstance(boost, bool) and boost == 0


def _value_of(value: Any, *keys: str) -> Any:
    """What a query seeks in a field: the value itself, or the one under one of the keys; None for a boost of 0."""
    if not isinstance(value, dict):
        return value
    return None if _is_silent(value) else next((value[key] for key in keys if key in value), None)


def _without_wildcards(value: Any) -> Any:
    return WILDCARD.sub(lambda found: found[1] or " ", value) if isinstance(value, str) else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _plain(value: Any) -> str:
    """A text with single blanks; numbers are text too, as the engine analyses them, and anything else is ''."""
    if isinstance(value, str):
        return " ".join(value.split())
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
