"""What es-rerank says of one search: the `_es_rerank` block, the Warning header and the log line. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.reasons import FirstStage, Outcome, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStatus:
    """What became of one search.

    `full`: every hit of the window that has text has a rank score. `partial`: some have. `failed`: none has, so the
    order is the engine's. `skipped`: the search isn't ours to rerank, or it asked not to be reranked. `reason` is one
    word, None for `full`. `window` counts the hits of the window, `scored` those with a score (from the cache or not),
    `cached` those from the cache, `missing_text` those without any text, `missing_fields` by field of the rule those
    that lack it. `mode` is the mode of a scorer that thinks,
    `question` what it was asked, None where nobody wants to know.
    `cut` counts judgments whose thinking a deadline cut, `low_mass` those where the model would probably have answered
    something else than a number from 0 to 10, `truncated` those of cut text. `took_ms` has the milliseconds by step.
    `query_id` is the id of its event, None where no events are written. `first_stage` is how the engine ranked the
    window, or would have, None for a search that was not to be reranked.
    """

    status: Outcome
    reason: Reason | None = None
    rule: str | None = None
    scorer: str | None = None
    window: int = 0
    scored: int = 0
    cached: int = 0
    missing_text: int = 0
    missing_fields: Mapping[str, int] = field(default_factory=dict)
    mode: str | None = None
    question: str | None = None
    cut: int = 0
    low_mass: int = 0
    truncated: int = 0
    took_ms: dict[str, float] = field(default_factory=dict)
    query_id: str | None = None
    first_stage: FirstStage | None = None

    def block(self) -> dict[str, Any]:
        """The `_es_rerank` object of an answer."""
        shown: dict[str, Any] = {
            "status": self.status,
            "reason": self.reason,
            "rule": self.rule,
            "scorer": self.scorer,
            "window": self.window,
            "scored": self.scored,
            "cached": self.cached,
            "missing": self.window - self.scored,
            "took_ms": self.took_ms,
        }
        names = ("missing_text", "missing_fields", "cut", "low_mass", "truncated")
        counts = {name: getattr(self, name) for name in names}
        query_id = {} if self.query_id is None else {"query_id": self.query_id}
        first_stage = None if self.first_stage == "bm25" else self.first_stage
        optional = {"mode": self.mode, "first_stage": first_stage, "question": self.question}
        told = {name: value for name, value in optional.items() if value is not None}
        return {**shown, **told, **{name: count for name, count in counts.items() if count}, **query_id}

    def warning(self) -> bytes | None:
        """The value of the Warning header if the search was answered worse than configured, else None."""
        if self.status == "failed":
            said = f"reranking failed ({self.reason}): hits are in engine order"
        elif self.status == "partial":
            said = f"reranking was partial ({self.reason}): {self.scored} of {self.window} hits have a rank score"
            if self.cut:
                said += f", {self.cut} were judged before their thinking ended"
        else:
            return None
        return f'299 es-rerank "{said}"'.encode()


def warning_of_all(statuses: Sequence[SearchStatus]) -> bytes | None:
    """The value of the Warning header for searches that are answered together, None for none. Of several it sums up."""
    if len(statuses) == 1:
        return statuses[0].warning()
    worse = [status for status in statuses if status.warning() is not None]
    if not worse:
        return None
    reasons = ", ".join(dict.fromkeys(str(status.reason) for status in worse))
    said = f"reranking failed or was partial for {len(worse)} of {len(statuses)} searches ({reasons})"
    return f'299 es-rerank "{said}"'.encode()


def outcome_of(*, window: int, scored: int, reason: Reason | None) -> tuple[Outcome, Reason | None]:
    """Status and reason of a reranked search from what was scored and what went wrong on the way.

    With a reason it is not full, even if every hit has a score: some scores are then not those that were asked for.
    """
    if scored == window and (reason is None or not window):
        return "full", None
    return ("partial" if scored else "failed"), reason
