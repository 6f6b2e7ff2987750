"""The clock, and the one deadline of a search."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from es_rerank.clock import Clock, Deadline, SystemClock

seconds = st.integers(0, 10_000).map(lambda count: count / 64)  # sums of these are exact


@dataclass
class FakeClock:
    """A clock that tests set."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return self.now_s


def test_the_system_clock_is_the_machines() -> None:
    """A reading lies between two readings of the machine's own clock."""
    clock: Clock = SystemClock()
    before = time.monotonic()
    assert before <= clock.monotonic_s() <= time.monotonic()


@given(seconds, seconds, seconds)
def test_what_remains_falls_with_the_clock_to_zero(start_s: float, length_s: float, passed_s: float) -> None:
    """A deadline has its length less the time since its start, and never less than nothing."""
    clock = FakeClock(now_s=start_s)
    deadline = Deadline(clock, clock.monotonic_s(), length_s)
    assert deadline.remaining_s() == length_s
    clock.now_s += passed_s
    assert deadline.remaining_s() == max(0, length_s - passed_s)


def test_a_deadline_counts_from_the_start_that_it_is_given() -> None:
    """A search whose reading took time has spent that time already."""
    assert Deadline(FakeClock(now_s=7.0), started_s=5.0, length_s=3.0).remaining_s() == 1
