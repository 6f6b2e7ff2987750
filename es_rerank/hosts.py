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
    on_trial: bool = False


class Hosts:
    """Hosts in rotation.

    A host that failed pauses for a second. Then one request tries it, while the others go on to pass it over. Each
    failed trial doubles the next pause, up to 30 s; an answer ends it.
    """

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        self._urls = tuple(urls)
        self._clock = clock
        self._next = 0
        self._pauses: dict[str, _Pause] = {}

    def in_turn(self) -> list[str]:
        """Every host once: the next one in rotation first; those that pause come last, the soonest back first.

        A host that pauses is still listed: when all do, one of them has to be tried. If the first one is a host whose
        pause is over, this turn is its trial, and it pauses as long again for all other turns.
        """
        turned = self._urls[self._next :] + self._urls[: self._next]
        self._next = (self._next + 1) % len(self._urls)
        if not self._pauses:
            return list(turned)
        now_s = self._clock.monotonic_s()
        until_s = {url: pause.until_s for url, pause in self._pauses.items() if pause.until_s > now_s}
        turn = sorted(turned, key=lambda url: until_s.get(url, 0.0))
        first = self._pauses.get(turn[0])
        if first is not None and first.until_s <= now_s:
            first.on_trial = True
            first.until_s = now_s + first.length_s
        return turn

    def mark_dead(self, url: str) -> float | None:
        """Note that this host failed. Returns how long it pauses now, None where that was known already."""
        now_s = self._clock.monotonic_s()
        before = self._pauses.get(url)
        if before is not None and not before.on_trial and before.until_s > now_s:
            return None  # many requests fail at once, and that counts as one failure
        length_s = FIRST_PAUSE_S if before is None else min(2 * before.length_s, LONGEST_PAUSE_S)
        self._pauses[url] = _Pause(length_s, now_s + length_s)
        return length_s

    def mark_live(self, url: str) -> bool:
        """Note that this host answered. Returns whether it paused until now."""
        return self._pauses.pop(url, None) is not None
