"""The errors that a front answers itself, in the engines' form. Pure."""

from __future__ import annotations

import json

UPSTREAM_KIND = "es_rerank_upstream_exception"
NO_PROXY = "no proxy answers; searches go to the engine meanwhile"
NO_ENGINE = "no engine host could be reached"
LATE_ENGINE = "the engine did not answer in time"


def error_text(status: int, kind: str, reason: str) -> str:
    """An error as JSON, without a character that a configuration would have to escape."""
    cause = {"type": kind, "reason": reason}
    return json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}, separators=(",", ":"))
