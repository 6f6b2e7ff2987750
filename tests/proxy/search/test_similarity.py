"""What a `text_similarity_reranker` asks is read as Elasticsearch reads it, and what is wrong in it is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.search.decide import Relay, Rerank, decide
from es_rerank.proxy.search.many import read_many
from es_rerank.proxy.search.similarity import score_of
from es_rerank.proxy.search.split import may_split, split_off
from es_rerank.proxy.search.window import plan_window, read_answer, read_texts
from es_rerank.records import Request
from es_rerank.settings import Settings
from tests.proxy.search.calls import JSON_HEADER, call_of

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "inference": {"scorers": {"ours": "minilm", ".rerank-v1-elasticsearch": "minilm"}, "deadline_s": 7.0},
    }
)
BOOK = SETTINGS.book()
STANDARD: dict[str, Any] = {"standard": {"query": {"match": {"text": "fox"}}}}
ASKED: dict[str, Any] = {"retriever": STANDARD, "inference_id": "ours", "inference_text": "a fox?", "field": "text"}


def retriever_of(**changes: Any) -> dict[str, Any]:
    """A search with a reranker, with these fields changed, or left out where they are None."""
    asked = {name: value for name, value in {**ASKED, **changes}.items() if value is not None}
    return {"retriever": {"text_similarity_reranker": asked}}


def split(search: dict[str, Any], query: str = "", **kwargs: Any) -> tuple[dict[str, Any], str, Rerank | Relay]:
    """What goes to the engine unreranked (its body and its target), and what is decided."""
    call = split_off(call_of(search, query, **kwargs), BOOK)
    request = call.carrier.request
    assert isinstance(request.body, bytes)
    return json.loads(request.body), request.target.decode(), decide(call, {}, BOOK)


def test_the_inner_retriever_is_asked_and_all_else_stays() -> None:
    """The engine gets the inner retriever in the reranker's place, and its first `rank_window_size` hits are asked."""
    rest = {"aggs": {"a": {"max": {"field": "n"}}}, "highlight": {"fields": {"text": {}}}, "_source": ["n"]}
    call = split_off(call_of({**rest, **retriever_of(rank_window_size=50), "size": 5, "from": 10}), BOOK)
    decision = decide(call, {}, BOOK)
    assert isinstance(decision, Rerank)
    assert (decision.rule, decision.scorer, decision.window, decision.deadline_s) == ("ours", "minilm", 50, 7.0)
    assert (decision.text.fields, decision.scoring.question) == (("text",), "a fox?")
    assert (decision.page.start, decision.page.size, decision.recipe.alpha) == (10, 5, 0.0)
    asked = plan_window(call, decision).request
    assert isinstance(asked.body, bytes)
    assert json.loads(asked.body) == {**rest, "retriever": STANDARD, "size": 5, "from": 10}
    assert asked.target.startswith(b"/notes/_search?")
    assert {b"from=0", b"size=50", b"_source_includes=n%2Ctext"} <= {*asked.target.partition(b"?")[2].split(b"&")}


def test_without_its_own_words_the_defaults_are_elasticsearchs() -> None:
    """Ten hits, the default endpoint, and a page as large as the window."""
    _, target, decision = split(retriever_of(inference_id=None))
    assert isinstance(decision, Rerank)
    assert (decision.rule, decision.window, decision.page.size) == (".rerank-v1-elasticsearch", 10, 10)
    assert target == "/notes/_search?from=0&size=10"
    _, target, _ = split(retriever_of(rank_window_size=70))
    assert target == "/notes/_search?from=0&size=70"


def test_no_index_needs_a_rule_and_system_indices_are_never_reranked() -> None:
    """The endpoint's own settings hold on every index; on a system index the engine's order stays."""
    assert isinstance(split(retriever_of(), expression="anything")[2], Rerank)
    wide = split(retriever_of(), expression="")[2]
    assert isinstance(wide, Rerank)
    assert wide.may_reach_system
    hidden = split(retriever_of(), expression=".kibana")[2]
    assert isinstance(hidden, Relay)
    assert hidden.reason == "system_index"


@pytest.mark.parametrize(
    ("inner", "added", "filters"),
    [
        ({}, {"term": {"a": 1}}, [{"term": {"a": 1}}]),
        ({"filter": {"term": {"b": 2}}}, {"term": {"a": 1}}, [{"term": {"b": 2}}, {"term": {"a": 1}}]),
        ({"filter": [{"term": {"b": 2}}]}, [{"term": {"a": 1}}], [{"term": {"b": 2}}, {"term": {"a": 1}}]),
        ({"filter": []}, [], []),
    ],
)
def test_a_filter_is_the_inner_retrievers(inner: Any, added: Any, filters: Any) -> None:
    """The filter of the reranker holds together with that of its inner retriever."""
    body, _, _ = split(retriever_of(retriever={"standard": {**STANDARD["standard"], **inner}}, filter=added))
    assert body["retriever"]["standard"]["filter"] == filters


@pytest.mark.parametrize(
    ("inner", "window"),
    [
        ({"rrf": {"retrievers": [STANDARD, STANDARD], "rank_window_size": 30}}, 30),
        ({"rrf": {"retrievers": [STANDARD, STANDARD]}}, 10),
        ({"linear": {"retrievers": [{"retriever": {"rrf": {"rank_window_size": 40}}}], "rank_window_size": 30}}, 30),
        ({"rescorer": {"retriever": STANDARD, "rescore": {"window_size": 20}}}, 20),
        ({"rescorer": {"retriever": STANDARD, "rescore": [{"window_size": 20}, {}]}}, 10),
        ({"knn": {"field": "v", "k": 3}}, 50),
        ({"rrf": {"rank_window_size": "many"}}, 10),
    ],
)
def test_no_more_hits_are_asked_for_than_the_inner_retriever_gives(inner: Any, window: int) -> None:
    """Engines refuse a page that is larger than the `rank_window_size` of a retriever, or the window of a rescorer."""
    body, _, decision = split({**retriever_of(retriever=inner, rank_window_size=50), "from": 1, "size": 50})
    assert isinstance(decision, Rerank)
    assert (decision.window, decision.page.start, decision.page.end) == (window, 1, window)
    assert body["retriever"] == inner


@pytest.mark.parametrize(
    ("page", "query", "left"),
    [
        ({"from": 8, "size": 5}, "", (8, 2)),
        ({"from": 40}, "", (40, 0)),
        ({"from": 2, "size": 3}, "size=9&from=4", (4, 6)),
        ({"size": 0}, "", (0, 0)),
    ],
)
def test_the_page_ends_with_the_window(page: Any, query: str, left: tuple[int, int]) -> None:
    """A page is cut where the reranker's hits end, and so is the one that the engine answers if nothing is reranked."""
    _, target, decision = split({**retriever_of(), **page}, query)
    assert target.endswith(f"from={left[0]}&size={left[1]}")
    assert isinstance(decision, Rerank) == (left[1] > 0)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"inference_text": None}, "parsing_exception", "Required [inference_text]"),
        ({"field": None, "retriever": None}, "parsing_exception", "Required [retriever, field]"),
        ({"inference_text": 3}, "parsing_exception", "inference_text doesn't support values of type: VALUE_NUMBER"),
        ({"field": ["a", "b"]}, "parsing_exception", "field doesn't support values of type: START_ARRAY"),
        ({"rank_window_size": True}, "parsing_exception", "doesn't support values of type: VALUE_BOOLEAN"),
        ({"rank_window_size": "x"}, "parsing_exception", "failed to parse field [rank_window_size]"),
        ({"rank_window_size": "9" * 400}, "parsing_exception", "failed to parse field [rank_window_size]"),
        ({"min_score": "NaN"}, "parsing_exception", "failed to parse field [min_score]"),
        ({"fields": ["a"]}, "parsing_exception", "[text_similarity_reranker] unknown field [fields]"),
        ({"filter": 3}, "parsing_exception", "filter doesn't support values of type: VALUE_NUMBER"),
        ({"filter": [3]}, "parsing_exception", "failed to parse field [filter]"),
        ({"retriever": {}}, "parsing_exception", "failed to parse field [retriever]"),
        ({"retriever": {"standard": {}, "knn": {}}}, "parsing_exception", "failed to parse field [retriever]"),
        ({"retriever": {"standard": 3}}, "parsing_exception", "failed to parse field [retriever]"),
        ({"rank_window_size": 0}, "", "[rank_window_size] must be greater than or equal to [1], was [0]"),
        ({"rank_window_size": -5}, "", "[rank_window_size] must be greater than or equal to [1], was [-5]"),
        ({"rank_window_size": 201}, "", "[rank_window_size: 201] must be at most [200]"),
        ({"inference_text": " "}, "", "[inference_text] must not be empty"),
        ({"field": "title^3"}, "", "a field has no boost here"),
        ({"_name": "mine"}, "", "es-rerank does not do [_name]"),
    ],
)
def test_what_is_wrong_or_not_done_is_named(changes: Any, kind: str, words: str) -> None:
    """A field that Elasticsearch does not take is refused in its words, and one that is not done is named."""
    with pytest.raises(CallerError) as refused:
        split(retriever_of(**changes))
    assert words in str(refused.value)
    assert (refused.value.status, refused.value.kind) == (400, kind)


def test_what_does_not_fit_the_page_is_refused_as_by_elasticsearch() -> None:
    """A page larger than the window, and a scroll."""
    for search, query, words in (
        ({"size": 11}, "", "requires [rank_window_size: 10] be greater than or equal to [size: 11]"),
        ({}, "scroll=1m", "cannot specify [text_similarity_reranker] and [scroll]"),
    ):
        with pytest.raises(CallerError) as refused:
            split({**retriever_of(), **search}, query)
        assert words in str(refused.value)
        assert refused.value.kind == "action_request_validation_exception"


@pytest.mark.parametrize("wrap", ["rrf", "linear", NAME := "text_similarity_reranker"])
def test_a_reranker_within_another_retriever_cant_be_taken_off(wrap: str) -> None:
    """Where an endpoint of ours is asked for anywhere but outermost, the error names it and says so."""
    inner = retriever_of()["retriever"]
    around: dict[str, Any] = {
        "rrf": {"rrf": {"retrievers": [STANDARD, inner]}},
        "linear": {"linear": {"retrievers": [{"retriever": inner, "weight": 2}]}},
        NAME: retriever_of(inference_id="theirs", retriever=inner)["retriever"],
    }
    with pytest.raises(CallerError, match=r"\[inference_id: ours\] must be the outermost"):
        split({"retriever": around[wrap]})


@pytest.mark.parametrize(
    "retriever",
    [
        retriever_of(inference_id="theirs")["retriever"],
        retriever_of(inference_id=3)["retriever"],
        {"rrf": {"retrievers": [STANDARD, retriever_of(inference_id="theirs")["retriever"]]}},
        {"standard": {}, "knn": 3},
        STANDARD,
        3,
        None,
        [],
    ],
)
def test_what_asks_no_endpoint_of_ours_is_the_engines(retriever: Any) -> None:
    """The call stays the client's own, byte for byte."""
    call = call_of({"retriever": retriever})
    assert split_off(call, BOOK) is call


def test_an_engines_reranker_inside_ours_stays_there() -> None:
    """What the engine reranks first is an inner retriever like any other."""
    inner = retriever_of(inference_id="theirs", rank_window_size=20)["retriever"]
    body, _, decision = split(retriever_of(retriever=inner, rank_window_size=30))
    assert body["retriever"] == inner
    assert isinstance(decision, Rerank)
    assert decision.window == 20


@pytest.mark.parametrize(
    ("search", "query", "reason"),
    [
        ({"sort": "n"}, "", "sort"),
        ({"search_after": [1]}, "", "search_after"),
        ({"rescore": {"query": {}}}, "", "rescore"),
        ({"from": "x"}, "", "unreadable_page"),
        ({}, "format=yaml", "format"),
    ],
)
def test_what_the_engine_refuses_beside_a_retriever_is_left_to_it(search: Any, query: str, reason: str) -> None:
    """The engine judges the inner retriever with everything that stands beside it."""
    body, _, decision = split({**retriever_of(), **search}, query)
    assert body["retriever"] == STANDARD
    assert isinstance(decision, Relay)
    assert (decision.reason, decision.rule) == (reason, "ours")


def test_a_request_may_weigh_the_engine_and_choose_other_words() -> None:
    """`ext.es_rerank` holds as for any search, but for the window, which the reranker has itself."""
    call = split_off(call_of(retriever_of()), BOOK)
    decision = decide(call, {"alpha": 0.4, "query": "another question"}, BOOK)
    assert isinstance(decision, Rerank)
    assert (decision.recipe.alpha, decision.scoring.question) == (0.4, "another question")
    off = decide(call, {"rerank": False}, BOOK)
    assert isinstance(off, Relay)
    assert off.reason == "asked_off"
    with pytest.raises(CallerError, match="rank_window_size"):
        decide(call, {"window": 5}, BOOK)


def test_of_a_long_text_the_best_chunk_is_scored() -> None:
    """With a `chunk_rescorer`; a hit without text stays without."""
    call = split_off(call_of(retriever_of(chunk_rescorer={"chunking_settings": {"max_chunk_size": 20}})), BOOK)
    decision = decide(call, {}, BOOK)
    assert isinstance(decision, Rerank)
    long = "nothing at all is said. " * 9 + "here is a fox."
    hits = [{"_index": "notes", "_id": "1", "_score": 1.0, "_source": {"text": text}} for text in (long, "short", "")]
    found = read_answer(json.dumps({"timed_out": False, "hits": {"hits": hits}}).encode())
    assert found is not None
    best, short, none = read_texts(found, decision).texts
    assert best is not None
    assert best.endswith("here is a fox.")
    assert len(best.split()) <= 20
    assert (short, none) == ("short", None)


def test_a_sorted_inner_retriever_tells_its_scores() -> None:
    """Without them a hit that can't be reranked would have none."""
    body, _, _ = split(retriever_of(retriever={"standard": {"query": {"match_all": {}}, "sort": ["n"]}}))
    assert body["track_scores"] is True


def test_among_many_searches_the_line_is_split() -> None:
    """An item of an `_msearch` carries the inner retriever and its page in its own line."""
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in ({"index": "notes"}, retriever_of()))
    request = Request(method="POST", target=b"/_msearch", headers=(JSON_HEADER,), body=lines)
    read = read_many(request, "", max_bytes=10_000)
    assert isinstance(read, tuple)
    call = split_off(read[1][0], BOOK)
    body = call.carrier.request.body
    assert isinstance(body, bytes)
    assert json.loads(body.split(b"\n")[1]) == {"retriever": STANDARD, "from": 0, "size": 10}
    assert isinstance(decide(call, {}, BOOK), Rerank)


def test_only_where_an_endpoint_is_configured_is_a_body_looked_at() -> None:
    """Other searches without a rule are still not parsed."""
    request = call_of(retriever_of()).carrier.request
    assert may_split(request, BOOK)
    assert not may_split(request, SETTINGS.model_copy(update={"inference": None}).book())
    assert not may_split(call_of({"query": {}}).carrier.request, BOOK)
    assert not may_split(call_of().carrier.request, BOOK)


def test_a_score_is_what_elasticsearch_shows_for_the_relevance() -> None:
    """A relevance r of 0 to 1 is shown as max(r, 0) + min(exp(r), 1)."""
    assert [score_of(rank_score) for rank_score in (0.0, 5.0, 10.0)] == [1.0, 1.5, 2.0]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["retriever", "retrievers", NAME, "standard", "rrf", "filter", "rescorer", "rescore"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
FIELDS = st.sampled_from([*ASKED, "rank_window_size", "min_score", "filter", "allow_rerank_failures", "chunk_rescorer"])


@given(
    retriever=JUNK,
    changes=st.dictionaries(FIELDS, JUNK, max_size=4),
    page=st.dictionaries(st.sampled_from(["from", "size"]), JUNK),
)
def test_whatever_stands_there_is_split_or_refused_or_left(retriever: Any, changes: Any, page: Any) -> None:
    """No retriever makes reading fail in any other way than by an error for the caller."""
    for search in ({"retriever": retriever}, {**page, "retriever": {NAME: {**ASKED, **changes}}}):
        call = call_of(search)
        try:
            left = split_off(call, BOOK)
        except CallerError:
            continue
        assert left is call or (left.similarity is not None and isinstance(decide(left, {}, BOOK), Rerank | Relay))
