"""The one list of reasons and of the outcomes that they stand beside."""

from __future__ import annotations

from typing import get_args

from es_rerank.reasons import OUTCOMES, WORKER_REASONS, Failure, Foreign, Gap, NoRule, NotOurs, Outcome, Reason

SORTS = [get_args(sort) for sort in (NoRule, Foreign, NotOurs, Gap, Failure)]


def test_every_reason_has_its_outcomes() -> None:
    """Each word has at least one, and there is none without a word; a search in full has no reason."""
    assert set(OUTCOMES) == set(get_args(Reason))
    assert all(OUTCOMES.values())
    assert {outcome for outcomes in OUTCOMES.values() for outcome in outcomes} == {*get_args(Outcome)} - {"full"}


def test_a_reason_is_of_one_sort() -> None:
    """No word stands for two things, and each can be written in a log, a header and a manual as it is."""
    words = [word for sort in SORTS for word in sort]
    assert sorted(words) == sorted(get_args(Reason))
    assert len(set(words)) == len(words)
    assert all(word.isidentifier() and word.isascii() and word == word.lower() for word in words)


def test_what_a_worker_may_say_is_a_gap() -> None:
    """A worker's word is taken as it is, and is one of those for scores that are missing."""
    assert all(said == meant for said, meant in WORKER_REASONS.items())
    assert set(WORKER_REASONS) <= set(get_args(Gap))
