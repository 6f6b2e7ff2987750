"""What the cache saves, by the mean of what scoring took."""

from __future__ import annotations

from dataclasses import replace

from es_rerank.proxy.events.costs import ScoreCosts
from tests.proxy.events.samples import searched_with, status_with

DECISION = searched_with().decision


def test_saved_time_is_cached_hits_times_the_mean_cost_of_a_scored_one() -> None:
    """30 ms for 3 hits and 90 ms for 1: 30 ms each, so 10 cached hits save 300 ms."""
    costs = ScoreCosts()
    ten_cached = status_with(window=10, scored=10, cached=10, took_ms={})
    assert costs.saved_ms(DECISION, ten_cached) is None
    costs.note(DECISION, status_with(took_ms={"score": 30.0}))
    costs.note(DECISION, status_with(cached=2, took_ms={"score": 90.0}))
    assert costs.saved_ms(DECISION, ten_cached) == 300.0
    assert costs.saved_ms(DECISION, status_with()) == 0.0


def test_each_scorer_and_mode_has_a_cost_of_its_own() -> None:
    """What one scorer takes says nothing of another, nor thinking of direct answers."""
    costs = ScoreCosts()
    costs.note(DECISION, status_with())
    assert costs.saved_ms(replace(DECISION, mode="think"), status_with(cached=1)) is None
    other = replace(DECISION, scoring=replace(DECISION.scoring, fingerprint="other"))
    assert costs.saved_ms(other, status_with(cached=1)) is None


def test_a_search_that_did_not_get_all_scores_teaches_nothing() -> None:
    """It waited for its deadline; and one whose scores were all cached waited for nobody."""
    costs = ScoreCosts()
    costs.note(DECISION, status_with(status="partial", reason="deadline", scored=1))
    costs.note(DECISION, status_with(cached=3))
    costs.note(DECISION, status_with(took_ms={}))
    assert costs.saved_ms(DECISION, status_with(cached=1)) is None
