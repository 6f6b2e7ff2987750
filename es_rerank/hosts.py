"""Which engine host comes next. Pure, except for the clock that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.clock import Clock

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


@dataclass(slots=True, eq=False)
class _Pause:
    length_s: float
    until_s: float


class Hosts:
    """Hosts in rotation.

    A host that could not be reached pauses for a second; each failure after a pause doubles the next pause, up to 30 s.
    """

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        self._urls = tuple(urls)
        self._clock = clock
        self._next = 0
        self._pauses: dict[str, _Pause] = {}

    def in_turn(self) -> list[str]:
        """Every host once: the next one in rotation first; those that pause come last, the soonest back first.

        A host that pauses is still listed: when all do, one of them has to be tried.
        """
        turned = self._urls[self._next :] + self._urls[: self._next]
        self._next = (self._next + 1) % len(self._urls)
        if not self._pauses:
            return list(turned)
        now_s = self._clock.monotonic_s()
        until_s = {url: pause.until_s for url, pause in self._pauses.items() if pause.until_s > now_s}
        return sorted(turned, key=lambda url: until_s.get(url, 0.0))

    def mark_dead(self, url: str) -> None:
        """Note that nothing could be sent to this host."""
        now_s = self._clock.monotonic_s()
        before = self._pauses.get(url)
        if before is not None and before.until_s > now_s:
            return  # many requests fail at once, and that counts as one failure
        length_s = FIRST_PAUSE_S if before is None else min(2 * before.length_s, LONGEST_PAUSE_S)
        self._pauses[url] = _Pause(length_s, now_s + length_s)

    def mark_live(self, url: str) -> None:
        """Note that this host answered."""
        self._pauses.pop(url, None)
