"""What a hit's `_explanation` says: a sum that adds up, with the engine's own explanation in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.fuse import Method
from es_rerank.fusion.rank import Recipe, rank
from es_rerank.judgment import Judgment
from es_rerank.proxy.search.render import Verdict, render_answer
from es_rerank.proxy.search.window import plan_window, read_answer
from tests.proxy.search.calls import call_of, decision_of

OWN = b'{ "value" : 1.50, "description":"weight(text:fox)\\u0020", "details":[], "value":1E1 }'
SCORES = st.lists(st.tuples(st.floats(0.5, 30), st.none() | st.floats(0, 10)), min_size=1, max_size=8)


def explained(window: list[tuple[float, float | None]], recipe: Recipe, behind: int = 0) -> list[tuple[int, Any]]:
    """The raw explanations of a ranked window and some hits behind it, each with the hit's rank in the engine."""
    hits = [
        b'{"_index":"notes","_id":"%d","_score":%.4f,"_explanation":%s}' % (number, score, OWN)
        for number, (score, _) in enumerate([*window, *[(0.1, None)] * behind], start=1)
    ]
    answer = read_answer(b'{"hits":{"max_score":1.0,"hits":[%s]}}' % b",".join(hits))
    assert answer is not None
    judgments = [None if score is None else Judgment(rank_score=score) for _, score in window]
    size = len(window)
    verdict = Verdict(
        ranked=rank(answer.scores[:size], judgments, recipe),
        judgments=judgments,
        from_cache=[number % 2 == 0 for number in range(size)],
    )
    decision = replace(decision_of("text", window=size, size=20), recipe=recipe)
    page = render_answer(answer, plan_window(call_of(), decision), decision, verdict)["hits"]["hits"]
    return [(int(bytes(hit["_id"]).strip(b'"')), hit) for hit in page]


@given(SCORES, st.sampled_from(get_args(Method)), st.floats(0, 1), st.integers(0, 2))
def test_the_parts_add_up(window: list[tuple[float, float | None]], method: Method, alpha: float, behind: int) -> None:
    """For every scored hit, the weighted units are the fused score, and the engine's explanation keeps its bytes.

    Hits without a rank score, and those behind the window, have the engine's explanation alone.
    """
    recipe = Recipe(method=method, alpha=alpha, score="paper")
    for engine_rank, hit in explained(window, recipe, behind):
        told = hit["_explanation"]
        if engine_rank > len(window) or window[engine_rank - 1][1] is None:
            assert bytes(told) == OWN
            continue
        fused, own = told["details"]
        assert bytes(own) == OWN
        assert told["value"] == hit["_score"]
        engine, model = fused["details"]
        assert fused["value"] == pytest.approx(alpha * engine["value"] + (1 - alpha) * model["value"])
        assert f"its rank {engine_rank}" in engine["details"][0]["description"]
        assert model["details"][0]["value"] == window[engine_rank - 1][1]
        cached = "from the cache" in model["details"][0]["description"]
        assert cached == (engine_rank % 2 == 1)


def test_an_explanation_names_rule_scorer_method_and_alpha() -> None:
    """Who reads it learns by what it was ranked."""
    [(_, hit)] = explained([(2.0, 7.0)], Recipe(method="minmax", alpha=0.25, score="paper"))
    said = json.dumps(hit["_explanation"], default=lambda raw: json.loads(bytes(raw)))
    for word in ("[notes]", "[minilm]", "[minmax]", "alpha 0.25", "rank unit * 0.75"):
        assert word in said
