"""Finds the text that a search asks for, by walking its query tree. Pure; knows nothing of rules or HTTP.

The rule: text counts where it scores. `match` and its kin, `query_string`, `simple_query_string`, `multi_match` and
`combined_fields` give text; `bool` is followed through `must` and `should` (not `filter` or `must_not`), and
compound queries through their inner query. Each distinct text is taken once, in the order of the request, joined by
a blank. Terms, ids, ranges, geo, `more_like_this` and whatever is unknown give none. A query that scores by
something other than BM25 (vectors, hybrids, pinned results) makes the whole search not ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELD_TEXT = {"match", "match_phrase", "match_phrase_prefix", "match_bool_prefix"}
BODY_TEXT = {"multi_match", "combined_fields"}
SYNTAX_TEXT = {"query_string", "simple_query_string"}
INNER_QUERY = {  # compound query: the keys under which scoring queries lie
    "bool": ("must", "should"),
    "dis_max": ("queries",),
    "function_score": ("query",),
    "script_score": ("query",),
    "boosting": ("positive",),
    "constant_score": ("filter",),
    "nested": ("query",),
}
NOT_BM25 = {
    "hybrid", "knn", "neural", "neural_sparse", "percolate", "pinned", "rank_feature", "rule", "rule_query",
    "semantic", "sparse_vector", "text_expansion", "weighted_tokens",
}
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Question:
    """What a query asks: its text ('' where it has none), or why it is not ours to rerank."""

    text: str = ""
    not_bm25: bool = False


def find_question(query: Any) -> Question:
    """The question of a parsed `query`. Never fails: a malformed query has no text, and the engine says why."""
    texts: list[str] = []
    try:
        texts.extend(text for text in _texts(query, MAX_DEPTH) if text)
    except _NotBm25Error:
        return Question(not_bm25=True)
    return Question(text=" ".join(dict.fromkeys(texts)))


def strip_syntax(text: str) -> str:
    """The words of a Lucene query string.

    Negated terms and field names go, as do operators, boosts, fuzziness, ranges and regular expressions; phrases
    keep their words; escaped characters stand for themselves; a wildcard term keeps its stem.
    """
    words: list[str] = []
    negated = False
    for token in LUCENE_TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "negation":
            negated = True
        elif kind == "phrase" and not negated:
            words.extend(re.sub(r"\\(.)", r"\1", token["phrase"][1:-1]).split())
        elif kind == "term" and not negated and token["term"] not in ("AND", "OR", "TO"):
            word = re.sub(r"\\(.)|[*?^~]", lambda match: match[1] or " ", token["term"])
            words.extend(word.split())
        if kind not in ("negation", "field", "space"):
            negated = False
    return " ".join(words)


LUCENE_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<negation>\bNOT(?=\s) | (?<![^\s(])[-!](?=\S))
    | (?P<range>[\[{][^\]}]*[\]}])
    | (?P<regex>(?<![^\s(:])/(?:\\.|[^/\\])*/)
    | (?P<phrase>"(?:\\.|[^"\\])*")
    | (?P<boost>[~^][0-9.]*)
    | (?P<field>(?:\\.|[\w.*@-])+:(?=\S)[<>]?=?)
    | (?P<operator>&& | \|\| | [()|+!"] )
    | (?P<term>(?:\\.|[^\s()"^~|])+)
    """,
    re.VERBOSE,
)


class _NotBm25Error(Exception):
    pass


def _texts(query: Any, depth: int) -> Iterator[str]:
    """The texts of a query, in order, repeats included."""
    if depth == 0:
        return
    if isinstance(query, list):
        for clause in query:
            yield from _texts(clause, depth - 1)
        return
    if not isinstance(query, dict):
        return
    for kind, body in query.items():
        if kind in NOT_BM25:
            raise _NotBm25Error
        if not isinstance(body, dict):
            continue
        if kind in FIELD_TEXT:
            for value in body.values():
                yield _plain(value.get("query") if isinstance(value, dict) else value)
        elif kind in BODY_TEXT:
            yield _plain(body.get("query"))
        elif kind in SYNTAX_TEXT:
            yield strip_syntax(_plain(body.get("query")))
        else:
            for key in INNER_QUERY.get(kind, ()):
                yield from _texts(body.get(key), depth - 1)


def _plain(value: Any) -> str:
    """A match query's text; numbers are text too, as the engine analyses them."""
    if isinstance(value, str):
        return " ".join(value.split())
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
