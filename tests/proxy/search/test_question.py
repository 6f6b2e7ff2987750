"""The text that a search asks for: which queries give text, which give none, and which aren't ours to rerank."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.field_types import read_caps
from es_rerank.proxy.search.clauses import (
    BODY_TEXT,
    FIELD_TEXT,
    INNER_QUERY,
    MODEL_TEXT,
    OWN_ORDER,
    SPANS,
    SYNTAX_TEXT,
    WORD_PARTS,
)
from es_rerank.proxy.search.question import (
    MAX_FIELDS,
    MAX_WORDS,
    FieldChoice,
    question_in_url,
)
from es_rerank.rules.rule import MAX_FIELD_CHARACTERS
from tests.proxy.search.calls import find_question
from tests.proxy.search.real_bodies import REAL_BODIES, RealBody

if TYPE_CHECKING:
    from collections.abc import Callable

FOX = {"match": {"text": "fox"}}
DOG = {"match": {"text": "dog"}}
KINDS = st.sampled_from(
    [
        *FIELD_TEXT,
        *BODY_TEXT,
        *SYNTAX_TEXT,
        *SPANS,
        *WORD_PARTS,
        *INNER_QUERY,
        "hybrid",
        *MODEL_TEXT,
        *OWN_ORDER,
        *(key for keys in INNER_QUERY.values() for key in keys),
        *("span_term", "intervals", "all_of", "terms_set", "terms", "term", "more_like_this", "like", "clauses"),
        *("query", "text", "fields", "boost", "value"),
    ]
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
        {"more_like_this": {"like": {"_id": "1"}}},
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


@pytest.mark.parametrize("kind", sorted({"hybrid", *MODEL_TEXT, *OWN_ORDER}))
def test_one_scoring_query_of_another_kind_makes_the_search_not_ours(kind: str) -> None:
    """A clause that scores by something other than words counts wherever it scores, and only there."""
    other = {kind: {"queries": FOX}}
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


@given(ANY_QUERY, st.booleans())
def test_any_json_has_a_question(query: Any, is_text: bool) -> None:
    """Whatever stands under `query`, and whatever its fields are, finding its text never fails."""
    question = find_question(query)
    in_doubt = question.fields_in_doubt()
    for text in (question.text, question.text_given(dict.fromkeys(in_doubt, is_text))):
        assert text == " ".join(text.split())
    assert len(in_doubt) <= MAX_FIELDS
    question.choosing(FieldChoice(only=("text", "q*"), ignored=("*.*",)))


@given(ANY_QUERY, st.booleans())
def test_types_take_no_question_away(query: Any, is_text: bool) -> None:
    """A search that has a question while nothing is known of its fields has one whatever they are."""
    question = find_question(query)
    assert not question.text or question.text_given(dict.fromkeys(question.fields_in_doubt(), is_text))


@pytest.mark.parametrize("body", REAL_BODIES, ids=lambda body: body.name)
def test_searches_of_real_front_ends_ask_what_their_users_typed(body: RealBody) -> None:
    """All of a user's words are there, in their order, and nothing else, once the mapping is known."""
    question = find_question(body.query)
    asked = question.fields_in_doubt()
    caps: dict[str, Any] = {"fields": {name: {body.types.get(name, "text"): {}} for name in asked}}
    assert question.text_given(read_caps(json.dumps(caps).encode())) == body.words


@given(st.sampled_from(REAL_BODIES), st.data())
def test_only_fields_in_doubt_change_a_question(body: RealBody, data: st.DataObject) -> None:
    """What is known of other fields makes no difference, so no search has to ask about them."""
    question = find_question(body.query)
    in_doubt = question.fields_in_doubt()
    known = data.draw(st.dictionaries(st.sampled_from(in_doubt or ("",)), st.booleans()))
    names = [name for name in ("title", "text", "name", "made up") if name not in in_doubt]
    others = data.draw(st.dictionaries(st.sampled_from(names), st.booleans()))
    assert question.text_given({**known, **others}) == question.text_given(known)


KEYWORD = {"category": False, "text": True}
SHOES = {"match": {"category": "shoes"}}


def test_a_clause_on_a_field_that_is_no_text_does_not_count() -> None:
    """A keyword in a `must` is no part of the question once that is known; until then it is."""
    question = find_question({"bool": {"must": [SHOES, FOX]}})
    assert question.fields_in_doubt() == ("category", "text")
    assert question.text == "shoes fox"
    assert question.text_given(KEYWORD) == "fox"
    assert question.text_given({"category": False}) == "fox"


def test_a_question_of_values_alone_is_better_than_none() -> None:
    """Where no clause is on a text, all count as if nothing were known."""
    query = {"bool": {"must": [SHOES, {"match": {"brand": "acme"}}]}}
    assert find_question(query).text_given({"category": False, "brand": False}) == "shoes acme"


def test_one_field_that_is_a_text_is_enough() -> None:
    """A text that is sought in several fields counts if one of them is a text."""
    query = {"bool": {"must": [{"multi_match": {"query": "fox", "fields": ["category", "text^2"]}}, SHOES]}}
    assert find_question(query).text_given(KEYWORD) == "fox"


@pytest.mark.parametrize(
    "query",
    [
        FOX,
        {"bool": {"must": [FOX, {"match": {"title": "fox"}}]}},
        {"multi_match": {"query": "quick fox", "fields": ["category", "text"]}},
        {"query_string": {"query": "quick fox", "fields": ["text"]}},
        {"query_string": {"query": "text:(quick fox)"}},
        {"bool": {"must": [FOX], "filter": [SHOES]}},
        {"bool": {"must": [{"multi_match": {"query": "a", "fields": ["t*"]}}, {"query_string": {"query": "b"}}]}},
        {"match_all": {}},
        {"knn": {"field": "v"}},
    ],
)
def test_a_single_text_asks_for_no_types(query: dict[str, Any]) -> None:
    """No type can change a question that is one text, so nobody has to be asked."""
    assert find_question(query).fields_in_doubt() == ()


def test_as_many_fields_as_the_engine_can_be_asked_about_are_in_doubt() -> None:
    """Patterns and names with commas are left out, long names too, and of many fields the first are taken."""
    many = [{"match": {f"f{number}": f"word{number}"}} for number in range(MAX_FIELDS + 5)]
    odd = [{"match": {name: name}} for name in ("a*", "a,b", "", "x" * (MAX_FIELD_CHARACTERS + 1))]
    found = find_question({"bool": {"should": [*odd, *many]}}).fields_in_doubt()
    assert found == tuple(f"f{number}" for number in range(MAX_FIELDS))


@pytest.mark.parametrize("boost", [0, 0.0, "0", "0.0"])
@pytest.mark.parametrize(
    "silent",
    [
        lambda boost: {"match": {"text": {"query": "dog", "boost": boost}}},
        lambda boost: {"multi_match": {"query": "dog", "fields": ["text"], "boost": boost}},
        lambda boost: {"multi_match": {"query": "dog", "fields": [f"text^{boost}", f"title^{boost}"]}},
        lambda boost: {"query_string": {"query": "dog", "boost": boost}},
        lambda boost: {"query_string": {"query": "dog", "fields": [f"text^{boost}"]}},
        lambda boost: {"bool": {"must": [DOG], "boost": boost}},
        lambda boost: {"constant_score": {"filter": DOG, "boost": boost}},
        lambda boost: {"span_term": {"text": {"value": "dog", "boost": boost}}},
        lambda boost: {"span_near": {"clauses": [{"span_term": {"text": "dog"}}], "boost": boost}},
        lambda boost: {"intervals": {"text": {"match": {"query": "dog"}, "boost": boost}}},
        lambda boost: {"more_like_this": {"like": "dog", "boost": boost}},
    ],
)
def test_a_clause_with_a_boost_of_0_leaves_no_words(silent: Callable[[Any], dict[str, Any]], boost: Any) -> None:
    """What scores nothing is no part of the question, wherever the boost stands."""
    assert find_question({"bool": {"must": [FOX, silent(boost)]}}).text == "fox"
    assert find_question({"bool": {"must": [FOX, silent(0.5)]}}).text == "fox dog"


def test_a_field_with_a_boost_of_0_is_none_of_a_query() -> None:
    """Of several fields, those that score something say whether the text counts."""
    query = {"bool": {"must": [FOX, {"multi_match": {"query": "shoes", "fields": ["text^0", "category^3"]}}]}}
    assert find_question(query).text_given(KEYWORD) == "fox"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"span_term": {"text": "fox"}}, "fox"),
        ({"span_term": {"text": {"term": "fox"}}}, "fox"),
        ({"span_or": {"clauses": [{"span_term": {"text": "quick"}}, {"span_term": {"text": "fox"}}]}}, "quick fox"),
        ({"span_first": {"match": {"span_term": {"text": "fox"}}, "end": 3}}, "fox"),
        ({"span_not": {"include": {"span_term": {"text": "fox"}}, "exclude": {"span_term": {"text": "dog"}}}}, "fox"),
        (
            {"span_containing": {"big": {"span_term": {"text": "quick"}}, "little": {"span_term": {"text": "fox"}}}},
            "quick fox",
        ),
        ({"span_multi": {"match": {"wildcard": {"text": {"value": "fo*"}}}}}, "fo"),
        ({"span_multi": {"match": {"regexp": {"text": "fo.*"}}}}, ""),
        ({"field_masking_span": {"query": {"span_term": {"text.stems": "fox"}}, "field": "text"}}, "fox"),
        ({"intervals": {"text": {"match": {"query": "quick fox", "filter": {"not_containing": FOX}}}}}, "quick fox"),
        ({"intervals": {"text": {"prefix": {"prefix": "fo"}}}}, "fo"),
        ({"intervals": {"text": {"wildcard": {"pattern": "f?x"}}}}, "f x"),
        ({"intervals": {"text": {"fuzzy": {"term": "fxo"}}}}, "fxo"),
        ({"more_like_this": {"like": "quick fox"}}, "quick fox"),
        ({"more_like_this": {"like": ["quick", {"_id": "1"}, "fox"], "unlike": "dog"}}, "quick fox"),
        ({"common": {"text": {"query": "quick fox", "cutoff_frequency": 0.001}}}, "quick fox"),
    ],
)
def test_queries_of_positions_and_of_likeness_are_read(query: dict[str, Any], text: str) -> None:
    """Spans, intervals and a text to be like give their words in the order of the request."""
    assert find_question(query).text == text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"bool": {"should": [{"term": {"text": "quick"}}, {"term": {"text": {"value": "fox"}}}]}}, "quick fox"),
        ({"bool": {"should": {"term": {"text": "fox"}}}}, "fox"),
        ({"terms_set": {"text": {"terms": ["quick", "fox"]}}}, "quick fox"),
        ({"prefix": {"text": "fo"}}, "fo"),
        ({"wildcard": {"text": {"value": "*quick?fox*"}}}, "quick fox"),
        ({"fuzzy": {"text": {"value": "fox"}}}, "fox"),
        ({"bool": {"must": [FOX, {"prefix": {"text": "do"}}]}}, "fox do"),
        ({"bool": {"must": [{"match": {"text": "Quick Foxes"}}, {"wildcard": {"text": "*fox*"}}]}}, "Quick Foxes"),
        ({"bool": {"must": [FOX], "should": [{"term": {"text": "red"}}]}}, "fox"),
        ({"bool": {"must": [FOX], "should": [{"term": {"text": "red"}}, {"term": {"text": "old"}}]}}, "fox red old"),
        ({"bool": {"should": [{"term": {"text": "red"}}, {"term": {"category": "shoes"}}]}}, ""),
        ({"bool": {"should": [{"term": {"text": "red"}}, DOG]}}, "dog"),
        ({"bool": {"must": [{"term": {"text": "red"}}, {"term": {"text": "old"}}]}}, ""),
        ({"bool": {"should": [{"term": {"category": "shoes"}}, {"term": {"category": "boots"}}]}}, ""),
        ({"terms_set": {"category": {"terms": ["shoes", "boots"]}}}, ""),
        ({"prefix": {"category": "sho"}}, ""),
    ],
)
def test_words_of_the_index_count_where_the_field_is_a_text(query: dict[str, Any], text: str) -> None:
    """Terms in place of a text are read if their field is known to be one, and add only what no text has already."""
    question = find_question(query)
    assert question.text_given(KEYWORD) == text
    assert question.text in ("", *(clause.words for clause in question.clauses if clause.sort == "text"))


def test_many_words_of_the_index_are_cut() -> None:
    """However many terms a query has, only so many are compared with its texts."""
    terms = [f"w{number}x" for number in range(MAX_WORDS * 4)]
    question = find_question({"terms_set": {"text": {"terms": terms}}})
    assert question.text_given(KEYWORD) == " ".join(terms[:MAX_WORDS])


def test_values_of_fields_in_a_query_string_do_not_count() -> None:
    """`lang:en` and the like leave no words behind where the field is no text, in a body as in the URL."""
    known = {"lang": False, "year": False, "title": True}
    words = "lang:en (title:quick OR year:2024) fox"
    assert find_question({"query_string": {"query": words}}).text_given(known) == "quick fox"
    assert question_in_url(words).text_given(known) == "quick fox"
    assert question_in_url(words, "lang").text_given(known) == "quick"
    assert question_in_url(words).text == "en quick 2024 fox"


@pytest.mark.parametrize(
    ("only", "ignored", "text"),
    [
        ((), (), "fox shoes acme any"),
        (("text",), (), "fox any"),
        (("text", "brand"), (), "fox acme any"),
        (("brand",), (), "acme any"),
        (("brand.name",), (), "acme any"),
        (("brand.na*",), (), "acme any"),
        (("*",), (), "fox shoes acme any"),
        (("bran",), (), "any"),
        ((), ("category",), "fox acme any"),
        ((), ("bra*",), "fox shoes any"),
        ((), ("*r*",), "fox any"),
        (("brand", "text"), ("text",), "acme any"),
    ],
)
def test_a_rule_says_which_fields_count(only: tuple[str, ...], ignored: tuple[str, ...], text: str) -> None:
    """A name means what lies below it too; a text without fields of its own, which searches all of them, counts."""
    clauses = [FOX, SHOES, {"match": {"brand.name": "acme"}}, {"simple_query_string": {"query": "any"}}]
    question = find_question({"bool": {"must": clauses}}).choosing(FieldChoice(only=only, ignored=ignored))
    assert question.text == text
    if only:
        assert not question.fields_in_doubt()
        assert question.text_given({"brand.name": False, "text": False, "category": False}) == text


def test_a_rules_choice_is_final() -> None:
    """Where none of the chosen fields is asked, there is no question."""
    assert not find_question(FOX).choosing(FieldChoice(only=("title",))).text
    assert not find_question(FOX).choosing(FieldChoice(ignored=("text",))).text


def test_a_persons_own_words_take_the_place_of_all_others() -> None:
    """A text that is given is the question, whatever the query says; what is not ours stays so."""
    assert find_question({"bool": {"must": [FOX, SHOES]}}).asking(" my  own\nwords ").text == "my own words"
    assert find_question({"match_all": {}}).asking("words").text == "words"
    assert find_question({"knn": {}}).asking("words").not_bm25


def test_no_pattern_takes_long() -> None:
    """A pattern of many stars is tried on long names without trying every way to match it."""
    field = "a" * (MAX_FIELD_CHARACTERS // 2) + "b" * (MAX_FIELD_CHARACTERS // 2)
    question = find_question({"bool": {"must": [{"match": {field: "fox"}}] * 200}})
    assert question.choosing(FieldChoice(ignored=("*a*a*a*a*a*a*a*a*b*a*b*a*",))).text == "fox"
    deep = ".".join("a" * 50_000)
    assert not find_question({"match": {deep: "fox"}}).choosing(FieldChoice(only=("a",))).text


@pytest.mark.parametrize(
    ("texts", "question"),
    [
        (("red", "sho", "red sho"), "red sho"),
        (("red sho", "red", "sho"), "red sho"),
        (("Red Shoes", "red shoes"), "Red Shoes"),
        (("red shoes", "Red", "blue"), "red shoes blue"),
        (("red", "redder"), "red redder"),
        (("red shoes", "shoes red"), "red shoes shoes red"),
        (("a b", "b c", "a b c"), "a b c"),
    ],
)
def test_a_text_that_is_a_part_of_another_adds_nothing(texts: tuple[str, ...], question: str) -> None:
    """Front ends ask for each word and for all of them: whole words that stand in a longer text are not repeated."""
    assert find_question({"bool": {"should": [{"match": {"text": text}} for text in texts]}}).text == question


def test_many_and_long_texts_are_compared_quickly() -> None:
    """Comparing texts takes no longer than reading them, however many and long they are."""
    long = [{"match": {"text": f"{number} {'word ' * 20_000}"}} for number in range(20)]
    short = [{"match": {"text": f"w{number} x"}} for number in range(20_000)]
    terms = {"terms_set": {"text": {"terms": [f"t{number}" for number in range(50_000)]}}}
    question = find_question({"bool": {"must": [*long, *short, terms]}})
    began_s = time.process_time()
    assert len(question.text_given(KEYWORD).split()) > 400_000
    assert time.process_time() - began_s < 5.0
