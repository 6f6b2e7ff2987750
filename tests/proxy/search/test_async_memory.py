"""What is remembered of async searches has bounds: of time, of number, of bytes."""

from __future__ import annotations

from es_rerank.proxy.search.async_memory import KEPT_S, MAX_KEPT, MAX_KEPT_BYTES, MAX_SEARCH_BYTES, AsyncSearches
from es_rerank.proxy.search.async_search import AsyncSearch


def search_of(body: bytes = b"{}") -> AsyncSearch:
    """A search with this body."""
    return AsyncSearch(target=b"/films/_async_search", expression="films", body=body, asked={})


def test_a_search_is_found_until_an_hour_after_it_was_last_asked_for() -> None:
    """Each time that it is found begins another hour."""
    searches = AsyncSearches()
    searches.remember("a", search_of(), 0.0)
    assert searches.find("a", KEPT_S - 1) == search_of()
    assert searches.find("a", 2 * KEPT_S - 2) == search_of()
    assert searches.find("a", 3 * KEPT_S) is None
    assert searches.find("a", 0.0) is None


def test_the_search_that_was_asked_for_longest_ago_makes_room() -> None:
    """There is a most of searches."""
    searches = AsyncSearches()
    for number in range(MAX_KEPT):
        searches.remember(f"{number}", search_of(), 0.0)
    assert searches.find("0", 1.0) is not None
    searches.remember("more", search_of(), 1.0)
    assert [name for name in ("0", "1", "2", "more") if searches.find(name, 1.0) is None] == ["1"]


def test_bytes_have_a_bound_too() -> None:
    """Long searches make room for each other, and one that is too long is not kept at all."""
    searches = AsyncSearches()
    body = b"x" * (MAX_SEARCH_BYTES - 100)
    fitting = MAX_KEPT_BYTES // search_of(body).held_bytes
    for number in range(fitting + 1):
        searches.remember(f"{number}", search_of(body), 0.0)
    assert searches.find("0", 0.0) is None
    assert searches.find("1", 0.0) is not None
    searches.remember("long", search_of(b"x" * MAX_SEARCH_BYTES), 0.0)
    assert searches.find("long", 0.0) is None


def test_nothing_is_kept_without_an_id() -> None:
    """A search that is stored nowhere has no result to ask for."""
    searches = AsyncSearches()
    searches.remember("", search_of(), 0.0)
    assert searches.find("", 0.0) is None


def test_the_first_who_asks_tells_what_became_of_a_search() -> None:
    """Unless it gives that up; a search that is not known is told by nobody."""
    searches = AsyncSearches()
    searches.remember("a", search_of(), 0.0)
    assert [searches.claim("a"), searches.claim("a")] == [True, False]
    searches.unclaim("a")
    assert searches.claim("a")
    assert not searches.claim("b")
