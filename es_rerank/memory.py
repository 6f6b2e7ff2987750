"""The memory that one process gives to bodies that it holds, requests and answers together. Knows nothing of HTTP."""

from __future__ import annotations

from typing import Self


class MemoryBudget:
    """How many bytes of bodies may be held at a time. One per process, used in its event loop only.

    Nobody waits for room: a body that finds none is not held, so no caller makes another one wait by holding much.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        """The bytes that all shares hold now."""

    def share(self) -> Share:
        """A share that holds nothing yet."""
        return Share(self)


class Share:
    """What one request holds of the budget: it takes bytes as they come, and gives back all at its block's end."""

    __slots__ = ("_budget", "held_bytes")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def take(self, count: int) -> bool:
        """Hold so many bytes more. False, and nothing is taken, where the budget has no room for them."""
        if self._budget.held_bytes + count > self._budget.max_bytes:
            return False
        self._budget.held_bytes += count
        self.held_bytes += count
        return True

    def release(self) -> None:
        """Give back all that is held. The share can take again."""
        self._budget.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def __enter__(self) -> Self:
        """Begin the block at whose end everything is given back."""
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
