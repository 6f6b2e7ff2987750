"""Pages by `search_after` in a point in time: next to the list that they are cut from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.rank import rank
from es_rerank.fusion.scale import float32_text, to_float32
from es_rerank.judgment import Judgment
from es_rerank.proxy.search.control import take_controls
from es_rerank.proxy.search.cursor import Cursor, place_behind, read_cursor
from es_rerank.proxy.search.decide import Relay, decide
from es_rerank.proxy.search.render import Verdict, render_answer, turned
from es_rerank.proxy.search.window import plan_window, read_answer
from es_rerank.proxy.steps import why_useless
from es_rerank.rules.book import make_book
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.tables import LimitSettings
from tests.proxy.search.calls import FOX, call_of

MOST_PAGES = 60
# Few different scores, so that many are equal; 0.0 is what a filter gives.
SCORES = st.sampled_from([0.0, 0.5, 1.0, 2.7182817, 7.25])
RANK_SCORES = st.none() | st.sampled_from([0.0, 1.0, 4.5, 10.0])
HITS = st.lists(st.tuples(SCORES, st.integers(0, 2), RANK_SCORES), min_size=0, max_size=24)
# By the keys that the client writes: which values of (tie, id) the engine sorts by, and those that it adds itself.
SORTS: dict[str, list[Any]] = {
    "_shard_doc": ["_score"],
    "tie, _shard_doc": ["_score", {"tie": "asc"}],
    "id": [{"_score": {"order": "desc"}}, {"id": "asc"}],
    "tie, id": [{"_score": "desc"}, {"tie": "asc"}, {"id": "asc"}],
}
WITHOUT_TIE_BREAKER = {"tie": [{"_score": "desc"}, {"tie": "asc"}]}


class Hits:
    """An engine with these hits, each (score, tie, rank score), which the client sorts as `SORTS` says."""

    def __init__(self, hits: list[tuple[float, int, float | None]], sort: str, window: int, alpha: float) -> None:
        self.sort = sort
        self.keys = {**SORTS, **WITHOUT_TIE_BREAKER}[sort]
        rule = Rule(name="notes", indices=("notes",), fields=("text",), window=window, alpha=alpha, pit=True)
        self.book = make_book([rule], {"minilm": MinilmSettings()}, LimitSettings())
        self.rank_scores = {str(number): hit[2] for number, hit in enumerate(hits)}
        found = [self._hit(str(number), score, tie) for number, (score, tie, _) in enumerate(hits)]
        self.all = sorted(found, key=lambda hit: self._order(hit["sort"]))

    def _hit(self, name: str, score: float, tie: int) -> dict[str, Any]:
        ties = {"tie": tie, "id": f"n{name:>03}", "_shard_doc": 4294967296 + int(name)}
        sort = [score, *(ties[key] for key in self.sort.split(", "))]
        return {"_index": "notes", "_id": name, "_score": score, "_source": {"text": name}, "sort": sort}

    def _order(self, sort: list[Any]) -> tuple[Any, ...]:
        return (-to_float32(float(sort[0])), *sort[1:])

    def answer(self, size: int, after: list[Any] | None = None) -> dict[str, Any]:
        """The engine's own answer."""
        left = [hit for hit in self.all if after is None or self._order(hit["sort"]) > self._order(after)]
        shown = [{**hit, "_score": _number(hit["_score"])} for hit in left[:size]]
        shown = [{**hit, "sort": [_number(hit["sort"][0]), *hit["sort"][1:]]} for hit in shown]
        return {"timed_out": False, "pit_id": "p", "hits": {"max_score": None, "hits": shown}}

    def search(self, size: int, after: list[Any] | None = None, *, start: int = 0) -> list[dict[str, Any]]:
        """The hits that a client gets through us."""
        body: dict[str, Any] = {"query": FOX, "pit": {"id": "p"}, "sort": self.keys, "size": size, "from": start}
        if after is not None:
            body["search_after"] = after
        call = replace(call_of(body, target=b"/_search", expression="notes"), in_point=True)
        asked, call = take_controls(call)
        decision = decide(call, asked, self.book)
        if isinstance(decision, Relay):
            assert decision.reason == "past_window"
            return self._hits_in(self.answer(start + size))[start:]
        plan = plan_window(call, decision)
        assert isinstance(plan.request.body, bytes)
        assert "search_after" not in json.loads(plan.request.body)
        first = int(parse_qs(plan.request.query_string.decode())["size"][0])
        found = read_answer(msgspec.json.encode(self.answer(first)))
        assert found is not None
        useless = why_useless(found, decision)
        if useless is not None:
            assert (useless, after is None) == ("past_window", False)
            return self._hits_in(self.answer(size, after))
        window = found.scores[: decision.window]
        judged = [self.rank_scores[found.ids[index][1]] for index in range(len(window))]
        judgments = [None if score is None else Judgment(rank_score=score) for score in judged]
        verdict = Verdict(ranked=rank(window, judgments, decision.recipe), judgments=judgments)
        decision = turned(found, decision, verdict)
        return self._hits_in(render_answer(found, plan, decision, verdict))

    def _hits_in(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        hits: list[dict[str, Any]] = json.loads(msgspec.json.encode(answer))["hits"]["hits"]
        return hits


def _number(score: float) -> msgspec.Raw:
    return msgspec.Raw(float32_text(score).encode())


@given(
    hits=HITS,
    sort=st.sampled_from([*SORTS]),
    window=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_pages_by_cursor_tile_the_list(
    hits: list[tuple[float, int, float | None]], sort: str, window: int, sizes: list[int], alpha: float
) -> None:
    """Each hit comes once and in the order of one large page, whatever the sizes of the pages and of the window are."""
    engine = Hits(hits, sort, window, alpha)
    whole = engine.search(len(hits) + 1)
    assert sorted(hit["_id"] for hit in whole) == sorted(hit["_id"] for hit in engine.all)
    shown = page = engine.search(sizes[0])
    for number in range(1, MOST_PAGES):
        if not page:
            break
        page = engine.search(sizes[number % len(sizes)], page[-1]["sort"])
        shown = shown + page
    assert shown == whole
    size = sizes[0]
    assert [hit for start in range(0, len(hits), size) for hit in engine.search(size, start=start)] == whole


@given(hits=HITS, window=st.integers(1, 12), size=st.integers(1, 9))
def test_pages_by_a_cursor_that_is_no_hits_own_come_to_an_end(
    hits: list[tuple[float, int, float | None]], window: int, size: int
) -> None:
    """Where equal values are left out, as by the engine, no hit comes twice all the same."""
    engine = Hits(hits, "tie", window, 0.0)
    shown = page = engine.search(size)
    while page:
        page = engine.search(size, page[-1]["sort"])
        shown = shown + page
        assert len({hit["_id"] for hit in shown}) == len(shown)


@pytest.mark.parametrize(
    ("values", "keys", "cursor"),
    [
        ([1.5, 7], 1, Cursor(score=1.5, others=(7,))),
        (["1.5", "a", None], 2, Cursor(score=1.5, others=("a", None))),
        ([1.5, "a"], 2, Cursor(score=1.5, others=("a",))),
        ([1.5], 1, None),
        ([1.5, 7, 8], 1, None),
        ([1.5, 7], 3, None),
        ([1.5, {"a": 1}], 2, None),
        ([True, 7], 2, None),
        (["x", 7], 2, None),
        (["nan", 7], 2, None),
        ([], 0, None),
        (1.5, 1, None),
        (None, 1, None),
    ],
)
def test_a_cursor_is_a_score_and_tie_breakers(values: Any, keys: int, cursor: Cursor | None) -> None:
    """As many values as the sort has keys, or one more, which Elasticsearch adds; the rest is the engine's to judge."""
    assert read_cursor(values, keys) == cursor


@pytest.mark.parametrize(
    ("score", "tie", "place"),
    [
        (3.0, 5, 1),
        (2.0, 6, 3),
        (2.5, 5, 1),
        (2.5, 6, 1),
        (2.5, 9, 1),
        (0.5, 9, 4),
    ],
)
def test_a_cursor_of_another_list_has_a_place_too(score: float, tie: int, place: int) -> None:
    """That of its very values, else of the only hit with its tie-breakers, else of the first hit with a lower score."""
    sorts = [b"[1, 6]", b"[9, 5]", b"[8, 6]", b"[7, 4]"]
    assert place_behind(Cursor(score=score, others=(tie,)), (1, 2, 0, 3), (3.0, 2.0, 2.0, 1.0), sorts) == place
