"""Which engine host comes next, and whether to ask another one. Pure, except for the clock that it is given."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from es_rerank.clock import Clock

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
# One search may take long by itself. A host that says nothing to so many in a row, and to nobody else meanwhile, hangs.
MOST_SILENCES = 3
# How long it is believed that no host can serve a path, and for how many paths.
UNSERVED_S = 1.0
MOST_UNSERVED = 256


@dataclass(slots=True, eq=False)
class _Pause:
    length_s: float
    until_s: float
    on_trial: bool = False


class Hosts:
    """Hosts in rotation; one that owes fewer answers comes before one that owes more.

    A host that failed pauses for a second. Then one request tries it, while the others go on to pass it over. Each
    failed trial doubles the next pause, up to 30 s; an answer ends it.
    """

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        self._urls = tuple(urls)
        self._clock = clock
        self._next = 0
        self._pauses: dict[str, _Pause] = {}
        self._owed: Counter[str] = Counter()
        self._silences: Counter[str] = Counter()

    def in_turn(self) -> list[str]:
        """Every host once: those that owe the fewest answers first, and of these the next one in rotation.

        Those that pause come last, the soonest back first.

        A host that pauses is still listed: when all do, one of them has to be tried. If the first one is a host whose
        pause is over, this turn is its trial, and it pauses as long again for all other turns.
        """
        turned = self._urls[self._next :] + self._urls[: self._next]
        self._next = (self._next + 1) % len(self._urls)
        now_s = self._clock.monotonic_s()
        until_s = {url: pause.until_s for url, pause in self._pauses.items() if pause.until_s > now_s}
        turn = sorted(turned, key=lambda url: (until_s.get(url, 0.0), self._owed[url]))
        first = self._pauses.get(turn[0])
        if first is not None and first.until_s <= now_s:
            first.on_trial = True
            first.until_s = now_s + first.length_s
        return turn

    def pauses(self, url: str) -> bool:
        """Whether this host failed a moment ago. One that pauses for all but its trial does, too."""
        pause = self._pauses.get(url)
        return pause is not None and pause.until_s > self._clock.monotonic_s()

    @contextmanager
    def owing(self, url: str) -> Iterator[None]:
        """While this host is asked something, and the answer has not begun."""
        self._owed[url] += 1
        try:
            yield
        finally:
            self._owed[url] -= 1

    def mark_silent(self, url: str) -> float | None:
        """Note that somebody's time ran out while this host said nothing. See `mark_dead`: it may have failed now."""
        self._silences[url] += 1
        pause = self._pauses.get(url)
        hangs = self._silences[url] >= MOST_SILENCES or (pause is not None and pause.on_trial)
        return self.mark_dead(url) if hangs else None

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
        self._silences.pop(url, None)
        return self._pauses.pop(url, None) is not None


class Unserved:
    """Paths of requests that no host could serve a moment ago, so a second one need not be asked again.

    A request for an index whose shards are lost fails on each host. If it were always asked for twice, the load on a
    sick engine would double.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: dict[bytes, float] = {}

    def note(self, path: bytes) -> None:
        """One host can't serve this path, and no other one does better."""
        self._until_s.pop(path, None)
        if len(self._until_s) >= MOST_UNSERVED:
            del self._until_s[next(iter(self._until_s))]
        self._until_s[path] = self._clock.monotonic_s() + UNSERVED_S

    def __contains__(self, path: bytes) -> bool:
        """Whether that was so a moment ago."""
        return self._until_s.get(path, 0.0) > self._clock.monotonic_s()
