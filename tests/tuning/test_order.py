"""The order under a setting is the one that the running proxy answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.rank import rank
from es_rerank.proxy.search.render import Verdict, render_answer
from es_rerank.proxy.search.window import plan_window, read_answer
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.order import check_settings, engine_order, order_of, orders
from es_rerank.tuning.recording import Setting
from tests.proxy.search.calls import call_of, decision_of
from tests.tuning.cases import PRESENT, head_of, query_of, recorded_queries, settings

if TYPE_CHECKING:
    from es_rerank.proxy.search.window import EngineAnswer
    from es_rerank.tuning.recording import Hit, RecordedQuery


def engine_answer(query: RecordedQuery, size: int) -> EngineAnswer:
    """What the engine answers when it is asked for its first hits."""
    hits = [
        {"_index": index, "_id": object_id, "_score": score}
        for (index, object_id), score in zip(query.ids[:size], query.engine_scores[:size], strict=True)
    ]
    answer = read_answer(json.dumps({"hits": {"max_score": None, "hits": hits}}).encode())
    assert answer is not None
    return answer


def served(query: RecordedQuery, setting: Setting, page_size: int) -> list[Hit]:
    """All pages of the search as the proxy's own steps answer them under the setting, one after the other."""
    shown: list[Hit] = []
    for start in range(0, len(query.ids), page_size):
        decision = decision_of("text", start=start, size=page_size, window=setting.window)
        answer = engine_answer(query, max(setting.window, decision.page.end))
        scores = answer.scores[: setting.window]
        judged = (None,) * len(scores) if query.status == "skipped" else query.judgments[: setting.window]
        verdict = Verdict(ranked=rank(scores, judged, setting.recipe), judgments=judged)
        members: Any = render_answer(answer, plan_window(call_of(), decision), decision, verdict)
        shown += [(_text(hit["_index"]), _text(hit["_id"])) for hit in members["hits"]["hits"]]
    return shown


def _text(raw: Any) -> str:
    text = json.loads(bytes(raw))
    assert isinstance(text, str)
    return text


@given(recorded_queries(), settings(), st.integers(1, 13))
def test_the_order_is_the_one_that_is_served(query: RecordedQuery, setting: Setting, page_size: int) -> None:
    """For any window, gaps and setting, the order is what all pages of the proxy show, also across the window's end."""
    assert list(order_of(query, setting)) == served(query, setting, page_size)


@given(recorded_queries(), st.lists(settings(), max_size=8))
def test_many_settings_give_what_each_gives(query: RecordedQuery, tried: list[Setting]) -> None:
    """Settings that share a prepared window do not change each other's order."""
    found = [tuple([query.ids[index] for index in order]) for order in orders(query, tried)]
    assert found == [order_of(query, setting) for setting in tried]


def test_hits_behind_the_window_stay() -> None:
    """Only the first hits move; a smaller window than the recorded one leaves the others in the engine's order."""
    query = query_of("q1", [1, 9, 5, 10])
    [order] = orders(query, [Setting(window=2, method="zscore", alpha=0.0)])
    assert order == (1, 0, 2, 3)
    assert engine_order(query) == (0, 1, 2, 3)


def test_a_search_that_was_skipped_keeps_its_order() -> None:
    """No setting moves a hit of a search that was not reranked."""
    query = query_of("q1", [1, 9, 5], status="skipped", reason="language")
    assert order_of(query, PRESENT) == query.ids


def test_a_window_larger_than_the_recorded_one_is_refused() -> None:
    """The recording does not know which hits would have come."""
    with pytest.raises(
        TuningError, match="window: 11 is more than the 10 hits that were recorded; allowed are 1 to 10"
    ):
        check_settings(head_of(), [Setting(window=11, method="rrf", alpha=0.5)])


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (Setting(window=5, method="rrf", alpha=0.5), "window: 5"),
        (Setting(window=10, method="rrf", alpha=0.5, score="expected"), "score: expected"),
    ],
)
def test_a_cascade_is_swept_only_over_what_it_does_not_depend_on(setting: Setting, field: str) -> None:
    """Under a cascade, window and score decide what is thought about; alpha and method may be tried."""
    with pytest.raises(TuningError, match=f"{field} can't be tried on a recording of the mode cascade"):
        check_settings(head_of(mode="cascade"), [PRESENT, setting])
    check_settings(head_of(mode="cascade"), [Setting(window=10, method="rrf", alpha=0.5)])
    check_settings(head_of(mode="think"), [setting])
