"""The figures of the bench of events, computed by hand."""

from __future__ import annotations

from bench.event_cost import DEFAULT, EVERY_HIT, OFF, TABLES, Figures, goals, over_off, table
from es_rerank.settings import Settings

MEASURED = {
    "short": {
        OFF: Figures(rounds=[[10, 10, 10], [20, 20, 90], [10, 10, 10]], cpu_ms=4.0),
        DEFAULT: Figures(rounds=[[10, 10, 80], [21, 21, 21], [11, 11, 11]], cpu_ms=4.2),
        EVERY_HIT: Figures(rounds=[[15, 15, 15], [30, 30, 30], [15, 15, 15]], cpu_ms=5.0),
    }
}


def test_the_ratio_is_that_of_medians_in_each_round() -> None:
    """10 over 10, 21 over 20 and 11 over 10, whatever single searches took; the median of rounds is the verdict."""
    assert over_off(MEASURED["short"], DEFAULT) == [1.0, 1.05, 1.1]
    assert goals(MEASURED).endswith("1.050 (1.000 to 1.100); the goal is at most 1.05: kept")


def test_the_table_has_a_line_for_each_proxy() -> None:
    """The proxy without events is what the others are compared with."""
    off, default, every = table(MEASURED).splitlines()[2:]
    assert off.startswith("| short | off | 10.00 | ")
    assert off.endswith(" |  | 4.00 |")
    assert default.endswith("| 1.050 (1.000 to 1.100) | 4.20 |")
    assert every.endswith("| 1.500 (1.500 to 1.500) | 5.00 |")


def test_the_proxies_differ_in_their_events() -> None:
    """One has none, one the default sample, one the rows of each search."""
    assert [bool(tables) for tables in TABLES.values()] == [False, True, True]
    assert "hits_sample_rate" not in TABLES[DEFAULT]
    assert Settings.model_fields["events"].default.sample_rate == 1.0
