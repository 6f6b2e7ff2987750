"""Remembers which windows are too large to hold, so that they are not fetched again and again to be dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.proxy.search.window import WindowShape

IN_A_ROW = 3
REMEMBERED_S = 30.0
MAX_SHAPES = 1024


class LargeWindows:
    """The shapes of windows whose answers were too large three times in a row, each for half a minute.

    Then one more window of that shape is fetched: if it fits, the shape is forgotten, else the next half minute begins.
    Three, since one search with large documents must not cost the others of its index their reranking. At most
    MAX_SHAPES are known; the one that was met first makes room.
    """

    def __init__(self) -> None:
        self._met: dict[WindowShape, int] = {}
        self._until_s: dict[WindowShape, float] = {}

    def knows(self, shape: WindowShape, now_s: float) -> bool:
        """Whether a window of this shape need not be fetched at this instant."""
        return self._until_s.get(shape, now_s) > now_s

    def note_too_large(self, shape: WindowShape, now_s: float) -> None:
        """An answer was too large."""
        if shape not in self._met and len(self._met) >= MAX_SHAPES:
            self.note_fit(next(iter(self._met)))
        self._met[shape] = self._met.get(shape, 0) + 1
        if self._met[shape] >= IN_A_ROW:
            self._until_s[shape] = now_s + REMEMBERED_S

    def note_fit(self, shape: WindowShape) -> None:
        """An answer was not too large."""
        self._met.pop(shape, None)
        self._until_s.pop(shape, None)
