"""What can be asked of a scorer."""

from __future__ import annotations

import pytest

from es_rerank.scorers.abilities import Abilities


@pytest.mark.parametrize(("most", "thinks"), [(0, False), (1, True), (2048, True)])
def test_a_scorer_thinks_that_may_think_at_all(most: int, thinks: bool) -> None:
    """One number says whether and how long, so that the two never contradict each other."""
    assert Abilities(max_think_tokens=most).thinks is thinks


def test_nothing_is_taken_for_granted() -> None:
    """What a kind of scorer does not say of itself it can't do."""
    assert Abilities() == Abilities(max_think_tokens=0, reads_instruction=False)
