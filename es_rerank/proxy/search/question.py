"""What a search asks for: which of its clauses' words are the question. Pure; asks nobody about the fields.

By default a clause counts unless all of its fields are known to be no texts. Where none would be left, all count: a
question of values alone is better than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from es_rerank.proxy.search.clauses import Clause
from es_rerank.proxy.search.syntax import LUCENE_TOKEN, Piece, read_syntax
from es_rerank.rules.rule import MAX_FIELD_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from es_rerank.proxy.search.clauses import QueryReading, ScoredBy

# Of how many fields a search may want to know the type.
MAX_FIELDS = 32
# How many words of the index are taken, and in about how much of the longest texts other words are looked for.
MAX_WORDS = 256
MAX_SEEN_CHARS = 4096
NOTHING_KNOWN: Mapping[str, bool] = {}
"""By field, whether it is a text; one that is not in it may be or may not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChoice:
    """Which fields a question is made of: names or patterns with `*`, each for what lies below it too.

    With `only`, no other fields count, and these do whatever their type is.
    """

    only: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def of(self, piece: Piece) -> Piece | None:
        """The piece with those of its fields that may count; None if none may. One without fields stays as it is."""
        if not piece.fields:
            return piece
        left = tuple(field for field in piece.fields if not _names(self.ignored, field))
        if self.only:
            chosen = any(_names(self.only, field) for field in left)
            return Piece(piece.words) if chosen else None
        return replace(piece, fields=left) if left else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a query asks: the clauses that have words, and all that it scores by."""

    clauses: tuple[Clause, ...] = ()
    scored_by: frozenset[ScoredBy] = frozenset()

    @property
    def not_bm25(self) -> bool:
        """Whether something other than the words of texts scores."""
        return not self.scored_by <= {"words"}

    @property
    def text(self) -> str:
        """The text as long as no type of a field is known, '' where there is none."""
        return self.text_given(NOTHING_KNOWN)

    def text_given(self, is_text: Mapping[str, bool]) -> str:
        """The text where this is known of the fields: each distinct text once, in the request's order."""
        counting = tuple(_of_texts(clause, is_text) for clause in self.clauses)
        return _join(counting) or _join(clause for clause in self.clauses if clause.sort == "text")

    def fields_in_doubt(self) -> tuple[str, ...]:
        """The fields whose types may change the text, at most MAX_FIELDS; () if none can.

        A single text is the question whatever its fields are. Patterns are not looked up: they count as texts.
        """
        texts = {clause.words for clause in self.clauses}
        by_field = any(len({piece.fields for piece in clause.pieces}) > 1 for clause in self.clauses)
        if len(texts) < 2 and not by_field and all(clause.sort == "text" for clause in self.clauses):
            return ()
        named = dict.fromkeys(field for clause in self.clauses for piece in clause.pieces for field in piece.fields)
        return tuple(field for field in named if _can_be_asked(field))[:MAX_FIELDS]

    def choosing(self, choice: FieldChoice) -> Question:
        """The question made of these fields."""
        if not (choice.only or choice.ignored):
            return self
        clauses = (
            replace(clause, pieces=tuple(piece for piece in map(choice.of, clause.pieces) if piece is not None))
            for clause in self.clauses
        )
        return replace(self, clauses=tuple(clause for clause in clauses if clause.pieces))

    def asking(self, text: str) -> Question:
        """The same search with another text, in a person's own words."""
        return replace(self, clauses=(Clause((Piece(" ".join(text.split())),)),))


def question_of_reading(reading: QueryReading) -> Question:
    """The question of a query, or of a tree of retrievers, that was read."""
    return Question(reading.clauses, reading.scored_by)


def question_in_url(query_string: str, default_field: str = "") -> Question:
    """The question of the URL's `q`, whose words are sought in the URL's `df`."""
    pieces = read_syntax(query_string, LUCENE_TOKEN, (default_field,) if default_field else ())
    return Question((Clause(pieces),) if pieces else (), frozenset({"words"}))


def _of_texts(clause: Clause, is_text: Mapping[str, bool]) -> Clause:
    """What of a clause is sought in a text. Words of the index are so only if the field is known to be one."""

    def counts(piece: Piece) -> bool:
        if clause.sort == "text":
            return not piece.fields or any(is_text.get(field) is not False for field in piece.fields)
        return not piece.fields or any(is_text.get(field) is True for field in piece.fields)

    return replace(clause, pieces=tuple(filter(counts, clause.pieces)))


def _join(clauses: Iterable[Clause]) -> str:
    """The clauses' texts in order, without those that are a part of another one; and words that no text has.

    A word by itself counts only where there is nothing else.
    """
    clauses = [clause for clause in clauses if clause.pieces]
    whole, seen = _whole(clause.words for clause in clauses if clause.sort == "text")
    only_words = all(clause.sort == "word" for clause in clauses)
    taken: dict[str, None] = {}
    left = MAX_WORDS
    for clause in clauses:
        if clause.sort == "text":
            taken.update({clause.words: None} if clause.words in whole else {})
        elif clause.sort == "words" or only_words:
            words = clause.words.split()[:left]
            left -= len(words)
            taken.update(dict.fromkeys(word for word in words if word.casefold() not in seen))
    return " ".join(taken)


def _whole(texts: Iterable[str]) -> tuple[set[str], str]:
    """The texts whose words do not stand in a longer one, whatever their case; and where parts were looked for.

    Many front ends ask for each word and for all of them. Of equal texts the first is taken.
    """
    whole: set[str] = set()
    seen = ""
    for text in sorted(dict.fromkeys(texts), key=len, reverse=True):
        part = f" {text.casefold()} "
        if part not in seen:
            whole.add(text)
            if len(seen) < MAX_SEEN_CHARS:
                seen += f"{part[:MAX_SEEN_CHARS]}\n"
    return whole, seen


def _names(patterns: tuple[str, ...], field: str) -> bool:
    """Whether one of the names or patterns means this field, or something that it is a part of."""
    return len(field) <= MAX_FIELD_CHARACTERS and any(_matcher(pattern).fullmatch(field) for pattern in patterns)


@lru_cache
def _matcher(pattern: str) -> re.Pattern[str]:
    """What matches a field that a pattern means. Atomic groups keep a pattern of many stars quick."""
    first, *middle = map(re.escape, pattern.split("*"))
    last = f".*{middle.pop()}" if middle else ""
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + last + r"(?:\..*)?", re.DOTALL)


def _can_be_asked(field: str) -> bool:
    """Whether the engine can be asked about a field by its name: it takes several, divided by commas."""
    return 0 < len(field) <= MAX_FIELD_CHARACTERS and not {",", "*"} & set(field)
