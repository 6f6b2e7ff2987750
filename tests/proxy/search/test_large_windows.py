"""Windows that are too large are remembered, a while and not too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.large_windows import IN_A_ROW, MAX_SHAPES, REMEMBERED_S, LargeWindows
from es_rerank.proxy.search.source_filter import SourceFilter

WHOLE = ("notes", 100, SourceFilter())
TITLES = ("notes", 100, SourceFilter(includes=("title",)))


def test_a_window_that_is_too_large_again_and_again_is_known() -> None:
    """It is known after some answers in a row, for a while; another filter of the same index is not meant."""
    known = LargeWindows()
    for _ in range(IN_A_ROW):
        assert not known.knows(WHOLE, 5.0)
        known.note_too_large(WHOLE, 5.0)
    assert known.knows(WHOLE, 5.0)
    assert known.knows(WHOLE, 4.9 + REMEMBERED_S)
    assert not known.knows(WHOLE, 5.0 + REMEMBERED_S)
    assert not known.knows(TITLES, 5.0)


def test_one_window_that_fits_ends_the_row() -> None:
    """One search with large documents among others costs the others nothing."""
    known = LargeWindows()
    for _ in range(10):
        known.note_too_large(WHOLE, 0.0)
        known.note_fit(WHOLE)
    assert not known.knows(WHOLE, 0.0)


def test_after_the_while_one_more_answer_decides() -> None:
    """The first window afterwards is fetched: too large means another while, and one that fits is the end of it."""
    known = LargeWindows()
    for _ in range(IN_A_ROW):
        known.note_too_large(WHOLE, 0.0)
    known.note_too_large(WHOLE, REMEMBERED_S)
    assert known.knows(WHOLE, REMEMBERED_S + 1)
    known.note_fit(WHOLE)
    assert not known.knows(WHOLE, REMEMBERED_S + 1)


@given(st.integers(0, 3 * MAX_SHAPES))
def test_what_is_remembered_is_bounded(count: int) -> None:
    """However many shapes are met, only the last of them are held."""
    known = LargeWindows()
    for number in range(count):
        for _ in range(IN_A_ROW):
            known.note_too_large((f"notes-{number}", 100, None), 0.0)
    held = [number for number in range(count) if known.knows((f"notes-{number}", 100, None), 0.0)]
    assert held == list(range(max(0, count - MAX_SHAPES), count))
    assert len(known._met) == len(known._until_s) == len(held)
