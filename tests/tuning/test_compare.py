"""Two orders side by side: wins and losses, a test, and the hits that moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from es_rerank.tuning.compare import MovedHit, Side, compare, moved_hits
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.recording import Setting
from es_rerank.tuning.report import compare_report
from tests.tuning.cases import INDEX, judged_as, query_of, recording_of

BY_MODEL = Setting(window=10, method="zscore", alpha=0.0)
JUDGMENTS = judged_as({"q1": {"d1": 1}, "q2": {"d0": 2}, "q3": {"d0": 1}, "q4": {"d2": 1, "d0": 0}})
RECORDING = recording_of(
    query_of("q1", [1, 9, 5]),  # gains
    query_of("q2", [1, 9, 5]),  # loses most
    query_of("q3", [9, 5, 1]),  # stays
)


def test_a_setting_against_the_engine() -> None:
    """Wins, losses and ties are counted over all judged queries, and the query that changes most comes first."""
    graded = grade_recording(RECORDING, JUDGMENTS)
    found = compare(Side(graded=graded, setting=None), Side(graded=graded, setting=BY_MODEL), "RR@10")
    assert (found.wins, found.losses, found.ties) == (1, 1, 2)
    assert [(query.query_id, query.from_value, query.to_value) for query in found.queries] == [
        ("q1", 0.5, 1.0),
        ("q2", 1.0, pytest.approx(1 / 3)),
        ("q3", 1.0, 1.0),
        ("q4", 0.0, 0.0),
    ]
    assert found.from_mean == pytest.approx(2.5 / 4)
    assert found.to_mean == pytest.approx((2 + 1 / 3) / 4)
    assert found.exact
    assert found.p == 1.0  # of four flips of a gain and a loss, all are as far from 0 or farther, or just as far
    [(first, hits), (second, _)] = found.moved
    assert (first.query_id, second.query_id) == ("q2", "q1")
    assert [(hit.object_id, hit.from_place, hit.to_place, hit.grade) for hit in hits] == [
        ("d1", 2, 1, None),
        ("d2", 3, 2, None),
        ("d0", 1, 3, 2),
    ]
    assert (
        len(compare(Side(graded=graded, setting=None), Side(graded=graded, setting=BY_MODEL), "RR@10", most=1).moved)
        == 1
    )


def test_two_recordings() -> None:
    """Each side has its own windows: a hit that only one of them has is shown with the place it has there."""
    other = recording_of(query_of("q1", [9, 5], ids=[(INDEX, "d1"), (INDEX, "new")]), id="run-2")
    before, after = (Side(graded=grade_recording(one, JUDGMENTS), setting=BY_MODEL) for one in (RECORDING, other))
    found = compare(before, after, "nDCG@10")
    assert (found.from_name, found.to_name) == (f"run-1: {BY_MODEL}", f"run-2: {BY_MODEL}")
    moved = {query.query_id: hits for query, hits in found.moved}
    assert moved["q3"][0] == MovedHit(index=INDEX, object_id="d0", from_place=1, to_place=None, grade=1)
    assert "q1" not in moved  # its first hit stays where it is
    with pytest.raises(TuningError, match="graded by the same judgments"):
        compare(before, Side(graded=grade_recording(other, judged_as({"q1": {"d0": 1}})), setting=None), "nDCG@10")


def test_only_hits_near_the_top_that_moved_are_shown() -> None:
    """A hit counts if it is among the first places of either side and has another place on the other."""
    before = [((INDEX, name), None) for name in "abcdef"]
    after = [((INDEX, name), None) for name in "afcdbe"]
    found = moved_hits(before, after, places=2)
    assert [(hit.object_id, hit.from_place, hit.to_place) for hit in found] == [("f", 6, 2), ("b", 2, 5)]


def test_the_report_names_the_queries_and_hits() -> None:
    """Means, counts, p, and a table of hits for each query that moved."""
    graded = grade_recording(RECORDING, JUDGMENTS)
    found = compare(Side(graded=graded, setting=None), Side(graded=graded, setting=BY_MODEL), "RR@10")
    text = compare_report(found, ["a remark"])
    assert (
        "RR@10 0.625 → 0.583 (-0.042), p = 1.00 by all sign flips, over 4 queries: 1 better, 1 worse, 2 alike." in text
    )
    assert "q2 'words of q2': 1.000 → 0.333 (-0.667)" in text
    assert "| notes/d0 |    1 |  3 |     2 |" in text
    assert text.endswith("a remark")
    assert "p < 0.001" in compare_report(replace(found, p=0.0001))
