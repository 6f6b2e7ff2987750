"""Waiting: how long the pauses are, and when they end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.official.patience import LONGEST_ASKED_S, Patience


def waits(patience: Patience, *asked_s: float | None) -> list[bool]:
    """What each of these waits says."""
    return [patience.wait("full", wish) for wish in asked_s]


def test_pauses_grow_to_a_minute_and_begin_anew() -> None:
    """Each pause is twice the one before, up to a minute; after a success they begin with a second again."""
    pauses: list[float] = []
    patience = Patience(say=lambda _: None, sleep=pauses.append)
    assert waits(patience, *[None] * 8) == [True] * 8
    patience.end_wait()
    patience.wait("full")
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1]


def test_a_wish_of_the_engine_is_kept() -> None:
    """The engine's own wish is the pause, up to an hour, and does not change how others grow."""
    pauses: list[float] = []
    said: list[str] = []
    patience = Patience(say=said.append, sleep=pauses.append)
    waits(patience, None, 90.0, None, 10**9)
    assert pauses == [1, 90, 2, LONGEST_ASKED_S]
    assert said[0] == "the engine takes nothing now: full. Trying again in 1 s (Ctrl-C ends it)"
    assert said[1] == "the engine takes nothing now: full. Trying again in 90 s, as it asks for (Ctrl-C ends it)"


@pytest.mark.parametrize("max_wait_s", [0.0, 0.5])
def test_without_patience_there_is_no_pause(max_wait_s: float) -> None:
    """Where the first pause would be too long already, nothing is waited for and nothing is said."""
    pauses: list[float] = []
    patience = Patience(max_wait_s=max_wait_s, say=pytest.fail, sleep=pauses.append)
    assert not patience.wait("full")
    assert pauses == []


@given(
    wishes=st.lists(st.none() | st.floats(0.001, 1e12), max_size=30),
    max_wait_s=st.floats(0, 1e5) | st.just(math.inf),
)
def test_no_wait_in_a_row_is_longer_than_allowed(wishes: list[float | None], max_wait_s: float) -> None:
    """The pauses between two successes never add up to more than `max_wait_s`, and each of them has a length."""
    pauses: list[float] = []
    patience = Patience(max_wait_s=max_wait_s, say=lambda _: None, sleep=pauses.append)
    waits(patience, *wishes)
    assert sum(pauses) <= max_wait_s * (1 + 1e-9)
    assert all(0 < pause <= LONGEST_ASKED_S for pause in pauses)
