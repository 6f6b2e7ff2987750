"""A model as judge: its grades come from a recording, and a measure by its own grades is warned of."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.judgment import Judgment
from es_rerank.tuning.judged import Grade, judgment_list
from es_rerank.tuning.model_grades import model_grade, model_grades, warning_about
from es_rerank.tuning.recording import RecordedQuery, RecordingHead, Setting


def spread(**shares: float) -> Judgment:
    """A judgment by the shares of its answers, as in `spread(_7=0.5)`."""
    return Judgment(distribution=tuple(shares.get(f"_{answer}", 0.0) for answer in range(11)))


HEAD = RecordingHead(
    id="r1",
    time="2026-11-28T09:00:00Z",
    index="films",
    rule="films",
    rules_version="1",
    scorer="erank",
    fingerprint="f1",
    window=4,
    setting=Setting(window=4, method="zscore", alpha=0.2),
)
QUERY = RecordedQuery(
    query_id="q1",
    user_query="red shoes",
    group="head",
    status="partial",
    ids=(("films-1", "a"), ("films-1", "b"), ("films-1", "c"), ("films-1", "d")),
    engine_scores=(4.0, 3.0, 2.0, 1.0),
    judgments=(spread(_10=0.9), None, spread(_5=0.2, _0=0.1), Judgment(rank_score=1.0)),
)


def test_grades_come_from_the_distribution() -> None:
    """In engine order, with scorer and fingerprint; no grade without a judgment, or for one of low mass."""
    assert model_grades(HEAD, QUERY) == tuple(
        Grade(
            query_id="q1",
            user_query="red shoes",
            group="head",
            index="films-1",
            object_id=object_id,
            grade=grade,
            source="llm:erank",
            fingerprint="f1",
        )
        for object_id, grade in (("a", 3), ("d", 0))
    )
    assert [one.grade for one in model_grades(HEAD, QUERY, max_grade=10)] == [10, 1]


@pytest.mark.parametrize(
    ("judgment", "grade"),
    [
        (spread(_0=1.0), 0),
        (spread(_1=1.0), 0),
        (spread(_2=1.0), 1),
        (spread(_4=1.0), 1),
        (spread(_5=1.0), 2),
        (spread(_8=1.0), 2),
        (spread(_9=1.0), 3),
        (spread(_0=0.3, _10=0.3), 2),
        (Judgment(rank_score=8.4), 3),
    ],
)
def test_the_scale_is_even(judgment: Judgment, grade: int) -> None:
    """The mean answer, 0 to 10, on 0 to 3: the nearest whole grade, of two that are as near the better."""
    assert model_grade(judgment) == grade


@given(
    shares=st.lists(st.floats(0, 1), min_size=11, max_size=11).filter(lambda shares: sum(shares) > 0),
    max_grade=st.integers(1, 10),
)
def test_a_grade_is_whole_and_on_its_scale(shares: list[float], max_grade: int) -> None:
    """Whatever the distribution."""
    total = sum(shares)
    try:
        judgment = Judgment(distribution=tuple(share / total for share in shares))
    except ValueError:
        return
    assert model_grade(judgment, max_grade) in range(max_grade + 1)


def test_a_model_is_never_measured_by_itself_without_a_word() -> None:
    """The fingerprint decides, not the name; grades of people and of other models are no cause for a word."""
    own = judgment_list("mine", model_grades(HEAD, QUERY))
    assert warning_about(own, HEAD) == (
        "The judgments 'mine' (llm:erank) are those of the scorer 'erank' itself: the figures say how well an order "
        "agrees with the model, not how good it is."
    )
    assert warning_about(own, msgspec.structs.replace(HEAD, fingerprint="f2")) is None
    people = judgment_list("mine", [Grade(query_id="q1", object_id="a", grade=1)])
    assert warning_about(people, HEAD) is None
    assert warning_about(people, msgspec.structs.replace(HEAD, fingerprint="")) is None
