"""How far a new order is from the engine's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.events.movement import DEPTH, Movement, movement_of

ORDERS = st.integers(1, 40).flatmap(lambda size: st.permutations(range(size)))


@given(ORDERS)
def test_the_overlap_is_that_of_the_two_first_tens(order: list[int]) -> None:
    """It is what two sets say: how many of the engine's first hits are among the new first ones."""
    moved = movement_of(order)
    assert moved is not None
    engine, new = set(sorted(order)[:DEPTH]), set(order[:DEPTH])
    assert moved.overlap == pytest.approx(len(engine & new) / len(new))
    assert 0 <= moved.overlap <= 1


@given(ORDERS)
def test_the_moves_are_those_of_the_new_first_ten(order: list[int]) -> None:
    """The mean and the longest way of the hits that are shown first, each the places between its two ranks."""
    moved = movement_of(order)
    assert moved is not None
    ways = [abs(order.index(hit) - hit) for hit in order[:DEPTH]]
    assert moved.mean == pytest.approx(sum(ways) / len(ways))
    assert moved.most == max(ways)
    assert (moved.most == 0) == (order[:DEPTH] == sorted(order)[:DEPTH])


def test_a_known_order() -> None:
    """The engine's eleventh hit comes first and pushes the tenth out: nine of ten stay."""
    assert movement_of([10, *range(10), *range(11, 20)]) == Movement(overlap=0.9, mean=1.9, most=10)


def test_without_hits_nothing_moves() -> None:
    """No hits, no figures."""
    assert movement_of([]) is None
