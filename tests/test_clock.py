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
    """Two clocks that tests set."""

    now_s: float = 0.0
    since_1970_s: float = 0.0

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return self.now_s

    def epoch_s(self) -> float:
        """See `Clock`."""
        return self.since_1970_s


def test_the_system_clock_is_the_machines() -> None:
    """Both readings lie between two readings of the machine's own clocks."""
    clock: Clock = SystemClock()
    before, since_1970_s = time.monotonic(), time.time()
    assert before <= clock.monotonic_s() <= time.monotonic()
    assert since_1970_s <= clock.epoch_s() <= time.time()


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


def test_another_process_is_told_the_moment() -> None:
    """Since 1970 the deadline is now and what remains, even if that clock was set meanwhile."""
    clock = FakeClock(now_s=10.0, since_1970_s=1_000_000.0)
    deadline = Deadline(clock, clock.monotonic_s(), 4.0)
    assert deadline.epoch_s() == 1_000_004
    clock.now_s += 3
    clock.since_1970_s = 2_000_000.0
    assert deadline.epoch_s() == 2_000_001
    clock.now_s += 3
    assert deadline.epoch_s() == 2_000_000
