"""Any grade that can be kept, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from es_rerank.tuning.judged import Grade

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SOURCES = st.sampled_from(["people", "clicks", "llm:erank"]) | st.text("abé:", min_size=1, max_size=4)
NUMBERS = st.integers(-5, 1000).map(float) | st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.none() | st.integers(0, 2**40)
GRADES = st.builds(
    Grade,
    query_id=IDS,
    object_id=IDS,
    grade=NUMBERS,
    user_query=TEXTS,
    group=TEXTS,
    index=TEXTS,
    source=SOURCES,
    fingerprint=TEXTS,
    impressions=COUNTS,
    clicks=COUNTS,
    expected_clicks=st.none() | st.floats(0, 1e9),
    timestamp=st.sampled_from(["", "2026-11-28", "2026-11-28T09:00:00.5Z"]),
    who=TEXTS,
)


def pair_of(grade: Grade) -> tuple[str, str, str, str]:
    """By what a grade is told from others."""
    return (grade.source, grade.query_id, grade.index, grade.object_id)


LISTS = st.lists(GRADES, min_size=1, max_size=6, unique_by=pair_of)
