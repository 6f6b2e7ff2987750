"""The only list of reasons, and the outcomes that each can come with."""

from __future__ import annotations

from typing import get_args

from es_rerank.reasons import OUTCOMES, WORKER_REASONS, Failure, Foreign, Gap, NoRule, NotOurs, Outcome, Reason

SORTS = [get_args(sort) for sort in (NoRule, Foreign, NotOurs, Gap, Failure)]


def test_every_reason_has_its_outcomes() -> None:
    """Each reason has an outcome, and each outcome a reason, except `full`, which has none."""
    assert set(OUTCOMES) == set(get_args(Reason))
    assert all(OUTCOMES.values())
    assert {outcome for outcomes in OUTCOMES.values() for outcome in outcomes} == {*get_args(Outcome)} - {"full"}


def test_a_reason_is_of_one_sort() -> None:
    """No word is of two sorts, and each word can be written into a log, a header and a manual as it is."""
    words = [word for sort in SORTS for word in sort]
    assert sorted(words) == sorted(get_args(Reason))
    assert len(set(words)) == len(words)
    assert all(word.isidentifier() and word.isascii() and word == word.lower() for word in words)


def test_what_a_worker_may_say_is_a_gap() -> None:
    """A worker's word stays as it is, and is one of the words for missing scores."""
    assert all(said == meant for said, meant in WORKER_REASONS.items())
    assert set(WORKER_REASONS) <= set(get_args(Gap))
