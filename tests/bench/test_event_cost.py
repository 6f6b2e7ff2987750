"""The figures of the bench of events, computed by hand."""

from __future__ import annotations

from bench.event_cost import OFF, ON, TABLES, Figures, goals, over_off, table

MEASURED = {
    10: {
        OFF: Figures(rounds=[[10, 10, 10], [20, 20, 90], [10, 10, 10]], cpu_ms=4.0),
        ON: Figures(rounds=[[10, 10, 80], [21, 21, 21], [11, 11, 11]], cpu_ms=4.2),
    }
}


def test_the_ratio_is_that_of_medians_in_each_round() -> None:
    """10 over 10, 21 over 20 and 11 over 10, whatever single searches took; the median of rounds is the verdict."""
    assert over_off(MEASURED[10], ON) == [1.0, 1.05, 1.1]
    assert goals(MEASURED).endswith("1.050 (1.000 to 1.100); the goal is at most 1.05: kept")


def test_the_table_has_a_line_for_each_proxy() -> None:
    """The proxy without events is what the other one is compared with."""
    off, on = table(MEASURED).splitlines()[2:]
    assert off.startswith("| 10 | off | 10.00 | ")
    assert off.endswith(" |  | 4.00 |")
    assert on.endswith("| 1.050 (1.000 to 1.100) | 4.20 |")


def test_the_sample_is_the_default() -> None:
    """One proxy writes no events, the other one the sample that everybody has who sets none."""
    assert "sample_rate = 0.0" in TABLES[OFF]
    assert "sample_rate" not in TABLES[ON]
