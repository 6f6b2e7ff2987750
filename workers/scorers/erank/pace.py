"""How fast this engine reads, as far as it has shown, and so when thinking must stop for a deadline. No clock."""

from __future__ import annotations

# What is kept of a deadline for the way back, the proxy's own margin included.
ANSWER_MARGIN_S = 0.15
# An estimate is an average; what must be in time needs more.
SAFETY = 1.5
NEWEST_SHARE = 0.2
# Behind a thinking that was just cut, what is not in the prefix cache: a part of a block, the tags, the answer.
READ_TOKENS = 40


class Pace:
    """Seconds that the engine takes for a token of a prompt when it reads, averaged over its latest reads."""

    def __init__(self, token_s: float) -> None:
        self.token_s = token_s

    def note(self, took_s: float, *, tokens: int, at_once: int) -> None:
        """A read computed `tokens` in `took_s`, being one of `at_once` that shared the engine."""
        newest_s = took_s / (max(tokens, READ_TOKENS) * max(1, at_once))
        self.token_s += NEWEST_SHARE * (newest_s - self.token_s)

    def stop_thinking_s(self, deadline_s: float, documents: int) -> float:
        """When thinking must stop, such that this many documents are read by the deadline."""
        return self.last_start_s(deadline_s, documents * READ_TOKENS)

    def last_start_s(self, deadline_s: float, tokens: int) -> float:
        """When reading must begin, such that prompts of so many tokens are read by the deadline."""
        return deadline_s - ANSWER_MARGIN_S - SAFETY * self.token_s * tokens
