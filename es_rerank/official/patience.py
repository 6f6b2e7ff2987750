"""How long a busy engine is waited for, and what the user hears of it. Knows no client and no engine.

A pause is as long as the engine asks for (`Retry-After`). Where it asks for nothing, pauses grow from a second to a
minute, and begin anew once the engine has taken something.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# What an engine may ask for. A longer wish, or a broken one, is cut to it: asking once an hour burdens no engine.
LONGEST_ASKED_S = 3600.0


def say_above_bar(text: str) -> None:
    """Write a line to standard error, above a progress bar if one is drawn."""
    tqdm.write(text, file=sys.stderr)


@dataclass(slots=True, kw_only=True, eq=False)
class Patience:
    """Waits for an engine that takes nothing now.

    It gives up once the pauses in a row would be longer than `max_wait_s` together; without a limit it never does. Each
    pause is told by `say`, and made by `sleep`.
    """

    max_wait_s: float = math.inf
    say: Callable[[str], None] = say_above_bar
    sleep: Callable[[float], None] = time.sleep
    _waited_s: float = field(default=0.0, init=False)
    _next_pause_s: float = field(default=FIRST_PAUSE_S, init=False)

    def wait(self, reason: str, asked_s: float | None = None) -> bool:
        """Pause for `asked_s` seconds where the engine asks for them. False, and no pause, where that is too long."""
        pause_s = min(asked_s, LONGEST_ASKED_S) if asked_s else self._next_pause_s
        if self._waited_s + pause_s > self.max_wait_s:
            return False
        wish = ", as it asks for" if asked_s else ""
        self.say(f"the engine takes nothing now: {reason}. Trying again in {pause_s:.0f} s{wish} (Ctrl-C ends it)")
        self._waited_s += pause_s
        if not asked_s:
            self._next_pause_s = min(2 * self._next_pause_s, LONGEST_PAUSE_S)
        self.sleep(pause_s)
        return True

    def end_wait(self) -> None:
        """The engine has taken what it was asked to: the next wait begins anew, with a short pause."""
        self._waited_s = 0.0
        self._next_pause_s = FIRST_PAUSE_S
