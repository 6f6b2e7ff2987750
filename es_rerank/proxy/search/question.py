"""Finds the text that a search asks for, by walking its query tree. Pure; knows nothing of rules or HTTP.

The rule: text counts where it scores. `match` and its variants, `query_string`, `simple_query_string`, `multi_match`
and `combined_fields` give text; `bool` is followed through `must` and `should` (not `filter` or `must_not`), and
compound queries through their inner query. Each distinct text is taken once, in the order of the request, joined by
a blank. Terms, ids, ranges, geo, `more_like_this` and unknown queries give none. If one query scores by something
other than BM25 (vectors, hybrids, pinned results), the whole search is not ours to rerank.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELD_TEXT = {"match", "match_phrase", "match_phrase_prefix", "match_bool_prefix"}
BODY_TEXT = {"multi_match", "combined_fields"}
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
    "hybrid",
    "knn",
    "neural",
    "neural_sparse",
    "percolate",
    "pinned",
    "rank_feature",
    "rule",
    "rule_query",
    "semantic",
    "sparse_vector",
    "text_expansion",
    "weighted_tokens",
}
MAX_DEPTH = 64
# How much of all query strings of a search together is parsed: long for a question, and quick to scan.
MAX_SYNTAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """What a query asks: its text ('' where it has none), or why it is not ours to rerank."""

    text: str = ""
    not_bm25: bool = False


def find_question(query: Any) -> Question:
    """The question of a parsed `query`. Never fails: a malformed query has no text, and the engine says why."""
    texts: list[str] = []
    left_chars = MAX_SYNTAX_CHARS
    try:
        for syntax, text in _texts(query, MAX_DEPTH):
            if syntax is None:
                texts.append(text)
            else:
                texts.append(strip_syntax(text[:left_chars], syntax))
                left_chars = max(0, left_chars - len(text))
    except _NotBm25Error:
        return Question(not_bm25=True)
    return Question(text=" ".join(dict.fromkeys(filter(None, texts))))


_COMMON_TOKENS = r"""
      (?P<space>\s+)
    | (?P<phrase>"(?:\\.|[^"\\])*")
    | (?P<suffix>[~^][0-9.]*)
    | (?P<open>\() | (?P<close>\))
    | (?P<operator>\|\| | [|+"])
    | (?P<term>(?:\\.|[^\s()"^~|])+)
"""
LUCENE_TOKEN = re.compile(
    r"""
      (?P<negation>(?<![^\s(])(?:NOT(?=[\s(]) | [-!](?=\S)))
    | (?P<range>[\[{][^\]}]{0,256}[\]}] | (?<![^\s(:])[<>]=?[^\s()]+ | _exists_:\S+)
    | (?P<regex>(?<![^\s(:])/(?:\\.|[^/\\])*/)
    | (?P<field>(?:\\.|[\w.*@-])+:(?=\S))
    | (?P<word>(?<!\S)(?:AND|OR|&&)(?!\S))
    | """
    + _COMMON_TOKENS,
    re.VERBOSE,
)
# This syntax has no field names, ranges or operator words: in it, `error: cannot open [file]` is plain text.
SIMPLE_TOKEN = re.compile(r"(?P<negation>(?<![^\s(|+])-(?=\S)) |" + _COMMON_TOKENS, re.VERBOSE)
SYNTAX_TEXT = {"query_string": LUCENE_TOKEN, "simple_query_string": SIMPLE_TOKEN}


def strip_syntax(text: str, syntax: re.Pattern[str] = LUCENE_TOKEN) -> str:
    """The words of a query string, by default one in Lucene's syntax.

    It leaves out negated terms, phrases and groups, field names, operators, boosts, fuzziness, ranges and regular
    expressions. Phrases keep their words, escaped characters stand for themselves, and a wildcard becomes a blank.
    """
    words: list[str] = []
    negated = False
    groups = [False]  # whether each open group is negated, the whole text first
    for token in syntax.finditer(text[:MAX_SYNTAX_CHARS]):
        kind = token.lastgroup
        if kind in ("space", "field"):
            continue
        hidden = negated or groups[-1]
        negated = kind == "negation"
        if kind == "open":
            groups.append(hidden)
        elif kind == "close":
            groups = groups[:-1] or [False]
        elif kind == "phrase" and not hidden:
            words.extend(re.sub(r"\\(.)", r"\1", token["phrase"][1:-1]).split())
        elif kind == "term" and not hidden:
            words.extend(re.sub(r"\\(.)|[*?]", lambda match: match[1] or " ", token["term"]).split())
    return " ".join(words)


class _NotBm25Error(Exception):
    pass


def _texts(query: Any, depth: int) -> Iterator[tuple[re.Pattern[str] | None, str]]:
    """The texts of a query or a list of them, in order, repeats included, each with the syntax that it is in."""
    clauses = query if isinstance(query, list) else [query]
    for clause in clauses if depth else ():
        for kind, body in clause.items() if isinstance(clause, dict) else ():
            if kind in NOT_BM25:
                raise _NotBm25Error
            if isinstance(body, dict):
                yield from _clause_texts(kind, body, depth - 1)


def _clause_texts(kind: str, body: dict[str, Any], depth: int) -> Iterator[tuple[re.Pattern[str] | None, str]]:
    if kind in FIELD_TEXT:
        for value in body.values():
            yield None, _plain(value.get("query") if isinstance(value, dict) else value)
    elif kind in BODY_TEXT:
        yield None, _plain(body.get("query"))
    elif kind in SYNTAX_TEXT:
        yield SYNTAX_TEXT[kind], _plain(body.get("query"))
    for key in INNER_QUERY.get(kind, ()):
        yield from _texts(body.get(key), depth)


def _plain(value: Any) -> str:
    """A match query's text; numbers are text too, as the engine analyses them."""
    if isinstance(value, str):
        return " ".join(value.split())
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
