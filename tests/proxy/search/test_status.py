"""What is said of a search: the block in the body, the Warning header, and which outcome it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.status import SearchStatus, outcome_of, warning_of_all
from es_rerank.reasons import OUTCOMES, Gap

if TYPE_CHECKING:
    from es_rerank.reasons import Outcome, Reason


def test_the_block_has_every_field() -> None:
    """The block names status, reason, rule, scorer, the counts and the times, in this order."""
    status = SearchStatus(
        status="partial",
        reason="deadline",
        rule="notes",
        scorer="minilm",
        window=100,
        scored=60,
        cached=20,
        took_ms={"engine": 4, "score": 51},
    )
    assert list(status.block().items()) == [
        ("status", "partial"),
        ("reason", "deadline"),
        ("rule", "notes"),
        ("scorer", "minilm"),
        ("window", 100),
        ("scored", 60),
        ("cached", 20),
        ("missing", 40),
        ("took_ms", {"engine": 4, "score": 51}),
    ]


def test_the_question_is_told_where_it_is_asked_for() -> None:
    """`question` is in the block if the search wants to know it."""
    assert SearchStatus(status="full", question="fox").block()["question"] == "fox"
    assert "question" not in SearchStatus(status="full").block()


def test_hits_without_text_are_counted_where_there_are_some() -> None:
    """`missing_text` is in the block only if it isn't zero."""
    assert SearchStatus(status="full", window=3, scored=1, missing_text=2).block()["missing_text"] == 2
    assert "missing_text" not in SearchStatus(status="full", window=3, scored=3).block()


def test_the_id_of_the_event_is_named_where_events_are_written() -> None:
    """`query_id` is in the block of a search that has one, and last there."""
    assert list(SearchStatus(status="full", query_id="q-1").block().items())[-1] == ("query_id", "q-1")
    assert "query_id" not in SearchStatus(status="full").block()


@pytest.mark.parametrize(
    ("status", "warning"),
    [
        (SearchStatus(status="full", window=9, scored=9), None),
        (SearchStatus(status="skipped", reason="sort"), None),
        (
            SearchStatus(status="failed", reason="no_worker", window=9),
            b'299 es-rerank "reranking failed (no_worker): hits are in engine order"',
        ),
        (
            SearchStatus(status="partial", reason="deadline", window=9, scored=4),
            b'299 es-rerank "reranking was partial (deadline): 4 of 9 hits have a rank score"',
        ),
    ],
)
def test_only_what_went_worse_than_configured_warns(status: SearchStatus, warning: bytes | None) -> None:
    """`failed` and `partial` have a Warning header in the engines' form; `full` and `skipped` have none."""
    assert status.warning() == warning


def test_thinking_is_told_of_where_there_is_some() -> None:
    """The mode is shown for a scorer that thinks, and `cut`, `low_mass` and `truncated` are shown if they are not 0."""
    plain = SearchStatus(status="full", window=3, scored=3).block()
    assert not {"mode", "cut", "low_mass", "truncated"} & plain.keys()
    told = SearchStatus(
        status="partial", reason="deadline", window=9, scored=9, mode="think", cut=2, low_mass=1, truncated=3
    )
    assert {"mode": "think", "cut": 2, "low_mass": 1, "truncated": 3}.items() <= told.block().items()
    assert b"2 were judged before their thinking ended" in (told.warning() or b"")


@pytest.mark.parametrize(
    ("window", "scored", "reason", "outcome"),
    [
        (9, 9, None, ("full", None)),
        (9, 9, "deadline", ("partial", "deadline")),
        (0, 0, "deadline", ("full", None)),
        (0, 0, None, ("full", None)),
        (9, 4, "deadline", ("partial", "deadline")),
        (9, 0, "no_worker", ("failed", "no_worker")),
    ],
)
def test_the_outcome_follows_from_the_counts(
    window: int, scored: int, reason: Reason | None, outcome: tuple[Outcome, Reason | None]
) -> None:
    """All scored and nothing wrong is `full`; some, or all but something wrong, is `partial`; none is `failed`."""
    assert outcome_of(window=window, scored=scored, reason=reason) == outcome


@given(st.integers(0, 200), st.integers(0, 200), st.none() | st.sampled_from(get_args(Gap)))
def test_a_warning_fits_its_outcome(window: int, scored: int, reason: Reason | None) -> None:
    """A Warning is printable ASCII, and is there exactly if scores are missing or are not what was asked for."""
    scored = min(window, scored)
    outcome, said = outcome_of(window=window, scored=scored, reason=reason)
    warning = SearchStatus(status=outcome, reason=said, window=window, scored=scored).warning()
    assert (warning is not None) is (scored < window or (reason is not None and window > 0))
    assert warning is None or all(32 <= byte < 127 for byte in warning)


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from(get_args(Gap)))
def test_an_outcome_is_one_that_its_reason_can_stand_beside(window: int, scored: int, reason: Reason) -> None:
    """Whatever was scored, status and reason fit together as the manual says, and `full` has no reason."""
    outcome, said = outcome_of(window=window, scored=min(window, scored), reason=reason)
    assert outcome in ({"full"} if said is None else OUTCOMES[said])


def test_one_warning_sums_up_what_befell_many_searches() -> None:
    """It counts them, and names each reason once; where nothing went wrong there is none."""
    full, skipped = SearchStatus(status="full"), SearchStatus(status="skipped", reason="sort")
    late = SearchStatus(status="partial", reason="deadline", window=9, scored=4)
    lost = SearchStatus(status="failed", reason="no_worker")
    assert warning_of_all([]) is None
    assert warning_of_all([full, skipped]) is None
    said = b'299 es-rerank "reranking failed or was partial for 3 of 5 searches (deadline, no_worker)"'
    assert warning_of_all([late, full, lost, skipped, late]) == said
