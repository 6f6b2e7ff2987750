"""The memory for bodies that are held: no more than there is, and all of it is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.memory import MemoryBudget


def test_a_share_takes_what_there_is_and_no_more() -> None:
    """Up to the last byte there is room; for one more there is none, and then nothing is taken."""
    budget = MemoryBudget(10)
    share, other = budget.share(), budget.share()
    assert share.take(6)
    assert not other.take(5)
    assert (other.held_bytes, budget.held_bytes) == (0, 6)
    assert other.take(4)
    assert not share.take(1)
    share.release()
    assert other.take(6)


def test_a_block_gives_back_all_however_it_ends() -> None:
    """Whatever happens in a share's block, its bytes are free behind it."""
    budget = MemoryBudget(10)

    def hold_and_break() -> None:
        with budget.share() as share:
            assert share.take(10)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        hold_and_break()
    assert budget.held_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 60)))))
def test_the_budget_is_the_sum_of_its_shares(steps: list[tuple[int, int | None]]) -> None:
    """In whatever order shares take and give back, the budget is what they hold, and never beyond its size."""
    budget = MemoryBudget(100)
    shares = [budget.share() for _ in range(5)]
    for number, count in steps:
        if count is None:
            shares[number].release()
        else:
            room = budget.held_bytes + count <= budget.max_bytes
            assert shares[number].take(count) is room
        assert budget.held_bytes == sum(share.held_bytes for share in shares) <= budget.max_bytes
