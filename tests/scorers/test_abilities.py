"""What can be asked of a scorer."""

from __future__ import annotations

import pytest

from es_rerank.scorers.abilities import Abilities


@pytest.mark.parametrize(("most", "thinks"), [(0, False), (1, True), (2048, True)])
def test_a_scorer_thinks_that_may_think_at_all(most: int, thinks: bool) -> None:
    """A scorer thinks exactly if it may think at least one token: one number says both."""
    assert Abilities(max_think_tokens=most).thinks is thinks


def test_nothing_is_taken_for_granted() -> None:
    """An ability that a kind of scorer does not declare is off."""
    assert Abilities() == Abilities(max_think_tokens=0, reads_instruction=False, language=None, alpha=0.2)
