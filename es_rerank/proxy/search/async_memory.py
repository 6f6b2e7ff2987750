"""Remembers what async searches that have not been answered yet have asked, since no poll for an answer says it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.proxy.search.async_search import AsyncSearch

KEPT_S = 3600.0
MAX_KEPT = 4096
MAX_KEPT_BYTES = 16 * 1024 * 1024
# What one search may take of it. Queries are far shorter; a list of thousands of ids is not.
MAX_SEARCH_BYTES = 256 * 1024


class AsyncSearches:
    """Searches by a hash of their ids, each until an hour after it was last asked for; the oldest make room.

    An id lets its owner fetch an answer, so it is not kept itself.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[float, AsyncSearch]] = {}
        self._kept_bytes = 0
        self._told: set[bytes] = set()

    def remember(self, search_id: str, search: AsyncSearch, now_s: float) -> None:
        """Keep what a search asked. One that is too long to be kept is not, and nothing is without an id."""
        if not search_id or search.held_bytes > MAX_SEARCH_BYTES:
            return
        key = _key(search_id)
        self._drop(key)
        self._kept[key] = (now_s + KEPT_S, search)
        self._kept_bytes += search.held_bytes
        while len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def find(self, search_id: str, now_s: float) -> AsyncSearch | None:
        """What the search asked, None if that is not known (any more). From now on it is kept for another hour."""
        key = _key(search_id)
        until_s, search = self._kept.pop(key, (now_s, None))
        if search is None:
            return None
        if until_s <= now_s:
            self._kept[key] = (until_s, search)
            self._drop(key)
            return None
        self._kept[key] = (now_s + KEPT_S, search)
        return search

    def claim(self, search_id: str) -> bool:
        """Whether nobody told yet what became of a search: who asks first tells it. False for one that is not known."""
        key = _key(search_id)
        first = key in self._kept and key not in self._told
        if first:
            self._told.add(key)
        return first

    def unclaim(self, search_id: str) -> None:
        """Who wanted to tell it did not come to that."""
        self._told.discard(_key(search_id))

    def _drop(self, key: bytes) -> None:
        self._told.discard(key)
        _, search = self._kept.pop(key, (0.0, None))
        if search is not None:
            self._kept_bytes -= search.held_bytes


def _key(search_id: str) -> bytes:
    return hashlib.sha256(search_id.encode("utf-8", "replace")).digest()
