"""Reads query strings, in Lucene's syntax or the simple one: their words, each with the fields that it is sought in.

Pure; knows nothing of queries around the string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# How much of all query strings of a search together is parsed: long for a question, and quick to scan.
MAX_SYNTAX_CHARS = 4096

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
ESCAPED = re.compile(r"\\(.)")
NO_BOOST = re.compile(r"\^(0+\.?0*|\.0+)")


@dataclass(frozen=True, slots=True)
class Piece:
    """Words, single blanks between them, and the fields in which they are sought; () for whatever the index searches.

    A field may be a pattern with `*`.
    """

    words: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Group:
    """An open bracket: whether it is negated, its fields, and the number of pieces before it."""

    negated: bool
    fields: tuple[str, ...]
    start: int


def read_syntax(text: str, syntax: re.Pattern[str], fields: tuple[str, ...] = ()) -> tuple[Piece, ...]:
    """The pieces of a query string in order. `fields` are those of words that the string gives no field.

    It leaves out negated terms, phrases and groups, those with a boost of 0, field names, operators, boosts, fuzziness,
    ranges and regular expressions. Phrases keep their words, escaped characters stand for themselves, and a wildcard
    becomes a blank. Only the first MAX_SYNTAX_CHARS characters count.
    """
    pieces: list[Piece] = []
    negated = False
    named: tuple[str, ...] | None = None  # the field that stands before the next term, phrase or group
    groups = [_Group(negated=False, fields=fields, start=0)]  # the whole text first
    ended = 0  # the number of pieces before what ended last, to which a boost belongs
    for token in syntax.finditer(text[:MAX_SYNTAX_CHARS]):
        kind = token.lastgroup
        if kind == "field":
            named = (ESCAPED.sub(r"\1", token["field"][:-1]),)
            continue
        if kind == "space":
            ended = len(pieces)
            continue
        if kind == "suffix" and NO_BOOST.fullmatch(token["suffix"]):
            del pieces[ended:]
        group = groups[-1]
        hidden, sought = negated or group.negated, group.fields if named is None else named
        negated, named = kind == "negation", None
        if kind != "suffix":  # `fox~2^0` has two
            ended = group.start if kind == "close" else len(pieces)
        if kind == "open":
            groups.append(_Group(negated=hidden, fields=sought, start=len(pieces)))
        elif kind == "close":
            groups = groups[:-1] or [_Group(negated=False, fields=fields, start=0)]
        elif kind == "phrase" and not hidden:
            pieces.append(Piece(_joined(ESCAPED.sub(r"\1", token["phrase"][1:-1])), sought))
        elif kind == "term" and not hidden:
            words = re.sub(r"\\(.)|[*?]", lambda match: match[1] or " ", token["term"])
            pieces.append(Piece(_joined(words), sought))
    return tuple(piece for piece in pieces if piece.words)


def _joined(text: str) -> str:
    return " ".join(text.split())
