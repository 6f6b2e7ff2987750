"""The engine's hosts: in rotation, and with pauses for those that could not be reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.hosts import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_SILENCES,
    MOST_UNSERVED,
    UNSERVED_S,
    Hosts,
    Unserved,
)
from tests.virtual import VirtualClock

A, B, C = "http://a:9200", "http://b:9200", "http://c:9200"


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that stands still."""
    return VirtualClock(100.0)


def test_hosts_take_turns(clock: VirtualClock) -> None:
    """Each search begins with the next host, and has all the others to fall back on, in the same circle."""
    hosts = Hosts([A, B, C], clock)
    assert [hosts.in_turn() for _ in range(4)] == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]


def test_a_single_host_is_always_tried(clock: VirtualClock) -> None:
    """A single host is tried even while it pauses, since there is no other."""
    hosts = Hosts([A], clock)
    hosts.mark_dead(A)
    assert [hosts.in_turn(), hosts.in_turn()] == [[A], [A]]


def test_a_host_that_pauses_comes_last(clock: VirtualClock) -> None:
    """A host that pauses comes last in every turn, and the others go on taking turns."""
    hosts = Hosts([A, B, C], clock)
    hosts.mark_dead(A)
    assert [hosts.in_turn() for _ in range(3)] == [[B, C, A], [B, C, A], [C, B, A]]


def test_a_pause_is_told(clock: VirtualClock) -> None:
    """A host pauses from its failure on, until its time is over or it answers."""
    hosts = Hosts([A, B], clock)
    hosts.mark_dead(A)
    assert (hosts.pauses(A), hosts.pauses(B)) == (True, False)
    clock.now_s += FIRST_PAUSE_S
    assert not hosts.pauses(A)
    hosts.mark_dead(A)
    hosts.mark_live(A)
    assert not hosts.pauses(A)


def test_of_those_that_pause_the_soonest_back_comes_first(clock: VirtualClock) -> None:
    """When none can be reached, the one whose pause ends first is tried first."""
    hosts = Hosts([A, B, C], clock)
    for url in (C, A, B):
        hosts.mark_dead(url)
        clock.now_s += 0.25
    assert hosts.in_turn() == [C, A, B]


def test_a_pause_ends_by_itself(clock: VirtualClock) -> None:
    """A second after the failure one request tries the host; once it has answered, it has its turns again."""
    hosts = Hosts([A, B], clock)
    hosts.mark_dead(A)
    clock.now_s += FIRST_PAUSE_S - 0.01
    assert [hosts.in_turn()[0] for _ in range(4)] == [B] * 4
    clock.now_s += 0.01
    assert [hosts.in_turn()[0] for _ in range(4)] == [A, B, B, B]
    assert hosts.mark_live(A)
    assert [hosts.in_turn()[0] for _ in range(4)] == [A, B, A, B]
    assert not hosts.mark_live(A)


def test_a_trial_without_an_end_is_repeated(clock: VirtualClock) -> None:
    """If nobody tells how a trial ended, another request tries the host after one more pause."""
    hosts = Hosts([A, B], clock)
    hosts.mark_dead(A)
    for _ in range(3):
        clock.now_s += FIRST_PAUSE_S
        assert {hosts.in_turn()[0], hosts.in_turn()[0]} == {A, B}
        assert hosts.in_turn()[0] == B


def lengths_of_pauses(hosts: Hosts, clock: VirtualClock, count: int) -> list[float]:
    """How long each pause is, in steps of 0.5 s, if host A fails again as soon as its pause is over."""
    lengths = []
    for _ in range(count):
        hosts.mark_dead(A)
        start_s = clock.now_s
        while {hosts.in_turn()[0], hosts.in_turn()[0]} == {B}:
            clock.now_s += 0.5
        lengths.append(clock.now_s - start_s)
    return lengths


def test_pauses_double_up_to_half_a_minute(clock: VirtualClock) -> None:
    """Each failure after a pause makes the next one twice as long, until it is 30 s."""
    assert lengths_of_pauses(Hosts([A, B], clock), clock, 8) == [1, 2, 4, 8, 16, 30, 30, LONGEST_PAUSE_S]


def test_an_answer_ends_the_pause_and_its_doubling(clock: VirtualClock) -> None:
    """A host that answered takes turns like the others, and its next failure counts as its first."""
    hosts = Hosts([A, B], clock)
    assert lengths_of_pauses(hosts, clock, 3) == [1, 2, 4]
    hosts.mark_dead(A)
    hosts.mark_live(A)
    assert {hosts.in_turn()[0], hosts.in_turn()[0]} == {A, B}
    assert lengths_of_pauses(hosts, clock, 1) == [1]


def test_many_requests_that_fail_together_are_one_failure(clock: VirtualClock) -> None:
    """A restart that breaks a hundred requests at once must not cost the host half a minute."""
    hosts = Hosts([A, B], clock)
    for _ in range(99):
        hosts.mark_dead(A)
    assert lengths_of_pauses(hosts, clock, 1) == [FIRST_PAUSE_S]


def test_a_live_host_can_be_called_live(clock: VirtualClock) -> None:
    """A host may be marked live at any time, whether it pauses or not."""
    hosts = Hosts([A, B], clock)
    hosts.mark_live(A)
    assert hosts.in_turn() == [A, B]


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.floats(0, 40))),
)
def test_whatever_happens_every_host_is_listed_once(host_count: int, events: list[tuple[bool, int, float]]) -> None:
    """No series of failures takes a host out of the list, or puts a pausing one before one that works."""
    urls = [f"http://{number}" for number in range(host_count)]
    clock = VirtualClock(100.0)
    hosts = Hosts(urls, clock)
    failed: set[str] = set()
    for answers, number, passed_s in events:
        clock.now_s += passed_s
        url = urls[number % host_count]
        if answers:
            hosts.mark_live(url)
            failed.discard(url)
        else:
            hosts.mark_dead(url)
            failed.add(url)
        turn = hosts.in_turn()
        assert sorted(turn) == sorted(urls)
        assert answers or failed.issuperset(turn[turn.index(url) :])


def test_a_host_that_owes_answers_comes_behind(clock: VirtualClock) -> None:
    """A host that was asked, and has not begun to answer, comes after those that owe nothing."""
    hosts = Hosts([A, B, C], clock)
    with hosts.owing(A), hosts.owing(A), hosts.owing(C):
        assert [hosts.in_turn() for _ in range(3)] == [[B, C, A]] * 3
    assert [hosts.in_turn()[0] for _ in range(3)] == [A, B, C]


def test_a_host_that_says_nothing_pauses_at_last(clock: VirtualClock) -> None:
    """Each of three callers whose time runs out in a row is one more sign that the host hangs; an answer undoes it."""
    hosts = Hosts([A, B], clock)
    assert [hosts.mark_silent(A), hosts.mark_silent(A)] == [None, None]
    hosts.mark_live(A)
    assert [hosts.mark_silent(A) for _ in range(MOST_SILENCES)] == [None, None, FIRST_PAUSE_S]
    assert [hosts.in_turn()[0] for _ in range(4)] == [B] * 4
    clock.now_s += FIRST_PAUSE_S
    assert hosts.in_turn()[0] == A
    assert hosts.mark_silent(A) == 2 * FIRST_PAUSE_S, "one silence is enough on trial"


def test_what_no_host_can_serve_is_believed_for_a_second(clock: VirtualClock) -> None:
    """A path that two hosts could not serve is known for a second, and no other path is."""
    unserved = Unserved(clock)
    unserved.note(b"/red/_search")
    assert b"/red/_search" in unserved
    assert b"/films/_search" not in unserved
    clock.now_s += UNSERVED_S
    assert b"/red/_search" not in unserved


def test_only_so_many_paths_are_known(clock: VirtualClock) -> None:
    """However many paths fail, the latest are kept and the memory is bounded."""
    unserved = Unserved(clock)
    for number in range(3 * MOST_UNSERVED):
        unserved.note(b"%d" % number)
    assert len(unserved._until_s) == MOST_UNSERVED
    assert b"%d" % (3 * MOST_UNSERVED - 1) in unserved
