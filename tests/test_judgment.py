"""A judgment: which values are refused, and both rank scores from one distribution."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.judgment import Judgment


def sure_of(**shares: float) -> Judgment:
    """A judgment with these probabilities, as in `sure_of(a9=0.95)`."""
    return Judgment(distribution=tuple(shares.get(f"a{answer}", 0.0) for answer in range(11)))


@pytest.mark.parametrize(
    ("judgment", "paper", "expected"),
    [
        (sure_of(a9=0.95), 8.55, 9.0),
        (sure_of(a10=0.5), 5.0, 10.0),
        (sure_of(a0=0.9, a10=0.1), 0.0, 1.0),
        (sure_of(a4=0.2, a6=0.2), 0.8, 5.0),
        (sure_of(a2=0.01), 0.02, 2.0),
        (Judgment(rank_score=4.5), 4.5, 4.5),
    ],
)
def test_both_scores_follow_from_one_judgment(judgment: Judgment, paper: float, expected: float) -> None:
    """`paper` is the likeliest answer (the lower of two) times its probability; `expected` the mean, over the mass."""
    assert judgment.score("paper") == pytest.approx(paper)
    assert judgment.score("expected") == pytest.approx(expected)


def test_a_malformed_answer_is_marked_and_no_silent_zero() -> None:
    """A judgment with little mass has `low_mass`, and the little mass does not lower its expected score."""
    malformed = sure_of(a8=0.03, a9=0.03)
    assert malformed.low_mass
    assert malformed.score("expected") == pytest.approx(8.5)
    assert not sure_of(a8=0.6).low_mass
    assert not Judgment(rank_score=0.0).low_mass


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"rank_score": 1.0, "distribution": (1.0, *[0.0] * 10)},
        {"rank_score": -0.1},
        {"rank_score": 10.1},
        {"rank_score": math.nan},
        {"distribution": (1.0,)},
        {"distribution": (0.0,) * 11},
        {"distribution": (1.0,) * 11},
        {"distribution": (-0.1, *[0.1] * 10)},
        {"distribution": (math.nan, *[0.0] * 10)},
    ],
)
def test_what_is_no_judgment_is_refused(members: dict[str, Any]) -> None:
    """Neither or both of number and distribution, and numbers out of range, are an error, in reading and in making."""
    with pytest.raises(ValueError, match="a "):
        Judgment(**members)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(members), type=Judgment)


@given(st.lists(st.floats(0, 1), min_size=11, max_size=11).filter(lambda shares: sum(shares) > 1e-6))
def test_scores_lie_in_their_range(shares: list[float]) -> None:
    """Whatever the distribution, both scores lie from 0 to 10, and it survives being written and read."""
    judgment = Judgment(distribution=tuple(share / max(1.0, sum(shares)) for share in shares))
    assert 0 <= judgment.score("paper") <= 10
    assert 0 <= judgment.score("expected") <= 10
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(judgment), type=Judgment) == judgment
