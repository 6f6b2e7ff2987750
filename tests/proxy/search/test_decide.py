"""Which searches are reranked, and the reason word of every one that isn't."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.fusion.rank import Recipe
from es_rerank.proxy.scoring.ask import Scoring, Stage
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import take_controls
from es_rerank.proxy.search.cursor import Cursor
from es_rerank.proxy.search.decide import FOREIGN_BODY_KEYS, FOREIGN_PARAMETERS, Page, Relay, Rerank, decide, with_types
from es_rerank.reasons import OUTCOMES
from es_rerank.records import Request
from es_rerank.rules.book import RuleBook, make_book
from es_rerank.rules.rule import Rule
from es_rerank.scorers.e5 import E5Settings
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.scorers.vllm import VllmSettings
from es_rerank.tables import LimitSettings
from es_rerank.texts import TextSpec
from tests.proxy.search.calls import FOX, MAX_BYTES, NOT_OURS, call_of, find_question, template_call

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.reasons import Reason
    from es_rerank.scorers.kinds import ScorerSettings

RULE = Rule(name="notes", indices=("notes*",), fields=("text",), window=50, alpha=0.3, method="minmax")
LOGS = Rule(name="logs", indices=("logs*",), fields=("text",))
SCORERS: dict[str, ScorerSettings] = {
    "minilm": MinilmSettings(),
    "e5": E5Settings(kind="e5"),
    "llm": VllmSettings(kind="vllm", model="m", max_think_tokens=64),
}


def book_of(*rules: Rule) -> RuleBook:
    """A book of these rules, under the limits that hold by default."""
    return make_book(rules, SCORERS, LimitSettings())


BOOK = book_of(RULE, LOGS)
THINKING = RULE.model_copy(update={"scorer": "llm"})
HYBRID = {"hybrid": {"queries": [FOX]}}
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["query", "from", "size", "sort", "stored_fields", "_source", "fields", *FOREIGN_BODY_KEYS])


def decided(search: Any = None, query: str = "", *headers: tuple[bytes, bytes]) -> Rerank | Relay:
    """The decision for that search under the rule."""
    return decide(call_of(search, query, *headers), {}, BOOK)


def decided_for(asked: dict[str, Any], rule: Rule = RULE) -> Rerank:
    """The decision to rerank a search for a fox that asks this, under this rule."""
    decision = decide(call_of({"query": FOX}), asked, book_of(rule))
    assert isinstance(decision, Rerank)
    return decision


def relay(reason: Reason) -> Relay:
    """The decision that a search under the rule goes through, for this reason."""
    return Relay(reason=reason, rule="notes")


def test_a_text_search_is_reranked_as_the_rule_says() -> None:
    """A search for words, best first, is reranked by its rule, and its page is known."""
    assert decided({"query": FOX, "from": 20}) == Rerank(
        rule="notes",
        scorer="minilm",
        text=TextSpec(fields=("text",)),
        window=50,
        page=Page(start=20, size=10),
        question=find_question(FOX),
        scoring=Scoring(
            fingerprint=MinilmSettings().fingerprint(),
            question="quick fox",
            instruction="",
            stages=(Stage(budget_tokens=0),),
            score="paper",
            keep_reasoning=False,
        ),
        recipe=Recipe(method="minmax", alpha=0.3, score="paper"),
        language="en",
        mode=None,
        deadline_s=2.0,
    )


def test_an_instruction_goes_to_a_scorer_that_reads_it() -> None:
    """A scorer that reads instructions gets the rule's; for one that doesn't, the instruction makes no difference."""
    assert decided_for({}, THINKING).scoring.instruction == RULE.instruction
    assert decided_for({"instruction": "Find it."}) == decided_for({})


@pytest.mark.parametrize(
    ("scorer", "alpha", "language"), [("minilm", 0.3, "en"), ("e5", 0.3, None), ("llm", 0.2, None)]
)
def test_alpha_and_language_are_the_scorers_unless_the_rule_has_its_own(
    scorer: str, alpha: float, language: str | None
) -> None:
    """A rule that says nothing of them takes its scorer's; a request's alpha goes before the rule's."""
    plain = RULE.model_copy(update={"scorer": scorer, "alpha": None})
    said = plain.model_copy(update={"alpha": 0.45, "any_language": True})
    assert (decided_for({}, plain).recipe.alpha, decided_for({}, plain).language) == (alpha, language)
    assert (decided_for({}, said).recipe.alpha, decided_for({}, said).language) == (0.45, None)
    assert decided_for({"alpha": 0.9}, said).recipe.alpha == 0.9


def test_the_text_is_the_rule_s() -> None:
    """The rule says what text of a document is scored, by fields or by a template."""
    rule = RULE.model_copy(update={"fields": (), "template": "{title}: {text}"})
    assert decided_for({}, rule).text == TextSpec(template="{title}: {text}")


def test_the_deadline_is_the_request_s_or_the_rule_s_or_that_of_all() -> None:
    """The request's deadline counts, else the rule's, else that of `limits`."""
    own = RULE.model_copy(update={"deadline_s": 3.0})
    assert decided_for({}).deadline_s == LimitSettings().deadline_s
    assert decided_for({}, own).deadline_s == 3.0
    assert decided_for({"deadline_s": 0.5}, own).deadline_s == 0.5


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
    """`think` is a stage of thinking, `direct` a stage without, `cascade` a direct stage and thinking for the best."""
    decision = decided_for(asked, THINKING)
    assert decision.scoring.stages == stages
    assert decision.mode == asked.get("mode", "think")


def test_what_is_asked_of_thinking_goes_before_the_rule() -> None:
    """Score, instruction and reasoning of the request win over the rule's; the rule's budget holds if it has one."""
    rule = THINKING.model_copy(update={"budget_tokens": 32, "score": "expected"})
    plain = decided_for({}, rule).scoring
    assert (plain.stages, plain.score, plain.keep_reasoning) == ((Stage(budget_tokens=32),), "expected", False)
    asked = decided_for({"score": "paper", "instruction": "Find it.", "include": ["reasoning"]}, rule).scoring
    assert (asked.score, asked.instruction, asked.keep_reasoning) == ("paper", "Find it.", True)


def test_a_rule_may_keep_reasoning_by_itself() -> None:
    """Reasoning is kept if the rule says so, even if no search asks to see it."""
    assert decided_for({}, THINKING.model_copy(update={"keep_reasoning": True})).scoring.keep_reasoning


@pytest.mark.parametrize("score", ["paper", "expected"])
def test_the_score_that_stages_choose_by_is_the_one_that_is_fused(score: str) -> None:
    """A search has one score rule, in scoring and in ranking."""
    decision = decided_for({"score": score}, THINKING)
    assert decision.scoring.score == decision.recipe.score == score


def test_a_request_may_set_the_tuning_itself() -> None:
    """Window, alpha and method of the request win over the rule's, even an alpha of 0."""
    asked = {"window": 5, "alpha": 0, "method": "rrf", "deadline_s": 1.0, "include": ["status"]}
    decision = decided_for(asked)
    assert (decision.window, decision.recipe.alpha, decision.recipe.method) == (5, 0, "rrf")
    assert (decision.deadline_s, decision.include) == (1.0, frozenset({"status"}))


def test_a_uri_search_is_reranked() -> None:
    """`q` alone is a search too, its syntax stripped."""
    decision = decided(None, "q=text:quick%20AND+fox&size=3")
    assert isinstance(decision, Rerank)
    assert (decision.scoring.question, decision.page.size) == ("quick fox", 3)


def test_q_takes_the_place_of_the_query() -> None:
    """If a search has both `q` and a query, `q` is the question, since the engines search for it."""
    decision = decided({"query": HYBRID}, "q=dog")
    assert isinstance(decision, Rerank)
    assert decision.scoring.question == "dog"
    assert decided({"query": FOX}, "q=") == relay("no_text_query")


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
        ("no_text_query", {"query": {"more_like_this": {"like": {"_id": "1"}}}}, ""),
        ("no_text_query", {"suggest": {"s": {"text": "fxo", "term": {"field": "text"}}}}, ""),
        ("no_text_query", {"query": {"bool": {"filter": [FOX]}}}, ""),
        ("no_text_query", None, "q=-fox"),
    ],
)
def test_searches_that_are_not_ours_go_through(reason: Reason, search: Any, query: str) -> None:
    """A search with an order, first stage or paging of its own, or without a text, goes through with its reason."""
    assert decided(search, query) == relay(reason)


@pytest.mark.parametrize(
    ("search", "query"),
    [
        ({"query": FOX, "explain": False, "terminate_after": 0, "rescore": []}, ""),
        ({"query": FOX}, "explain=true&terminate_after=0"),
        ({"query": FOX, "explain": True}, ""),
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
    assert isinstance(decided(search, query), Rerank)


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
    """No sort, or `_score` descending as the first key of body and URL together, is an order by relevance."""
    search = {"query": FOX} if sort is None else {"query": FOX, "sort": sort}
    assert isinstance(decided(search, query), Rerank)


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
    """A search with another first key, or with a sort that engines refuse, goes through; the URL's keys come last."""
    search = {"query": FOX} if sort is None else {"query": FOX, "sort": sort}
    assert decided(search, query) == relay("sort")


def test_a_rule_s_own_reason_comes_first() -> None:
    """A search that no rule covers has that as its reason, whatever else it is."""
    assert decide(call_of([], expression="other"), {"rerank": False}, BOOK) == Relay(reason="no_rule")


def test_a_request_may_be_left_alone() -> None:
    """A search that asks not to be reranked is not reranked."""
    assert decide(call_of({"query": FOX}), {"rerank": False}, BOOK) == relay("asked_off")


@pytest.mark.parametrize(("expression", "rule"), [("notes", "notes"), ("other", None)])
def test_what_is_to_be_included_is_known_of_every_search(expression: str, rule: str | None) -> None:
    """A search that goes through may ask for its status too, under a rule and without one."""
    found = decide(call_of({}, expression=expression), {"include": ["status"]}, BOOK)
    assert isinstance(found, Relay)
    assert (found.rule, found.include) == (rule, frozenset({"status"}))


@pytest.mark.parametrize("expression", ["notes", "other", ".kibana"])
def test_a_wish_that_is_not_allowed_is_refused_whatever_the_search(expression: str) -> None:
    """A wish that is not allowed is refused even if the search would go through anyway."""
    with pytest.raises(CallerError, match=r"unknown field \[alhpa\]"):
        decide(call_of([], expression=expression), {"alhpa": 1}, BOOK)


def test_a_wish_is_measured_by_rule_scorer_and_limits() -> None:
    """The limits bound window and deadline; the rule's scorer and mode bound the thinking, and the error names them."""
    most = LimitSettings().max_window
    for expression in ("notes", "other"):
        with pytest.raises(CallerError, match=f"from 1 to {most}"):
            decide(call_of({}, expression=expression), {"window": most + 1}, BOOK)
    with pytest.raises(CallerError, match=r"which \[minilm, of kind minilm\] does not"):
        decided_for({"mode": "direct"})
    with pytest.raises(CallerError, match="from 1 to 64"):
        decided_for({"budget_tokens": 65}, THINKING)
    direct = THINKING.model_copy(update={"mode": "direct"})
    with pytest.raises(CallerError, match=r"not with \[direct\]"):
        decided_for({"budget_tokens": 5}, direct)
    assert decided_for({"budget_tokens": 5, "mode": "think"}, direct).mode == "think"
    assert isinstance(decide(call_of({}, expression="other"), {"budget_tokens": 65}, BOOK), Relay)


def test_an_unreadable_body_goes_through() -> None:
    """A body that we can't read goes through to the engine."""
    assert decided([{"query": FOX}]) == relay("unreadable_body")


def test_a_body_too_large_to_hold_goes_through() -> None:
    """A body that comes as a stream, too large to hold, goes through with that reason."""
    assert decide(NOT_OURS["body_too_large"](), {}, BOOK) == relay("body_too_large")


@pytest.mark.parametrize("reason", NOT_OURS)
def test_each_reason_has_a_search(reason: Reason) -> None:
    """Each example of a search that isn't ours goes through with the reason that it stands for."""
    asked, call = take_controls(NOT_OURS[reason]())
    decision = decide(call, asked, BOOK)
    assert isinstance(decision, Relay)
    assert decision.reason == reason


def test_every_reason_is_given() -> None:
    """`decide` gives every reason that only skipped searches have, but for those of a window and of async searches."""
    skipped = {reason for reason, outcomes in OUTCOMES.items() if outcomes == {"skipped"}}
    assert set(NOT_OURS) == skipped - {"partial_answer", "language", "async_search"}


TEMPLATES = RULE.model_copy(update={"templates": True})


@pytest.mark.parametrize("asked", [{}, {"rerank": False}, {"deadline_s": 1.0}])
def test_a_template_is_rendered_before_anything_else_is_decided(asked: dict[str, Any]) -> None:
    """Under a rule that opts in, whatever is asked, half of the deadline long; a body that can't be read passes."""
    template = template_call({"source": {"query": FOX}}, target=b"/notes/_search/template?format=yaml&scroll=1m")
    decision = decide(template, asked, book_of(TEMPLATES))
    half_s = asked.get("deadline_s", 2.0) / 2
    assert decision == Relay(reason="template", rule="notes", rendering_s=half_s)
    unread, closed = decide(template_call([]), {}, book_of(TEMPLATES)), decide(template, asked, BOOK)
    assert unread == relay("unreadable_body")
    assert isinstance(closed, Relay)
    assert closed.rendering_s is None


KIBANA = (b"X-Elastic-Product-Origin", b"kibana")
DASHBOARDS = (b"x-opensearch-product-origin", b"opensearch-dashboards")
BY_A_PROXY = (b"x-forwarded-for", b"10.0.0.7")


@pytest.mark.parametrize(
    ("query", "headers", "reranked"),
    [
        ("", (KIBANA,), False),
        ("pretty=true", (KIBANA,), False),
        ("", (DASHBOARDS,), False),
        ("", (DASHBOARDS, BY_A_PROXY), False),
        ("pretty=true", (DASHBOARDS, BY_A_PROXY), True),
        ("pretty=true", (DASHBOARDS,), True),
        ("pretty=false", (DASHBOARDS,), True),
        ("", (BY_A_PROXY,), True),
    ],
)
def test_pages_of_a_dashboard_are_left_alone(
    query: str, headers: tuple[tuple[bytes, bytes], ...], reranked: bool
) -> None:
    """Kibana marks its pages' searches, OpenSearch Dashboards all of its own; what Dev Tools sends is reranked."""
    assert isinstance(decided({"query": FOX}, query, *headers), Rerank) is reranked
    assert reranked or decided({"query": FOX}, query, *headers) == relay("product_origin")
    taking = book_of(RULE.model_copy(update={"dashboards": "rerank"}))
    assert isinstance(decide(call_of({"query": FOX}, query, *headers), {}, taking), Rerank)


@pytest.mark.parametrize(("expression", "may"), [("notes", False), ("", True), ("*", True)])
def test_a_search_that_names_no_index_may_meet_system_indices(expression: str, may: bool) -> None:
    """What the caller named is what was meant; only a search of everything may find what nobody meant."""
    rule = Rule(name="all", indices=("*",), fields=("text",))
    decision = decide(call_of({"query": FOX}, expression=expression), {}, book_of(rule))
    assert isinstance(decision, Rerank)
    assert decision.may_reach_system is may


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
        (b"application/cbor;q=0.1, application/json", False),
        (b"Application/YAML, */*", False),
    ],
)
def test_only_json_is_written(accept: bytes, reranked: bool) -> None:
    """A client that accepts no JSON gets the engine's own answer."""
    assert isinstance(decided({"query": FOX}, "", (b"accept", accept)), Rerank) is reranked
    assert reranked or decided({"query": FOX}, "", (b"accept", accept)) == relay("format")


@pytest.mark.parametrize(
    ("kind", "query", "reranked"),
    [
        (b"application/yaml", "q=fox", False),
        (b"application/cbor", "q=fox&format=json", False),
        (b"text/plain", "q=fox", True),
        (b"application/json", "q=fox&format=JSON", True),
        (b"application/json", "q=fox&format=Cbor", False),
    ],
)
def test_a_request_without_a_body_may_ask_for_a_format_by_its_type(kind: bytes, query: str, *, reranked: bool) -> None:
    """Without `Accept` an engine answers in the type of the request, although that has no body."""
    request = Request(method="GET", target=f"/notes/_search?{query}".encode(), headers=((b"Content-Type", kind),))
    decision = decide(read_call(request, "notes", max_bytes=MAX_BYTES), {}, BOOK)
    assert isinstance(decision, Rerank) if reranked else decision == relay("format")


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
    decision = decided(search, query)
    if isinstance(decision, Relay):
        assert OUTCOMES[decision.reason] == {"skipped"}
        assert decision.reason.isidentifier()
        assert decision.reason == decision.reason.lower()
    else:
        assert decision.scoring.question
        assert decision.page.size > 0
        assert 0 <= decision.page.start < decision.window


SHOES: dict[str, Any] = {"match": {"category": "shoes"}}
WORDS: dict[str, Any] = {"bool": {"should": [{"term": {"text": "quick"}}, {"term": {"text": "fox"}}]}}


def test_what_is_known_of_fields_makes_the_question() -> None:
    """A keyword counts until its type is known; then the question is without it, and all else as decided."""
    call = call_of({"query": {"bool": {"must": [SHOES, FOX]}}})
    known = {"category": False, "text": True}
    early, late = decide(call, {}, BOOK), decide(call, {}, BOOK, known)
    assert isinstance(early, Rerank)
    assert isinstance(late, Rerank)
    assert (early.scoring.question, late.scoring.question) == ("shoes quick fox", "quick fox")
    assert with_types(early, known) == late
    assert late.in_doubt == ("category", "text")


def test_words_of_the_index_are_a_question_once_the_field_is_known() -> None:
    """A search of terms alone says which fields are in doubt, and is reranked if they are texts."""
    call = call_of({"query": WORDS})
    doubtful = Relay(reason="no_text_query", rule="notes", in_doubt=("text",), wait_s=0.5)
    assert decide(call, {}, BOOK) == doubtful
    assert decide(call, {}, BOOK, {"text": False}) == doubtful
    decision = decide(call, {}, BOOK, {"text": True})
    assert isinstance(decision, Rerank)
    assert decision.scoring.question == "quick fox"


@pytest.mark.parametrize(
    "search", [{"query": FOX}, {"query": {"match_all": {}}}, {"query": {"bool": {"filter": FOX}}}, {}]
)
@pytest.mark.parametrize("query", ["", "q=cat"])
def test_a_request_may_say_what_the_question_is(search: dict[str, Any], query: str) -> None:
    """The user's own words are the question of any search, and one without a text query is reranked by them."""
    decision = decide(call_of(search, query), {"query": " a  red fox "}, BOOK)
    assert isinstance(decision, Rerank)
    assert decision.scoring.question == "a red fox"
    assert not decision.in_doubt


def test_a_question_of_its_own_changes_nothing_else() -> None:
    """A search that is not ours for another reason stays so, whatever the question."""
    for reason, make in NOT_OURS.items():
        if reason not in ("no_rule", "several_rules", "system_index", "no_text_query"):
            _, call = take_controls(make()) if reason != "asked_off" else ({}, make())
            asked = {"query": "fox", **({"rerank": False} if reason == "asked_off" else {})}
            found = decide(call, asked, BOOK)
            assert isinstance(found, Relay)
            assert found.reason == reason


def test_a_rule_says_which_fields_a_question_is_made_of() -> None:
    """`question_fields` and `ignore_fields` choose the clauses; with neither left, there is no question."""
    call = call_of({"query": {"bool": {"must": [SHOES, FOX]}}})
    for fields, text in (
        ({"question_fields": ("text",)}, "quick fox"),
        ({"question_fields": ("cat*",)}, "shoes"),
        ({"ignore_fields": ("category",)}, "quick fox"),
    ):
        decision = decide(call, {}, book_of(RULE.model_copy(update=fields)))
        assert isinstance(decision, Rerank)
        assert decision.scoring.question == text
    none = decide(call, {}, book_of(RULE.model_copy(update={"question_fields": ("title",)})))
    assert none == Relay(reason="no_text_query", rule="notes")


def test_the_question_is_told_only_where_it_is_asked_for() -> None:
    """A search that wants to know its question is told it."""
    assert decided_for({}).told_question is None
    assert decided_for({"include": ["question"]}).told_question == "quick fox"


POINT = RULE.model_copy(update={"pit": True})
IN_POINT: dict[str, Any] = {"query": FOX, "pit": {"id": "x"}}


def decided_in_point(
    search: dict[str, Any], asked: dict[str, Any] | None = None, *, expression: str = "notes", rule: Rule = POINT
) -> Rerank | Relay:
    """The decision for a search in a point in time that is known to be of these indices."""
    call = replace(call_of(search, expression=expression), in_point=True)
    return decide(call, asked or {}, book_of(rule, LOGS))


def test_a_search_in_a_point_in_time_is_reranked_where_the_rule_says_so() -> None:
    """By the rule of its indices; hits of system indices are looked for, since the engine alone knows what it holds."""
    decision = decided_in_point(IN_POINT)
    assert isinstance(decision, Rerank)
    assert (decision.rule, decision.in_point, decision.may_reach_system) == ("notes", True, True)
    assert (decision.page, decision.cursor) == (Page(start=0, size=10), None)
    assert decided_in_point(IN_POINT, rule=RULE) == relay("pit")
    assert decided_in_point(IN_POINT, expression="notes,logs") == Relay(reason="several_rules")
    assert decided_in_point(IN_POINT, expression="") == Relay(reason="pit")


def test_a_search_that_names_indices_beside_a_point_in_time_is_the_engines_to_refuse() -> None:
    """Whatever the rule says."""
    assert decide(call_of(IN_POINT), {}, book_of(POINT)) == relay("pit")


def test_a_page_behind_a_cursor_is_looked_for_in_the_window() -> None:
    """Its place is not known yet, so the hits that it can need at most are asked for."""
    search = {**IN_POINT, "sort": ["_score", {"n": "asc"}], "search_after": [1.5, 7], "size": 3}
    decision = decided_in_point(search)
    assert isinstance(decision, Rerank)
    assert decision.cursor == Cursor(score=1.5, others=(7,))
    assert decision.page == Page(start=50, size=3)


@pytest.mark.parametrize(
    "change",
    [
        {"search_after": [1.5]},
        {"search_after": []},
        {"search_after": None},
        {"search_after": [1.5, {"n": 1}]},
        {"from": 1},
        {"sort": None},
    ],
)
def test_a_cursor_that_no_page_ends_with_is_the_engines_to_judge(change: dict[str, Any]) -> None:
    """It refuses most of them."""
    search = {**IN_POINT, "sort": ["_score", {"n": "asc"}], "search_after": [1.5, 7], **change}
    assert decided_in_point(search) == relay("search_after")


def test_a_cursor_without_a_point_in_time_passes() -> None:
    """What is found may change between two of its pages."""
    search = {"query": FOX, "sort": ["_score", {"n": "asc"}], "search_after": [1.5, 7]}
    assert decide(call_of(search), {}, book_of(POINT)) == relay("search_after")


def test_a_search_in_a_point_in_time_may_name_its_rule() -> None:
    """That rule holds if it takes points in time."""
    decision = decided_in_point(IN_POINT, {"rule": "notes"}, expression="notes*")
    assert isinstance(decision, Rerank)
    assert decision.rule == "notes"
    assert decided_in_point(IN_POINT, {"rule": "logs"}, expression="logs*") == Relay(reason="pit", rule="logs")


@pytest.mark.parametrize(
    ("call", "rule", "says"),
    [
        (replace(call_of(IN_POINT), in_point=True), "secret", "must be the name of a rule, was ["),
        (replace(call_of(IN_POINT), in_point=True), 5, "must be the name of a rule, was [5]"),
        (call_of({"query": FOX}), "notes", "goes with [pit] in a search that names no index, was ["),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(call: SearchCall, rule: object, says: str) -> None:
    """The error says what is allowed, but not which rules there are."""
    with pytest.raises(CallerError) as refusal:
        decide(call, {"rule": rule}, book_of(POINT))
    assert f"[ext.es_rerank.rule] {says}" in str(refusal.value)
    assert "notes" not in str(refusal.value) or rule == "notes"
