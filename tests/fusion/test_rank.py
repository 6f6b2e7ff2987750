"""The one way from judgments to an order, for a search that is served and for a window that was kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.fuse import Method, fuse
from es_rerank.fusion.rank import Recipe, Window, rank
from es_rerank.fusion.scale import LARGEST_FLOAT32, scale_to_engine
from es_rerank.judgment import Judgment, ScoreRule

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES = st.lists(st.floats(0, 0.09), min_size=11, max_size=11).filter(lambda shares: sum(shares) > 0)
JUDGMENTS = st.builds(lambda score: Judgment(rank_score=score), st.floats(0, 10)) | st.builds(
    lambda shares, tokens, cut: Judgment(distribution=tuple(shares), think_tokens=tokens, cut=cut),
    SHARES,
    st.integers(0, 99),
    st.sampled_from(["", "budget", "deadline"]),
)
FLOAT32S = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -1.0, LARGEST_FLOAT32, -LARGEST_FLOAT32]
)
WINDOWS = st.lists(st.tuples(st.floats(0, 50, width=32), st.none() | JUDGMENTS), max_size=12).map(
    lambda pairs: sorted(pairs, key=lambda pair: -pair[0])
)
RECIPES = st.builds(
    Recipe,
    method=st.sampled_from(get_args(Method)),
    alpha=st.floats(0, 1),
    score=st.sampled_from(get_args(ScoreRule)),
)


@given(WINDOWS, RECIPES)
def test_ranking_is_fusing_by_the_judgments_scores(
    window: Sequence[tuple[float, Judgment | None]], recipe: Recipe
) -> None:
    """Each judgment counts by the score that the recipe names, and a gap stays a gap."""
    engine_scores = [score for score, _ in window]
    judgments = [judgment for _, judgment in window]
    rank_scores = [None if judgment is None else judgment.score(recipe.score) for judgment in judgments]
    ranked = rank(engine_scores, judgments, recipe)
    assert list(ranked.rank_scores) == rank_scores
    assert ranked.ranking == fuse(engine_scores, rank_scores, method=recipe.method, alpha=recipe.alpha)
    assert ranked.reranked is any(judgment is not None for judgment in judgments)


@given(WINDOWS, RECIPES)
def test_a_window_that_was_kept_is_ranked_as_it_was(
    window: Sequence[tuple[float, Judgment | None]], recipe: Recipe
) -> None:
    """Written as JSON and read again, a window loses nothing that its order depends on."""
    kept = Window(
        ids=tuple(("notes", str(number)) for number in range(len(window))),
        engine_scores=tuple(score for score, _ in window),
        judgments=tuple(judgment for _, judgment in window),
    )
    written = msgspec.json.decode(msgspec.json.encode(kept), type=dict[str, msgspec.Raw])
    read = Window(
        ids=msgspec.json.decode(written["ids"], type=tuple[tuple[str, str], ...]),
        engine_scores=msgspec.json.decode(written["engine_scores"], type=tuple[float, ...]),
        judgments=msgspec.json.decode(written["judgments"], type=tuple[Judgment | None, ...]),
    )
    assert read == kept
    assert rank(read.engine_scores, read.judgments, recipe) == rank(kept.engine_scores, kept.judgments, recipe)


@given(st.lists(st.tuples(FLOAT32S, st.none() | JUDGMENTS), min_size=1, max_size=12), RECIPES)
def test_any_engine_scores_are_fused_to_finite_ones(
    window: list[tuple[float, Judgment | None]], recipe: Recipe
) -> None:
    """Scores of any first stage (negative, all zero or equal, the largest there are) give each place a finite score."""
    engine = [score for score, _ in window]
    ranked = rank(engine, [judgment for _, judgment in window], recipe)
    assert sorted(ranked.ranking.order) == [*range(len(window))]
    assert all(math.isfinite(score) for score in ranked.ranking.fused_scores if score is not None)
    if ranked.reranked:
        assert all(abs(score) <= LARGEST_FLOAT32 for score in scale_to_engine(engine, ranked.ranking))


def test_another_recipe_ranks_the_same_window_anew() -> None:
    """What is kept are judgments, so that method, weight and score rule can be tried on them afterwards."""
    sure = Judgment(distribution=(*[0.0] * 7, 0.9, 0.0, 0.0, 0.0))
    torn = Judgment(distribution=(*[0.0] * 6, 0.1, 0.0, 0.0, 0.4, 0.5))
    by_model = [
        rank([1.0, 2.0], [sure, torn], Recipe(method="zscore", alpha=0.0, score=rule)) for rule in ("paper", "expected")
    ]
    assert [ranked.ranking.order for ranked in by_model] == [(0, 1), (1, 0)]
    engine = rank([2.0, 1.0], [torn, sure], Recipe(method="zscore", alpha=1.0, score="paper"))
    assert engine.ranking.order == (0, 1)
