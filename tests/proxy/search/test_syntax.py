"""The words of a query string, each with the fields that it is sought in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.syntax import (
    LUCENE_TOKEN,
    MAX_SYNTAX_CHARS,
    SIMPLE_TOKEN,
    Piece,
    read_syntax,
)

if TYPE_CHECKING:
    import re


def strip_syntax(text: str, syntax: re.Pattern[str] = LUCENE_TOKEN) -> str:
    """All words of a query string, by default one in Lucene's syntax."""
    return " ".join(piece.words for piece in read_syntax(text, syntax))


@pytest.mark.parametrize(
    ("query_string", "words"),
    [
        ("quick fox", "quick fox"),
        ("quick AND fox OR dog", "quick fox dog"),
        ("and or", "and or"),
        ("quick && fox || dog", "quick fox dog"),
        ("+quick -fox !dog NOT cat", "quick"),
        ("quick AND NOT fox", "quick"),
        ("well-known e-mail", "well-known e-mail"),
        ("title:quick text:fox", "quick fox"),
        ("title.raw:Quick a\\ b:fox", "Quick fox"),
        ("-title:quick fox", "fox"),
        ("title:(quick fox)^2 dog", "quick fox dog"),
        ("-(quick fox) dog", "dog"),
        ("NOT(quick fox) dog", "dog"),
        ("NOT title:(quick (brown fox)) dog", "dog"),
        ("(quick -(brown -fox)) dog", "quick dog"),
        ('"quick fox"~2 dog', "quick fox dog"),
        ('-"quick fox" dog', "dog"),
        ('title:"say \\"hi\\""', 'say "hi"'),
        ("fox~ dog~0.8 cat^2.5", "fox dog cat"),
        ("qu?ck fo*", "qu ck fo"),
        ("*", ""),
        ("*:*", ""),
        ("what is love?", "what is love"),
        ("year:[2000 TO 2010] fox", "fox"),
        ("year:{2000 TO *] fox", "fox"),
        ("year:>=2000 fox", "fox"),
        ("year:(>2000 AND <2010) fox", "fox"),
        ("-[a TO b] fox", "fox"),
        ("_exists_:title fox", "fox"),
        ("name:/joh?n(ath[oa]n)/ fox", "fox"),
        ("either/or", "either/or"),
        ("\\(1\\+1\\)\\:2 \\*", "(1+1):2 *"),
        ("(fox", "fox"),
        ("fox) -dog) cat", "fox cat"),
        ('"fox', "fox"),
        ("fox\\", "fox\\"),
        ("naïve 東京", "naïve 東京"),
        ("", ""),
        (" \t\n", ""),
    ],
)
def test_lucene_syntax_is_stripped(query_string: str, words: str) -> None:
    """Words stay; what tells the engine how to search, or what not to find, is left out."""
    assert strip_syntax(query_string) == words


@pytest.mark.parametrize(
    ("query_string", "words"),
    [
        ("quick +fox | dog", "quick fox dog"),
        ("quick -fox", "quick"),
        ("quick+-fox|-dog", "quick+-fox"),
        ("-(quick fox) dog", "dog"),
        ('"quick fox"~2 dog~1 ca*', "quick fox dog ca"),
        ("error: cannot open [file] title:fox", "error: cannot open [file] title:fox"),
        ("this AND that OR NOT", "this AND that OR NOT"),
        ("etc/passwd /usr/bin/", "etc/passwd /usr/bin/"),
    ],
)
def test_simple_syntax_is_stripped_of_no_more_than_it_has(query_string: str, words: str) -> None:
    """`simple_query_string` has no fields, ranges or operator words: what looks like one there is text."""
    assert strip_syntax(query_string, SIMPLE_TOKEN) == words


@given(st.lists(st.from_regex(r"\A[a-zäéß0-9]+\Z")))
def test_plain_words_are_kept(words: list[str]) -> None:
    """A text without syntax comes back as it was."""
    text = " ".join(words)[:MAX_SYNTAX_CHARS]
    assert strip_syntax(text) == text.strip()
    assert strip_syntax(text, SIMPLE_TOKEN) == text.strip()


@given(st.text(alphabet='ab:-!+()[]{}"\\/~^*?<>=&| NOTAND') | st.text())
def test_any_text_is_stripped(text: str) -> None:
    """Whatever the syntax in a text, stripping gives words and never fails."""
    words = strip_syntax(text)
    assert words == " ".join(words.split())


@pytest.mark.parametrize("piece", ["[ ", '" ', "/a ", "a:", "((", "\\", "-", '\\"', "{a "])
def test_no_text_takes_long_to_strip(piece: str) -> None:
    """Megabytes of text with brackets and quotes that never close are cut, and the rest is scanned quickly."""
    began_s = time.process_time()
    strip_syntax(piece * 1_000_000)
    assert time.process_time() - began_s < 1.0


@pytest.mark.parametrize(
    ("query_string", "words"),
    [
        ("quick^0 fox", "fox"),
        ("quick fox^0.0 dog", "quick dog"),
        ("quick fox^.0", "quick"),
        ("quick fox~2^0", "quick"),
        ("(quick fox)^0 dog", "dog"),
        ("title:(quick (brown fox))^0 dog", "dog"),
        ('"quick fox"^0 dog', "dog"),
        ("quick fox^0.5 dog^10", "quick fox dog"),
        ("quick fox^ dog", "quick fox dog"),
        ("quick ^0 fox", "quick fox"),
        ("^0", ""),
        ("-quick^0 fox", "fox"),
    ],
)
def test_what_has_a_boost_of_0_leaves_no_words(query_string: str, words: str) -> None:
    """A term, phrase or group with a boost of 0 scores nothing, so it is no part of the question."""
    assert strip_syntax(query_string) == words


@pytest.mark.parametrize(
    ("query_string", "fields"),
    [
        ("fox", ("text",)),
        ("title:fox", ("title",)),
        ("title.raw:fox", ("title.raw",)),
        ("book.\\*:fox", ("book.*",)),
        ("title:(fox)", ("title",)),
        ("title:(dog^0 (cat^0 fox))", ("title",)),
        ("title:(lang:fox)", ("lang",)),
        ("lang:en^0 fox", ("text",)),
        ("(lang:en)^0 fox", ("text",)),
        ("year:[1 TO 2] fox", ("text",)),
        ("title:^2 fox", ("text",)),
        ('title:"fox"', ("title",)),
    ],
)
def test_each_word_knows_its_fields(query_string: str, fields: tuple[str, ...]) -> None:
    """A word, phrase or group is sought in the field before it, and any other in those of the query."""
    assert read_syntax(query_string, LUCENE_TOKEN, ("text",)) == (Piece("fox", fields),)
