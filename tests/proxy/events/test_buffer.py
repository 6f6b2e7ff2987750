"""The buffer between searches and the thread that writes: bounded, and never waited for."""

from __future__ import annotations

import sys
import threading

from es_rerank.proxy.events.buffer import BATCH_DOCUMENTS, EventBuffer
from tests.proxy.events.samples import event_with, searched_with

EVENT = event_with(searched_with())


def test_a_million_events_stay_within_the_bound() -> None:
    """Nobody takes them: the buffer holds what it may, and counts each of the others as dropped."""
    buffer = EventBuffer(20_000)
    for _ in range(1_000_000):
        buffer.put((EVENT,))
    assert len(buffer) == 20_000
    assert (buffer.recorded, buffer.dropped) == (1_000_000, 980_000)
    assert sys.getsizeof(buffer._waiting) < 20_000 * 16


def test_what_came_first_is_kept_and_a_search_is_kept_whole_or_not_at_all() -> None:
    """Five rows do not fit beside three of four: all five are dropped, and one that fits is kept."""
    buffer = EventBuffer(4)
    first = [event_with(searched_with(expression=str(number))) for number in range(3)]
    buffer.put(first)
    buffer.put([EVENT] * 5)
    buffer.put([EVENT])
    assert buffer.dropped == 5
    assert buffer.take() == [*first, EVENT]
    assert buffer.take() == []


def test_a_million_events_while_they_are_taken_are_taken_once_each() -> None:
    """With a thread that takes in batches, what is taken, dropped and left is what was put, in its order."""
    buffer = EventBuffer(5_000)
    events = [event_with(searched_with(expression=str(number))) for number in range(1_000)]
    taken: list[object] = []
    done = threading.Event()

    def take_all() -> None:
        while not done.is_set() or len(buffer):
            batch = buffer.take()
            assert len(batch) <= BATCH_DOCUMENTS
            taken.extend(batch)

    taker = threading.Thread(target=take_all)
    taker.start()
    for _ in range(1_000):
        for event in events:
            buffer.put((event,))
            assert len(buffer) <= 5_000
    done.set()
    taker.join()
    assert len(taken) == buffer.recorded - buffer.dropped
    assert buffer.recorded == 1_000_000


def test_a_whole_batch_ends_the_wait() -> None:
    """Who waits for a batch hears of it at once, and else when its time is over."""
    buffer = EventBuffer(10_000)
    buffer.await_batch(0.001)
    buffer.put([EVENT] * BATCH_DOCUMENTS)
    buffer.await_batch(60.0)
    waiter = threading.Thread(target=buffer.await_batch, args=(60.0,))
    waiter.start()
    buffer.wake()
    waiter.join(30.0)
    assert not waiter.is_alive()
