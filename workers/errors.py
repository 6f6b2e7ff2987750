"""What can go wrong in a worker before it takes its first query.

Knows no scorer: a document that cannot be scored is not an error but a failed outcome.
"""

from __future__ import annotations

from es_rerank.errors import EsRerankError


class WorkerStartError(EsRerankError):
    """The model cannot be used on this machine; the text says what is missing or wrong and what to do about it."""
