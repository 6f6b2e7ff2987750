"""Recordings and judgments for tests: some by hand, some by chance, and strategies for any."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, get_args

from hypothesis import strategies as st

from es_rerank.fusion.fuse import Method
from es_rerank.judgment import Judgment
from es_rerank.tuning.judged import Grade, JudgmentList, judgment_list
from es_rerank.tuning.recording import RecordedQuery, Recording, RecordingHead, Setting
from es_rerank.tuning.recordings import line_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from es_rerank.tuning.recording import Hit

INDEX = "notes"
PRESENT = Setting(window=10, method="zscore", alpha=0.2)


def head_of(*, setting: Setting = PRESENT, **changes: Any) -> RecordingHead:
    """The head of a recording, whose window is that of its setting if it is not said."""
    given = {
        "id": "run-1", "time": "2026-11-28T09:00:00Z", "index": INDEX, "rule": "notes", "rules_version": "v1",
        "scorer": "erank", "fingerprint": "f1", "window": setting.window, "setting": setting,
    }  # fmt: skip
    return RecordingHead(**{**given, **changes})


def query_of(
    query_id: str,
    rank_scores: Sequence[float | None],
    engine_scores: Sequence[float] | None = None,
    ids: Sequence[Hit] | None = None,
    **changes: Any,
) -> RecordedQuery:
    """A recorded query whose hits are d0, d1 and so on in engine order, with one rank score each or none."""
    size = len(rank_scores)
    given = {
        "query_id": query_id,
        "user_query": f"words of {query_id}",
        "status": "full",
        "ids": tuple(ids) if ids is not None else tuple([(INDEX, f"d{place}") for place in range(size)]),
        "engine_scores": tuple(engine_scores) if engine_scores is not None else tuple(map(float, range(size, 0, -1))),
        "judgments": tuple([None if score is None else Judgment(rank_score=score) for score in rank_scores]),
    }
    return RecordedQuery(**{**given, **changes})


def recording_of(*queries: RecordedQuery, **changes: Any) -> Recording:
    """A recording of these queries; `changes` are of its head."""
    return Recording(head=head_of(**changes), queries=queries)


def judged_as(grades: Mapping[str, Mapping[str, float]], **changes: Any) -> JudgmentList:
    """A judgment list of grades by query and document."""
    return judgment_list(
        "qrels",
        [
            Grade(query_id=query_id, object_id=object_id, grade=grade, **changes)
            for query_id, documents in grades.items()
            for object_id, grade in documents.items()
        ],
    )


def by_chance(seed: int, *, queries: int, window: int) -> tuple[Recording, JudgmentList]:
    """A recording and judgments by chance: rank scores are a little better than the engine's."""
    random = Random(seed)
    recorded: list[RecordedQuery] = []
    grades: dict[str, dict[str, float]] = {}
    for number in range(queries):
        relevance = [max(0, round(random.gauss(0, 1.2))) for _ in range(window)]
        engine = sorted((random.gauss(10 + 0.4 * grade, 2) for grade in relevance), reverse=True)
        random.shuffle(relevance)
        scores = [min(10.0, max(0.0, random.gauss(3 + grade, 3))) for grade in relevance]
        recorded.append(query_of(f"q{number}", scores, engine, group="head" if number % 3 else "tail"))
        grades[f"q{number}"] = {"elsewhere": 1.0, **{f"d{place}": grade for place, grade in enumerate(relevance)}}
    setting = Setting(window=window, method="zscore", alpha=0.2)
    return recording_of(*recorded, setting=setting), judged_as(grades)


def judgments() -> st.SearchStrategy[Judgment]:
    """Judgments of both kinds."""
    shares = st.lists(st.integers(0, 100), min_size=11, max_size=11).filter(any)
    distributions = shares.map(lambda counts: tuple([count / sum(counts) for count in counts]))
    return st.floats(0, 10).map(lambda score: Judgment(rank_score=score)) | distributions.map(
        lambda distribution: Judgment(distribution=distribution)
    )


def recorded_queries(max_size: int = 12) -> st.SearchStrategy[RecordedQuery]:
    """Recorded queries with gaps, ties, and searches that were skipped."""
    hits = st.lists(
        st.tuples(st.floats(0, 30, width=32) | st.sampled_from([1.0, 2.0]), st.none() | judgments()), max_size=max_size
    )

    def made(found: list[tuple[float, Judgment | None]], status: Any) -> RecordedQuery:
        return RecordedQuery(
            query_id="q1",
            user_query="words",
            status=status,
            ids=tuple([(INDEX, f"d{place}") for place in range(len(found))]),
            engine_scores=tuple(sorted((score for score, _ in found), reverse=True)),
            judgments=tuple([None if status == "skipped" else judgment for _, judgment in found]),
        )

    return st.builds(made, hits, st.sampled_from(["full", "partial", "failed", "skipped"]))


def settings(max_window: int = 12) -> st.SearchStrategy[Setting]:
    """Any setting."""
    return st.builds(
        Setting,
        window=st.integers(1, max_window),
        method=st.sampled_from(get_args(Method)),
        alpha=st.sampled_from([0.0, 0.2, 0.5, 1.0]) | st.floats(0, 1),
        score=st.sampled_from(["paper", "expected"]),
    )


def write_recording(file: Path, recording: Recording) -> None:
    """Write a whole recording."""
    file.write_bytes(line_of(recording.head) + b"".join(map(line_of, recording.queries)))
