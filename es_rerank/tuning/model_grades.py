"""A model as judge: grades from the judgments of a recording, and a word where a model is measured by itself. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from es_rerank.judgment import LARGEST_SCORE
from es_rerank.tuning.judged import MODEL_PREFIX, Grade

if TYPE_CHECKING:
    from es_rerank.judgment import Judgment
    from es_rerank.tuning.judged import JudgmentList
    from es_rerank.tuning.recording import RecordedQuery, RecordingHead

MAX_GRADE = 3


def model_grades(head: RecordingHead, query: RecordedQuery, *, max_grade: int = MAX_GRADE) -> tuple[Grade, ...]:
    """What the model says of the hits of one recorded query, in engine order. The source is `llm:` and the scorer.

    A hit without a judgment has no grade, nor has one whose judgment has a low mass: the model was about to say
    something else. `index` is the one in which the hit was found.
    """
    return tuple(
        [
            Grade(
                query_id=query.query_id,
                user_query=query.user_query,
                group=query.group,
                index=index,
                object_id=object_id,
                grade=model_grade(judgment, max_grade),
                source=f"{MODEL_PREFIX}{head.scorer}",
                fingerprint=head.fingerprint,
            )
            for (index, object_id), judgment in zip(query.ids, query.judgments, strict=True)
            if judgment is not None and not judgment.low_mass
        ]
    )


def model_grade(judgment: Judgment, max_grade: int = MAX_GRADE) -> int:
    """The whole grade from 0 to `max_grade` that is nearest to the mean answer; of two that are as near, the better.

    The mean answer, 0 to 10, is the score `expected` of the judgment.
    """
    return math.floor(judgment.score("expected") * max_grade / LARGEST_SCORE + 0.5)


def warning_about(judged: JudgmentList, head: RecordingHead) -> str | None:
    """A sentence where a recording is measured by grades that its own model gave; None for any other grades."""
    if not any(one.fingerprint == head.fingerprint for one in judged.grades if one.fingerprint):
        return None
    return (
        f"The judgments {judged.name!r} ({judged.source}) are those of the scorer {head.scorer!r} itself: the figures "
        "say how well an order agrees with the model, not how good it is."
    )
