"""The answer that is written: the page of the new ranking, and nothing else changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.rank import Recipe, rank
from es_rerank.fusion.scale import float32_text
from es_rerank.judgment import Judgment
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.render import Verdict, page_of, render_answer
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.window import EngineAnswer, WindowPlan, plan_window, read_answer
from es_rerank.rawjson import open_object
from tests.proxy.search.calls import call_of, decision_of, finish_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.proxy.search.decide import Rerank

GOLDEN = {
    name: json.loads((Path(__file__).parents[2] / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("opensearch", "elasticsearch")
}
SKIPPED = SearchStatus(status="skipped", reason="sort")
NOTHING: frozenset[str] = frozenset()
BY_SCORES_ALONE = Recipe(method="zscore", alpha=0.0, score="paper")


def answer_of(scores: Sequence[float], **more: Any) -> EngineAnswer:
    """An engine's answer with hits of these scores, numbered in engine order."""
    hits = [
        {"_index": "notes", "_id": str(number), "_score": score, "_source": {"n": number}}
        for number, score in enumerate(scores)
    ]
    body = {
        "took": 3,
        "timed_out": False,
        "hits": {"total": {"value": 7, "relation": "gte"}, "max_score": max(scores, default=None), "hits": hits},
        "aggregations": {"a": {"buckets": [{"key": 1.0}]}},
        **more,
    }
    answer = read_answer(json.dumps(body).encode())
    assert answer is not None
    return answer


def ranked_by(answer: EngineAnswer, rank_scores: Sequence[float | None]) -> Verdict:
    """The window ranked by these scores alone."""
    judgments = [None if score is None else Judgment(rank_score=score) for score in rank_scores]
    return Verdict(ranked=rank(answer.scores[: len(judgments)], judgments, BY_SCORES_ALONE), judgments=judgments)


def rendered(answer: EngineAnswer, decision: Rerank, verdict: Verdict, plan: WindowPlan | None = None) -> Any:
    """The answer that goes out, as parsed JSON."""
    plan = plan or plan_window(call_of(), decision)
    members = render_answer(answer, plan, decision, verdict)
    return json.loads(finish_body(members, call_of(), SKIPPED, NOTHING))


def as_printed(score: float) -> float:
    """A 32-bit score as an engine prints it: with few digits, so that it is a little off as a 64-bit number."""
    return float(float32_text(score))


WINDOWS = st.tuples(
    st.lists(st.floats(0, 30, width=32).map(as_printed), max_size=14).map(lambda scores: sorted(scores, reverse=True)),
    st.lists(st.none() | st.floats(0, 10), min_size=14, max_size=14),
    st.integers(1, 14),
)


@given(WINDOWS, st.integers(1, 5))
def test_pages_tile_the_ranked_list(case: tuple[list[float], list[float | None], int], page_size: int) -> None:
    """Pages inside, across and behind the window show every hit once: first the ranked window, then engine order."""
    scores, rank_scores, window = case
    whole = answer_of(scores)
    verdict = ranked_by(whole, rank_scores[: min(window, len(scores))])
    ranking = verdict.ranked.ranking
    expected = [str(index) for index in (*ranking.order, *range(len(ranking.order), len(scores)))]
    found: list[str] = []
    shown: list[float] = []
    for page_from in range(0, len(scores) + page_size, page_size):
        fetched = answer_of(scores[: max(window, page_from + page_size)])
        page = rendered(fetched, decision_of("text", start=page_from, size=page_size, window=window), verdict)
        found += [hit["_id"] for hit in page["hits"]["hits"]]
        shown += [hit["_score"] for hit in page["hits"]["hits"]]
    assert found == expected
    if scores:
        assert shown == sorted(shown, reverse=True)


@given(WINDOWS, st.integers(0, 20), st.integers(1, 20))
def test_nothing_but_order_and_scores_changes(
    case: tuple[list[float], list[float | None], int], page_from: int, page_size: int
) -> None:
    """Totals, aggregations and the content of every hit stay, whatever the ranking and the page."""
    scores, rank_scores, window = case
    answer = answer_of(scores, profile={"shards": []}, _shards={"failed": 0})
    verdict = ranked_by(answer, rank_scores[: min(window, len(scores))])
    page = rendered(answer, decision_of("text", start=page_from, size=page_size, window=window), verdict)
    assert list(page) == list(answer.top)
    assert list(page["hits"]) == list(answer.hits_object)
    for name in answer.top.keys() - {"hits"}:
        assert page[name] == json.loads(bytes(answer.top[name]))
    assert page["hits"]["total"] == {"value": 7, "relation": "gte"}
    for hit in page["hits"]["hits"]:
        engine_hit = {name: json.loads(bytes(value)) for name, value in answer.hits[int(hit["_id"])].items()}
        assert list(hit) == list(engine_hit)
        assert {**hit, "_score": 0} == {**engine_hit, "_score": 0}


@given(WINDOWS, st.integers(0, 20))
def test_every_page_names_the_same_best_score(
    case: tuple[list[float], list[float | None], int], page_from: int
) -> None:
    """`max_score` is the best of the ranked list, not of the page, and finite."""
    scores, rank_scores, window = case
    answer = answer_of(scores)
    verdict = ranked_by(answer, rank_scores[: min(window, len(scores))])
    first = rendered(answer, decision_of("text", size=1, window=window), verdict)["hits"]
    later = rendered(answer, decision_of("text", start=page_from, size=3, window=window), verdict)["hits"]
    assert later["max_score"] == first["max_score"]
    assert first["max_score"] == (first["hits"][0]["_score"] if scores else None)


def test_unscored_values_keep_their_bytes() -> None:
    """Numbers, escapes, key order, repeated keys and unknown keys of the engine's answer come back as they came."""
    body = (
        b'{"took":1.0,"hits":{"max_score":2.50,"x":1E3,"hits":[{"_id":"0","_score":2.50,"_source":'
        b'{ "n" : 12345678901234567890123 , "n":1,"e":"\\u00e9\\/" },"_ignored":["a"],"new":-0.0}]},'
        b'"aggregations":[1e1]}'
    )
    answer = read_answer(body)
    assert answer is not None
    decision = decision_of("text")
    for rank_score, shown in ((None, body), (5.0, body.replace(b"2.50", b"2.5"))):
        verdict = ranked_by(answer, [rank_score])
        members = render_answer(answer, plan_window(call_of(), decision), decision, verdict)
        assert finish_body(members, call_of(), SKIPPED, NOTHING) == shown


@pytest.mark.parametrize("engine", GOLDEN)
def test_an_unscored_window_gives_the_engine_s_own_page(engine: str) -> None:
    """If nothing is scored, a page cut from the window is, byte for byte, the engine's own answer for that page."""
    case = GOLDEN[engine]
    answer = read_answer(case["plain"].encode())
    assert answer is not None
    unscored = ranked_by(answer, [None] * len(answer.hits))
    for query, page in case["pages"].items():
        wanted = dict(part.split("=") for part in query.split("&"))
        decision = decision_of("text", start=int(wanted.get("from", 0)), size=int(wanted.get("size", 10)))
        call = call_of(case["search"], query)
        members = render_answer(answer, plan_window(call, decision), decision, unscored)
        assert finish_body(members, call, SKIPPED, NOTHING) == page.encode()


@pytest.mark.parametrize("engine", GOLDEN)
def test_a_filtered_pretty_answer_is_the_engine_s(engine: str) -> None:
    """The client's `filter_path` and `pretty`, applied here, give what the engine gives, to the byte."""
    case = GOLDEN[engine]
    for filter_path, printed in case["pretty_filtered"].items():
        members = open_object(case["pretty"].encode())
        assert members is not None
        body = finish_body(members, call_of({}, f"pretty&filter_path={filter_path}"), SKIPPED, NOTHING)
        assert body == printed.encode()
    for filter_path in ("hits.hits._source.t*", "took,-took"):
        members = open_object(case["everything"].encode())
        assert members is not None
        body = finish_body(members, call_of({}, f"filter_path={filter_path}"), SKIPPED, NOTHING)
        assert body == case["filtered"][filter_path].encode()


@pytest.mark.parametrize(
    ("search", "left"),
    [
        ({}, b'{"text":"fox","n":1E10}'),
        ({"_source": ["n"]}, b'{"n":1E10}'),
        ({"_source": ["other"]}, b"{}"),
        ({"_source": {"excludes": ["t*"]}}, b'{"n":1E10}'),
        ({"_source": False}, None),
        ({"stored_fields": ["*"]}, None),
    ],
)
def test_a_hit_shows_of_its_source_what_was_asked_for(search: dict[str, Any], left: bytes | None) -> None:
    """What was fetched for the text alone is left out; what stays keeps its bytes."""
    plan = plan_window(call_of({"query": {"match": {"text": "fox"}}, **search}), decision_of("text"))
    hits = b'{"_id":"1","_score":2.0,"_source":{"text":"fox","n":1E10}},{"_id":"2","_score":1.0}'
    answer = read_answer(b'{"hits":{"max_score":2.0,"hits":[%s]}}' % hits)
    assert answer is not None
    page = render_answer(answer, plan, decision_of("text"), ranked_by(answer, [9.0, 1.0]))["hits"]["hits"]
    assert (bytes(page[0]["_source"]) if "_source" in page[0] else None) == left
    assert "_source" not in page[1]


def test_a_sort_array_carries_the_new_score_and_keeps_its_ties() -> None:
    """With tie-breakers, each hit's `sort` begins with its new score; a null `max_score` stays null."""
    body = {
        "hits": {
            "max_score": None,
            "hits": [
                {"_id": "0", "_score": 3.0, "sort": [3.0, 2001, "a"]},
                {"_id": "1", "_score": 2.0, "sort": [2.0, 2002, None]},
            ],
        }
    }
    answer = read_answer(json.dumps(body).encode())
    assert answer is not None
    page = rendered(answer, decision_of("text"), ranked_by(answer, [1.0, 9.0]))
    assert page["hits"] == {
        "max_score": None,
        "hits": [
            {"_id": "1", "_score": 3.0, "sort": [3.0, 2002, None]},
            {"_id": "0", "_score": 2.0, "sort": [2.0, 2001, "a"]},
        ],
    }


def test_scores_are_shown_where_asked() -> None:
    """With "scores", each hit shows what engine, scorer and fusion gave it; after the window, only the engine did."""
    answer = answer_of([4.0, 3.0, 2.0])
    decision = decision_of("text", window=2, include=("scores",))
    hits = rendered(answer, decision, ranked_by(answer, [1.0, 9.0]))["hits"]["hits"]
    assert [(hit["_id"], hit["_es_rerank"]) for hit in hits] == [
        ("1", {"engine_score": 3.0, "engine_rank": 2, "rank_score": 9.0, "fused_score": 1.0}),
        ("0", {"engine_score": 4.0, "engine_rank": 1, "rank_score": 1.0, "fused_score": -1.0}),
        ("2", {"engine_score": 2.0, "engine_rank": 3, "rank_score": None, "fused_score": None}),
    ]


def test_a_distribution_is_shown_with_what_belongs_to_it() -> None:
    """With a scorer that thinks, each hit's scores also show the judgment that its rank score was made from."""
    answer = answer_of([4.0, 3.0])
    sure = Judgment(distribution=(*[0.0] * 8, 0.5, 0.25, 0.0), think_tokens=7, cut="deadline", truncated=True)
    judgments = [sure, Judgment(rank_score=2.0)]
    verdict = Verdict(ranked=rank(answer.scores, judgments, BY_SCORES_ALONE), judgments=judgments)
    first, second = rendered(answer, decision_of("text", include=("scores",)), verdict)["hits"]["hits"]
    assert first["_es_rerank"]["rank_score"] == sure.score("paper")
    assert {name: first["_es_rerank"][name] for name in list(first["_es_rerank"])[4:]} == {
        "distribution": [0.0] * 8 + [0.5, 0.25, 0.0],
        "mass": 0.75,
        "think_tokens": 7,
        "cut": "deadline",
        "truncated": True,
    }
    assert list(second["_es_rerank"]) == ["engine_score", "engine_rank", "rank_score", "fused_score"]


def test_reasoning_is_shown_where_asked() -> None:
    """With "reasoning", each hit of the page has the text of its thinking, or null; it may stand beside the scores."""
    answer = answer_of([4.0, 3.0])
    verdict = replace(ranked_by(answer, [1.0, 9.0]), reasoning={1: "It fits."})
    alone = rendered(answer, decision_of("text", include=("reasoning",)), verdict)["hits"]["hits"]
    assert [hit["_es_rerank"] for hit in alone] == [{"reasoning": "It fits."}, {"reasoning": None}]
    both = rendered(answer, decision_of("text", include=("reasoning", "scores")), verdict)["hits"]["hits"]
    assert [(hit["_es_rerank"]["engine_rank"], hit["_es_rerank"]["reasoning"]) for hit in both] == [
        (2, "It fits."),
        (1, None),
    ]


@given(WINDOWS, st.integers(0, 20), st.integers(1, 20))
def test_a_page_s_places_are_those_that_are_shown(
    case: tuple[list[float], list[float | None], int], start: int, size: int
) -> None:
    """`page_of` gives each place of a page with the hit that is answered there."""
    scores, rank_scores, window = case
    answer = answer_of(scores)
    verdict = ranked_by(answer, rank_scores[: min(window, len(scores))])
    decision = decision_of("text", start=start, size=size, window=window)
    places = page_of(answer, decision.page, verdict)
    assert [place for place, _ in places] == list(range(start, min(start + size, len(scores))))
    shown = rendered(answer, decision, verdict)["hits"]["hits"]
    assert [str(index) for _, index in places] == [hit["_id"] for hit in shown]


def test_nothing_of_ours_is_in_an_answer_that_did_not_ask() -> None:
    """If the search did not ask for them, neither status nor scores are in the body."""
    answer = answer_of([4.0, 3.0])
    decision = decision_of("text")
    members = render_answer(answer, plan_window(call_of(), decision), decision, ranked_by(answer, [1.0, 9.0]))
    assert b"es_rerank" not in finish_body(members, call_of(), SKIPPED, NOTHING)


def test_the_status_is_shown_where_asked() -> None:
    """The status comes last in the answer, and `filter_path` and `pretty` apply to it as to the rest."""
    include = {"status"}
    members = open_object(b'{"took":1,"hits":{}}')
    assert members is not None
    body = finish_body(members, call_of(), SKIPPED, include)
    assert json.loads(body) == {"took": 1, "hits": {}, "_es_rerank": SKIPPED.block()}
    assert list(json.loads(body))[-1] == "_es_rerank"
    assert finish_body(members, call_of({}, "filter_path=took"), SKIPPED, include) == b'{"took":1}'
    assert (
        finish_body(members, call_of({}, "filter_path=_es_rerank.reason"), SKIPPED, include)
        == b'{"_es_rerank":{"reason":"sort"}}'
    )
    assert finish_body(members, call_of({}, "pretty"), SKIPPED, include) == pretty_print(body)
    assert finish_body(members, call_of({}, "pretty=false"), SKIPPED, include) == body


def test_no_hits_give_no_hits() -> None:
    """An empty window renders as the engine's empty answer."""
    answer = answer_of([])
    page = rendered(answer, decision_of("text"), ranked_by(answer, []))
    assert page["hits"] == {"total": {"value": 7, "relation": "gte"}, "max_score": None, "hits": []}
