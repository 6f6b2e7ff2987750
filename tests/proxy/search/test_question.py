"""The text that a search asks for: which queries give text, which give none, and which aren't ours to rerank."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.question import (
    FIELD_TEXT,
    INNER_QUERY,
    MAX_SYNTAX_CHARS,
    NOT_BM25,
    find_question,
    strip_syntax,
)

FOX = {"match": {"text": "fox"}}
DOG = {"match": {"text": "dog"}}
KINDS = st.sampled_from(
    [*FIELD_TEXT, *INNER_QUERY, *NOT_BM25, "multi_match", "query_string", "simple_query_string", "query", "text"]
)
ANY_QUERY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KINDS | st.text(), inner, max_size=3),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"match": {"text": "quick fox"}}, "quick fox"),
        ({"match": {"text": {"query": " quick\n fox ", "operator": "and"}}}, "quick fox"),
        ({"match": {"year": 2001}}, "2001"),
        ({"match": {"price": {"query": 1.5}}}, "1.5"),
        ({"match": {"text": True}}, ""),
        ({"match": {"text": None}}, ""),
        ({"match": {"text": ["fox"]}}, ""),
        ({"match_phrase": {"text": "quick fox"}}, "quick fox"),
        ({"match_phrase_prefix": {"text": {"query": "quick f"}}}, "quick f"),
        ({"match_bool_prefix": {"text": "quick f"}}, "quick f"),
        ({"multi_match": {"query": "quick fox", "fields": ["title^2", "text"]}}, "quick fox"),
        ({"combined_fields": {"query": "quick fox", "fields": ["title", "text"]}}, "quick fox"),
        ({"query_string": {"query": "title:quick AND fox*"}}, "quick fox"),
        ({"simple_query_string": {"query": "quick + fox*"}}, "quick fox"),
    ],
)
def test_text_queries_give_their_text(query: dict[str, Any], text: str) -> None:
    """Each kind of text query gives the text that it searches for, with single blanks."""
    assert find_question(query).text == text


@pytest.mark.parametrize(
    "query",
    [
        {"bool": {"must": [FOX], "should": DOG}},
        {"bool": {"should": [FOX, {"bool": {"must": DOG}}]}},
        {"dis_max": {"queries": [FOX, DOG]}},
        {"function_score": {"query": {"bool": {"must": [FOX, DOG, FOX]}}, "functions": []}},
        {"script_score": {"query": {"dis_max": {"queries": [FOX, DOG]}}, "script": {}}},
        {"boosting": {"positive": {"bool": {"must": [FOX, DOG]}}, "negative": {"match": {"text": "cat"}}}},
        {"constant_score": {"filter": {"bool": {"must": [FOX, DOG]}}}},
        {"nested": {"path": "parts", "query": {"bool": {"must": [FOX, DOG]}}}},
        {"bool": {"must": [FOX, DOG], "filter": [{"match": {"text": "cat"}}], "must_not": {"match": {"t": "owl"}}}},
    ],
)
def test_compound_queries_give_what_scores_once_and_in_order(query: dict[str, Any]) -> None:
    """Scoring clauses give their texts, each once, in the request's order; filters and negations give none."""
    assert find_question(query).text == "fox dog"


@pytest.mark.parametrize(
    "query",
    [
        None,
        [],
        {},
        "fox",
        7,
        {"match_all": {}},
        {"match": "fox"},
        {"match": None},
        {"term": {"tag": "fox"}},
        {"terms": {"tag": ["fox"]}},
        {"ids": {"values": ["1"]}},
        {"range": {"year": {"gte": 2000}}},
        {"prefix": {"text": "fo"}},
        {"more_like_this": {"like": "fox"}},
        {"geo_distance": {"distance": "1km"}},
        {"bool": {"filter": [FOX]}},
        {"bool": {"must_not": [FOX]}},
        {"bool": [FOX]},
        {"bool": {"must": [[FOX]]}},
        {"made_up": {"query": FOX}},
    ],
)
def test_other_queries_give_none(query: Any) -> None:
    """Queries that compare no words, unknown ones and malformed ones have no text."""
    assert find_question(query).text == ""
    assert not find_question(query).not_bm25


@pytest.mark.parametrize("kind", sorted(NOT_BM25))
def test_one_scoring_query_of_another_kind_makes_the_search_not_ours(kind: str) -> None:
    """A clause that scores by something other than words counts wherever it scores, and only there."""
    other = {kind: {"query": FOX}}
    assert find_question(other).not_bm25
    assert find_question({"bool": {"must": FOX, "should": [other]}}).not_bm25
    assert find_question({"function_score": {"query": other}}).not_bm25
    assert not find_question({"bool": {"must": FOX, "filter": [other]}}).not_bm25


def test_nesting_is_followed_to_a_depth() -> None:
    """Queries are followed as deep as engines allow; deeper ones give no text instead of failing."""
    query: dict[str, Any] = FOX
    for _ in range(40):
        query = {"bool": {"must": [query]}}
    assert find_question(query).text == "fox"
    for _ in range(900):
        query = {"bool": {"must": [query]}}
    assert find_question(query).text == ""


@given(ANY_QUERY)
def test_any_json_has_a_question(query: Any) -> None:
    """Whatever stands under `query`, finding its text never fails."""
    question = find_question(query)
    assert question.text == " ".join(question.text.split())
    assert not (question.not_bm25 and question.text)


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
    assert find_question({"simple_query_string": {"query": query_string}}).text == words


@given(st.lists(st.from_regex(r"\A[a-zäéß0-9]+\Z")))
def test_plain_words_are_kept(words: list[str]) -> None:
    """A text without syntax comes back as it was."""
    text = " ".join(words)[:MAX_SYNTAX_CHARS]
    assert strip_syntax(text) == text.strip()
    assert find_question({"simple_query_string": {"query": text}}).text == text.strip()


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
