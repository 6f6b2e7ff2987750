"""A scorer's fingerprint: a short name for everything that changes a score.

It is made from the settings, so a proxy can make cache keys before any worker has started. It covers the weights, the
precision, where text is cut, the prompt's text, and `method`: a number that is raised whenever the way from text to
score changes (how an answer is read, which piece of a long document counts, how vectors are pooled). What does not
change a score, such as a batch size, is not part of it. Nor is what settings can't say, such as the commit at which a
branch of the model hub stood: workers of one fingerprint agree on that in Redis.
"""

from __future__ import annotations

import hashlib
import json


def fingerprint_of(kind: str, *, method: int, **parts: str | float) -> str:
    """The kind and 16 hex digits of a hash of the parts."""
    text = json.dumps({"kind": kind, "method": method, **parts}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
