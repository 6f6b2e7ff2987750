"""What makes two scores the same score, and the names under which Redis keeps what belongs to one.

A key has the document's text, not its id. So a changed document misses the cache by itself, and a caller who sees
masked fields gets the score of the masked text.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "es-rerank:score:"
CUT_PREFIX = "es-rerank:cut:"
REASONING_PREFIX = "es-rerank:reasoning:"


def score_keys(
    *, fingerprint: str, budget_tokens: int, instruction: str, query: str, texts: Sequence[str]
) -> list[str]:
    """The cache key of every text's score, parallel to `texts`.

    `budget_tokens` is how long the model may think before it answers: another length is another score. Each part
    goes into the hash behind its length, so that moving a boundary between two parts changes the key.
    """
    shared = hashlib.blake2b(digest_size=20)
    for part in (fingerprint, str(budget_tokens), instruction, query):
        shared.update(_with_length(part))
    keys = []
    for text in texts:
        own = shared.copy()
        own.update(_with_length(text))
        keys.append(PREFIX + own.hexdigest())
    return keys


def cut_key(key: str) -> str:
    """The key of a score whose thinking a deadline cut. It is never `key`, so that score can't pass for a full one."""
    return CUT_PREFIX + key.removeprefix(PREFIX)


def reasoning_key(key: str) -> str:
    """Where the reasoning behind the score under `key` is kept."""
    return REASONING_PREFIX + key.removeprefix(PREFIX)


def _with_length(part: str) -> bytes:
    data = part.encode("utf-8", "surrogatepass")  # JSON may carry lone surrogates, and a key must still be made
    return len(data).to_bytes(8, "big") + data
