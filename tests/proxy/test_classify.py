"""Which searches are reranked, and the reason word of every one that isn't."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.call import SearchCall, read_call
from es_rerank.proxy.classify import (
    FOREIGN_BODY_KEYS,
    FOREIGN_PARAMETERS,
    Relay,
    Rerank,
    Stage,
    classify,
    matching_rule,
)
from es_rerank.proxy.control import Controls
from es_rerank.records import Request
from es_rerank.settings import MinilmSettings, RuleSettings, VllmSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RULE = RuleSettings(name="notes", indices=("notes*",), fields=("text",), window=50, alpha=0.3, method="minmax")
MINILM = MinilmSettings()
THINKER = VllmSettings(kind="vllm", model="m", max_think_tokens=64)
FOX = {"match": {"text": "quick fox"}}
HYBRID = {"hybrid": {"queries": [FOX]}}
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["query", "from", "size", "sort", "stored_fields", "_source", "fields", *FOREIGN_BODY_KEYS])


def call_of(search: Any = None, query: str = "", *headers: tuple[bytes, bytes]) -> SearchCall:
    """The call of a search with this body and this raw query string."""
    request = Request(
        method="POST",
        target=b"/notes/_search" + (b"?" + query.encode() if query else b""),
        headers=(*headers, (b"content-type", b"application/json")),
        body=None if search is None else json.dumps(search).encode(),
    )
    return read_call(request, "notes", max_bytes=1_000_000)


def decide(search: Any = None, query: str = "", *headers: tuple[bytes, bytes]) -> Rerank | Relay:
    """What becomes of that search under the rule."""
    return classify(call_of(search, query, *headers), Controls(), RULE, MINILM)


def test_a_text_search_is_reranked_as_the_rule_says() -> None:
    """A search for words, best first, is reranked by its rule, and its page is known."""
    assert decide({"query": FOX, "from": 20}) == Rerank(
        rule=RULE,
        question="quick fox",
        instruction=RULE.instruction,
        window=50,
        alpha=0.3,
        method="minmax",
        mode=None,
        stages=(Stage(budget_tokens=0),),
        score="paper",
        keep_reasoning=False,
        page_from=20,
        page_size=10,
    )


@pytest.mark.parametrize(
    ("asked", "stages"),
    [
        ({}, (Stage(budget_tokens=64),)),
        ({"budget_tokens": 9}, (Stage(budget_tokens=9),)),
        ({"mode": "direct"}, (Stage(budget_tokens=0),)),
        ({"mode": "cascade"}, (Stage(budget_tokens=0), Stage(budget_tokens=64, top=20))),
        ({"mode": "cascade", "think_top": 3}, (Stage(budget_tokens=0), Stage(budget_tokens=64, top=3))),
    ],
)
def test_the_mode_is_stages(asked: Any, stages: tuple[Stage, ...]) -> None:
    """Think is one round of thinking, direct one without, cascade the one and then the other for the best."""
    decision = classify(call_of({"query": FOX}), Controls(**asked), RULE, THINKER)
    assert isinstance(decision, Rerank)
    assert decision.stages == stages
    assert decision.mode == asked.get("mode", "think")


def test_what_is_asked_of_thinking_goes_before_the_rule() -> None:
    """Score, instruction and reasoning of the request win; the rule's budget holds where it has one."""
    rule = RULE.model_copy(update={"budget_tokens": 32, "score": "expected"})
    plain = classify(call_of({"query": FOX}), Controls(), rule, THINKER)
    assert isinstance(plain, Rerank)
    assert (plain.stages, plain.score, plain.keep_reasoning) == ((Stage(budget_tokens=32),), "expected", False)
    controls = Controls(score="paper", instruction="Find it.", include=frozenset({"reasoning"}))
    asked = classify(call_of({"query": FOX}), controls, rule, THINKER)
    assert isinstance(asked, Rerank)
    assert (asked.score, asked.instruction, asked.keep_reasoning) == ("paper", "Find it.", True)


def test_a_request_may_set_the_tuning_itself() -> None:
    """Window, alpha and method of the request go before the rule's, an alpha of 0 too."""
    controls = Controls(window=5, alpha=0, method="rrf", deadline_s=1.0, include=frozenset({"status"}))
    decision = classify(call_of({"query": FOX}), controls, RULE, MINILM)
    assert isinstance(decision, Rerank)
    assert (decision.window, decision.alpha, decision.method) == (5, 0, "rrf")


def test_a_uri_search_is_reranked() -> None:
    """`q` alone is a search too, its syntax stripped."""
    decision = decide(None, "q=text:quick%20AND+fox&size=3")
    assert isinstance(decision, Rerank)
    assert (decision.question, decision.page_size) == ("quick fox", 3)


def test_q_takes_the_place_of_the_query() -> None:
    """Where both are there the engines search for `q`, so that is the question."""
    decision = decide({"query": HYBRID}, "q=dog")
    assert isinstance(decision, Rerank)
    assert decision.question == "dog"
    assert decide({"query": FOX}, "q=") == Relay("no_text_query")


@pytest.mark.parametrize(
    ("reason", "search", "query"),
    [
        ("scroll", {"query": FOX}, "scroll=1m"),
        ("scroll", {"query": FOX}, "scroll"),
        ("scroll", {"query": FOX}, "pretty;scroll=1m"),
        ("scroll", {"query": FOX, "scroll": "1m"}, ""),
        ("search_after", {"query": FOX, "search_after": [1]}, ""),
        ("slice", {"query": FOX, "slice": {"id": 0, "max": 2}}, ""),
        ("pit", {"query": FOX, "pit": {"id": "x"}}, ""),
        ("retriever", {"retriever": {"standard": {"query": FOX}}}, ""),
        ("knn", {"query": FOX, "knn": {"field": "v"}}, ""),
        ("rank", {"query": FOX, "rank": {"rrf": {}}}, ""),
        ("sub_searches", {"sub_searches": [{"query": FOX}]}, ""),
        ("rescore", {"query": FOX, "rescore": {"query": {}}}, ""),
        ("rescore", {"query": FOX, "rescore": [{"query": {}}]}, ""),
        ("terminate_after", {"query": FOX, "terminate_after": 5}, ""),
        ("terminate_after", {"query": FOX}, "terminate_after=5"),
        ("search_pipeline", {"query": FOX, "search_pipeline": {"response_processors": []}}, ""),
        ("search_pipeline", {"query": FOX}, "search_pipeline=mine"),
        ("explain", {"query": FOX, "explain": True}, ""),
        ("explain", {"query": FOX, "explain": "true"}, ""),
        ("explain", {"query": FOX}, "explain=true"),
        ("stored_fields", {"query": FOX, "stored_fields": "_none_"}, ""),
        ("stored_fields", {"query": FOX, "stored_fields": ["_none_"]}, ""),
        ("stored_fields", {"query": FOX}, "stored_fields=_none_"),
        ("format", {"query": FOX}, "format=yaml"),
        ("unreadable_page", {"query": FOX, "size": "10"}, "from=x"),
        ("unreadable_page", {"query": FOX}, "size="),
        ("unreadable_page", {"query": FOX}, "size=-1"),
        ("unreadable_page", {"query": FOX}, "size=" + "9" * 5000),
        ("unreadable_page", {"query": FOX}, "size=%D9%A3"),
        ("unreadable_page", {"query": FOX, "size": -1}, ""),
        ("unreadable_page", {"query": FOX, "size": 2.0}, ""),
        ("unreadable_page", {"query": FOX, "size": None}, ""),
        ("unreadable_page", {"query": FOX, "size": True}, ""),
        ("unreadable_page", {"query": FOX, "from": [1]}, ""),
        ("unreadable_page", {"query": FOX, "size": 2**31}, ""),
        ("size_zero", {"query": FOX, "size": 0}, ""),
        ("size_zero", {"query": FOX, "size": 5}, "size=0"),
        ("past_window", {"query": FOX, "from": 50}, ""),
        ("past_window", {"query": FOX, "from": 0}, "from=51"),
        ("not_bm25", {"query": HYBRID}, ""),
        ("not_bm25", {"query": {"bool": {"must": [FOX], "should": {"knn": {"field": "v"}}}}}, ""),
        ("no_text_query", None, ""),
        ("no_text_query", {}, ""),
        ("no_text_query", {"query": {"match_all": {}}}, ""),
        ("no_text_query", {"query": {"more_like_this": {"like": "fox"}}}, ""),
        ("no_text_query", {"suggest": {"s": {"text": "fxo", "term": {"field": "text"}}}}, ""),
        ("no_text_query", {"query": {"bool": {"filter": [FOX]}}}, ""),
        ("no_text_query", None, "q=-fox"),
    ],
)
def test_searches_that_are_not_ours_go_through(reason: str, search: Any, query: str) -> None:
    """A search with an order, first stage or paging of its own, or with nothing to ask, names why it goes through."""
    assert decide(search, query) == Relay(reason)


@pytest.mark.parametrize(
    ("search", "query"),
    [
        ({"query": FOX, "explain": False, "terminate_after": 0, "rescore": []}, ""),
        ({"query": FOX}, "explain=false&terminate_after=0"),
        ({"query": FOX, "stored_fields": ["title"]}, ""),
        ({"query": FOX, "size": "5", "from": 0}, "format=json"),
        ({"query": FOX, "size": 9_999}, "from=49"),
        ({"query": FOX, "min_score": 0.5, "track_scores": True, "profile": True}, "rest_total_hits_as_int=true"),
        ({"query": FOX, "aggs": {"a": {}}, "post_filter": {}, "collapse": {"field": "year"}}, "typed_keys"),
        ({"query": FOX, "suggest": {}, "highlight": {}, "indices_boost": []}, "search_type=dfs_query_then_fetch"),
        ({"query": FOX, "ext": {"other": {}}, "unknown": 1}, "unknown=2"),
    ],
)
def test_what_does_not_change_the_order_is_no_hindrance(search: Any, query: str) -> None:
    """Features that are off, that only add to the answer, or that we don't know leave a search ours."""
    assert isinstance(decide(search, query), Rerank)


@pytest.mark.parametrize(
    ("sort", "query"),
    [
        (None, "sort="),
        (None, "sort=_score"),
        (None, "sort=_score:desc"),
        (None, "sort=_score:DESC,year"),
        (None, "sort=_score:&size=2"),
        (None, "sort=year&sort=_score"),
        ("_score", ""),
        (["_score"], ""),
        ([], ""),
        ({}, ""),
        ([{}], ""),
        ([], "sort=_score,year:asc"),
        (["_score", {"year": "desc"}], ""),
        (["_score"], "sort=year:asc"),
        ([{"_score": "desc"}, "year"], ""),
        ({"_score": "DESC"}, ""),
        ({"_score": {}}, ""),
        ({"_score": {"order": "desc"}}, ""),
        ({"_score": "desc", "year": "asc"}, ""),
    ],
)
def test_best_first_is_reranked_however_it_is_spelt(sort: Any, query: str) -> None:
    """No sort, or `_score` descending before all else, in body and URL together, is an order by relevance."""
    search = {"query": FOX} if sort is None else {"query": FOX, "sort": sort}
    assert isinstance(decide(search, query), Rerank)


@pytest.mark.parametrize(
    ("sort", "query"),
    [
        (None, "sort=year"),
        (None, "sort=year:asc,_score"),
        (None, "sort=_score:asc"),
        (None, "sort=_score&sort=year"),
        (None, "sort=%20_score"),
        ("year", ""),
        (["year", "_score"], ""),
        (["year"], "sort=_score"),
        (["_doc"], ""),
        ({"_score": "asc"}, ""),
        ([{"_score": {"order": "ASC"}}], ""),
        ([{"_score": {"order": None}}], ""),
        ({"_score": None}, ""),
        ({"_score": True}, ""),
        ({"year": "asc", "_score": "desc"}, ""),
        ([["_score"]], ""),
        ([{"_geo_distance": {}}], ""),
        (["_score:desc"], ""),
        (7, ""),
    ],
)
def test_any_other_order_is_left_alone(sort: Any, query: str) -> None:
    """Anything else first, or what the engines refuse as a sort, goes through; the URL's keys follow the body's."""
    search = {"query": FOX} if sort is None else {"query": FOX, "sort": sort}
    assert decide(search, query) == Relay("sort")


def test_a_rule_s_own_reason_comes_first() -> None:
    """A search that no rule covers says so, whatever else it is."""
    assert classify(call_of([]), Controls(rerank=False), Relay("no_rule"), MINILM) == Relay("no_rule")


def test_a_request_may_be_left_alone() -> None:
    """Asked not to, we don't."""
    assert classify(call_of({"query": FOX}), Controls(rerank=False), RULE, MINILM) == Relay("asked_off")


def test_an_unreadable_body_goes_through() -> None:
    """What we can't read, the engine judges."""
    assert decide([{"query": FOX}]) == Relay("unreadable_body")


async def test_a_body_too_large_to_hold_goes_through() -> None:
    """A body that comes as a stream says why it wasn't read."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"{}"

    request = Request(method="POST", target=b"/notes/_search", headers=(), body=stream())
    call = read_call(request, "notes", max_bytes=10)
    assert classify(call, Controls(), RULE, MINILM) == Relay("body_too_large")


def test_kibana_s_own_searches_go_through() -> None:
    """Kibana marks the requests of its pages; Dev Tools sends no such header."""
    assert decide({"query": FOX}, "", (b"X-Elastic-Product-Origin", b"kibana")) == Relay("product_origin")


@pytest.mark.parametrize(
    ("accept", "reranked"),
    [
        (b"*/*", True),
        (b"application/json", True),
        (b"application/vnd.elasticsearch+json;compatible-with=9", True),
        (b"text/html, Application/*;q=0.8", True),
        (b"application/yaml", False),
        (b"application/vnd.elasticsearch+cbor;compatible-with=8", False),
        (b"application/smile", False),
    ],
)
def test_only_json_is_written(accept: bytes, reranked: bool) -> None:
    """A client that accepts no JSON gets the engine's own answer."""
    assert isinstance(decide({"query": FOX}, "", (b"accept", accept)), Rerank) is reranked
    assert reranked or decide({"query": FOX}, "", (b"accept", accept)) == Relay("format")


RULES = (
    RuleSettings(name="notes", indices=("notes", "notes-*"), fields=("text",)),
    RuleSettings(name="logs", indices=("logs-*", "eu:logs-*", "<logs-*"), fields=("text",)),
)
EVERYTHING = (*RULES, RuleSettings(name="rest", indices=("*",), fields=("text",)))


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("notes", "notes"),
        ("notes-2024", "notes"),
        ("notes-*", "notes"),
        ("notes,notes-2024,-notes-old", "notes"),
        ("notes,-.kibana", "notes"),
        ("logs-*", "logs"),
        ("eu:logs-1", "logs"),
        ("<logs-{now/d{yyyy.MM.dd|+12:00}}>", "logs"),
    ],
)
def test_one_rule_for_all_named_indices(expression: str, name: str) -> None:
    """Each named index must fall under the same rule; exclusions name none."""
    rule = matching_rule(expression, RULES)
    assert isinstance(rule, RuleSettings)
    assert rule.name == name


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("other", "no_rule"),
        ("", "no_rule"),
        ("_all", "no_rule"),
        ("*", "no_rule"),
        ("*,-notes", "no_rule"),
        ("-notes", "no_rule"),
        ("notes,other", "no_rule"),
        ("Notes", "no_rule"),
        ("us:logs-1", "no_rule"),
        ("notes,logs-1", "several_rules"),
        (".kibana", "system_index"),
        ("notes,.kibana_1", "system_index"),
        ("eu:.kibana", "system_index"),
        ("<.monitoring-{now/d}>", "system_index"),
        ("eu:<.monitoring-{now/d}>", "system_index"),
    ],
)
def test_no_single_rule_means_no_reranking(expression: str, reason: str) -> None:
    """An index without a rule, two rules, or a system index anywhere in the expression: it goes through."""
    assert matching_rule(expression, RULES) == Relay(reason)


@pytest.mark.parametrize("expression", ["", "_all", "*", "other", "*,-notes"])
def test_a_catch_all_covers_every_index(expression: str) -> None:
    """No index, `_all` and `*` fall under a rule for `*` alone."""
    assert matching_rule(expression, EVERYTHING) == EVERYTHING[-1]


def test_a_catch_all_covers_no_system_index() -> None:
    """Not even a rule for everything reaches a system index that is named."""
    assert matching_rule(".kibana", EVERYTHING) == Relay("system_index")
    assert matching_rule("eu:.kibana", EVERYTHING) == Relay("system_index")
    assert matching_rule("notes,other", EVERYTHING) == Relay("several_rules")


@given(
    st.dictionaries(KEYS | st.text(max_size=5), SOME_JSON, max_size=6) | SOME_JSON,
    st.dictionaries(
        st.sampled_from(["q", "from", "size", "sort", "format", "stored_fields", *FOREIGN_PARAMETERS]),
        st.text(max_size=6),
        max_size=4,
    ),
)
def test_any_search_is_decided(search: Any, parameters: dict[str, str]) -> None:
    """Whatever JSON and whatever parameters come, the search is reranked or has a reason of lower-case words."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    decision = decide(search, query)
    if isinstance(decision, Relay):
        assert decision.reason.isidentifier()
        assert decision.reason == decision.reason.lower()
    else:
        assert decision.question
        assert decision.page_size > 0
        assert 0 <= decision.page_from < decision.window
