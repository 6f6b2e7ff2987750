"""How fast the engine has read so far, and so when thinking must stop for a deadline. Knows no clock."""

from __future__ import annotations

# Time kept before a deadline for the way back to the proxy; the proxy's own margin is a part of it.
ANSWER_MARGIN_S = 0.15
# An estimate is an average; work that must be in time needs a reserve.
SAFETY = 1.5
NEWEST_SHARE = 0.2
# What the prefix cache lacks right after thinking was cut: a part of a block, the tags, the answer.
READ_TOKENS = 40


class Pace:
    """Seconds that the engine takes to read one token of a prompt, averaged over its latest reads."""

    def __init__(self, token_s: float) -> None:
        self.token_s = token_s

    def note(self, took_s: float, *, tokens: int, at_once: int) -> None:
        """Learn that a read computed `tokens` in `took_s`, while `at_once` reads shared the engine."""
        newest_s = took_s / (max(tokens, READ_TOKENS) * max(1, at_once))
        self.token_s += NEWEST_SHARE * (newest_s - self.token_s)

    def stop_thinking_s(self, due_s: float, documents: int) -> float:
        """When thinking must stop, so that this many documents are read by the deadline."""
        return self.last_start_s(due_s, documents * READ_TOKENS)

    def last_start_s(self, due_s: float, tokens: int) -> float:
        """When reading must begin, so that prompts of so many tokens are read by the deadline."""
        return due_s - ANSWER_MARGIN_S - SAFETY * self.token_s * tokens
