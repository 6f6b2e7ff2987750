"""A recording beside judgments: nothing is left out silently, and a grade belongs to one hit."""

from __future__ import annotations

import pytest

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.judged import Grade, JudgmentList, judgment_list
from tests.tuning.cases import judged_as, query_of, recording_of


def listed(*grades: Grade) -> JudgmentList:
    """A list of these grades."""
    return judgment_list("mine", grades)


def test_missing_unjudged_and_hopeless_queries_are_named() -> None:
    """Queries that only one side has, and those without a relevant document, are told by their ids."""
    recording = recording_of(query_of("q1", [1, 2]), query_of("q2", [1]), query_of("extra", [1]))
    graded = grade_recording(recording, judged_as({"q1": {"d1": 2, "far": 1}, "q2": {"d0": 0}, "gone": {"d0": 1}}))
    assert [query.query_id for query in graded.queries] == ["q1", "q2", "gone"]
    assert graded.missing == ("gone",)
    assert graded.without_relevant == ("q2",)
    assert graded.unjudged == ("extra",)
    assert graded.queries[0].grades == (None, 2)
    assert graded.queries[0].others == (1,)
    assert (graded.queries[2].grades, graded.queries[2].others) == ((), (1,))


def test_only_the_chosen_queries_count() -> None:
    """A query set leaves the rest of the judgments out; recorded queries outside it are still judged."""
    recording = recording_of(query_of("q1", [1]), query_of("q2", [1]))
    judgments = judged_as({"q1": {"d0": 1}, "q2": {"d0": 1}, "q3": {"d0": 1}})
    graded = grade_recording(recording, judgments, only={"q1", "q9"})
    assert [query.query_id for query in graded.queries] == ["q1"]
    assert graded.unjudged == ()
    with pytest.raises(TuningError, match="judges none of the chosen queries"):
        grade_recording(recording, judgments, only={"q9"})


def test_words_and_groups_come_from_either_side() -> None:
    """The judgment list's words and group count before those of the recording."""
    judgments = listed(
        Grade(query_id="q1", object_id="d0", grade=1, user_query="judged words", group="head"),
        Grade(query_id="q2", object_id="d0", grade=1),
    )
    graded = grade_recording(recording_of(query_of("q1", [1]), query_of("q2", [1], group="tail")), judgments)
    assert [(query.user_query, query.group) for query in graded.queries] == [
        ("judged words", "head"),
        ("words of q2", "tail"),
    ]


def test_ids_that_do_not_agree_are_an_error() -> None:
    """Where no query is on both sides, both kinds of ids are shown."""
    with pytest.raises(TuningError, match=r"has none of the 1 queries of the list 'qrels'.*'q1'.*'7'"):
        grade_recording(recording_of(query_of("q1", [1])), judged_as({"7": {"d0": 1}}))


def test_a_grade_is_never_used_for_two_hits() -> None:
    """A grade without an index fits a document of that id in each index; which one was meant is not guessed."""
    recording = recording_of(query_of("q1", [1, 2], ids=[("notes-1", "a"), ("notes-2", "a")]))
    with pytest.raises(
        TuningError, match="query 'q1': the grade of 'a' holds for two hits, in 'notes-1' and in 'notes-2'"
    ):
        grade_recording(recording, judged_as({"q1": {"a": 1}}))
    own = listed(
        Grade(query_id="q1", object_id="a", grade=2, index="notes-1"),
        Grade(query_id="q1", object_id="a", grade=1, index="notes-2"),
    )
    assert grade_recording(recording, own).queries[0].grades == (2, 1)


def test_a_grade_for_the_own_index_replaces_the_one_without() -> None:
    """The grade that counts for no hit any more is no judged document either, and so costs no recall."""
    recording = recording_of(query_of("q1", [1], ids=[("notes-1", "a")]))
    both = listed(
        Grade(query_id="q1", object_id="a", grade=2, index="notes-1"), Grade(query_id="q1", object_id="a", grade=1)
    )
    [query] = grade_recording(recording, both).queries
    assert (query.grades, query.others) == ((2,), ())


@pytest.mark.parametrize(
    ("source", "fingerprint", "own"), [("llm:erank", "f1", True), ("llm:erank", "f2", False), ("people", "", False)]
)
def test_a_model_is_not_evaluated_on_its_own_judgments_without_a_word(source: str, fingerprint: str, own: bool) -> None:
    """Judgments of the recorded scorer itself are known by its fingerprint."""
    grades = listed(Grade(query_id="q1", object_id="d0", grade=1, source=source, fingerprint=fingerprint))
    assert (grade_recording(recording_of(query_of("q1", [1])), grades).warning is not None) is own
