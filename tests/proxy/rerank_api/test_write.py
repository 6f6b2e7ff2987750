"""The order of the documents, and the answer in each shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.judgment import Judgment
from es_rerank.proxy.rerank_api.write import Result, rank_documents, write_answer
from tests.proxy.rerank_api.api import read

JUDGMENTS = (Judgment(rank_score=2), None, Judgment(rank_score=10), Judgment(rank_score=0))
DOCUMENTS = ["zero", "one", {"text": "two", "id": 2}, "three"]


def judge(path: str, **more: Any) -> Any:
    """The answer to a request with four documents."""
    request = read(path, {"query": "q", "documents": DOCUMENTS, **more})
    return json.loads(write_answer(request, rank_documents(request, JUDGMENTS, "paper"), ("look",)))


def test_the_best_come_first_and_those_without_a_score_last() -> None:
    """Scores are rank scores divided by ten; a document without one has 0, behind one that was judged 0."""
    request = read("/v2/rerank", {"query": "q", "documents": DOCUMENTS})
    assert rank_documents(request, JUDGMENTS, "paper") == [
        Result(2, 1.0),
        Result(0, 0.2),
        Result(3, 0.0),
        Result(1, 0.0),
    ]


@given(st.lists(st.none() | st.floats(0, 10), min_size=1, max_size=5), st.none() | st.integers(0, 7))
def test_results_are_a_permutation_cut_off(scores: list[float | None], top: int | None) -> None:
    """Each document once, no more than asked, in falling order of scores from 0 to 1, those without a score last."""
    request = read("/v2/rerank", {"query": "q", "documents": ["x"] * len(scores), "top_n": top})
    judgments = [None if score is None else Judgment(rank_score=score) for score in scores]
    results = rank_documents(request, judgments, "paper")
    assert len({one.index for one in results}) == len(results) == min(top or len(scores), len(scores))
    found = [scores[one.index] for one in results]
    assert found == sorted(found, key=lambda score: -1 if score is None else score, reverse=True)
    assert all(0 <= one.score <= 1 for one in results)


def test_the_answer_of_coheres_second_version() -> None:
    """Results, an id and the meta block, without documents unless they are asked for."""
    answer = judge("/v2/rerank", top_n=2)
    assert answer.pop("id")
    assert answer == {
        "results": [{"index": 2, "relevance_score": 1.0}, {"index": 0, "relevance_score": 0.2}],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 0}, "warnings": ["look"]},
    }


def test_the_answer_that_cohere_and_jina_share() -> None:
    """What either client looks for: `meta` and `usage`, and documents as objects."""
    answer = judge("/v1/rerank", top_n=2, return_documents=True)
    assert answer.pop("id")
    assert answer == {
        "model": "rerank-v3.5",
        "results": [
            {"index": 2, "relevance_score": 1.0, "document": {"text": "two", "id": 2}},
            {"index": 0, "relevance_score": 0.2, "document": {"text": "zero"}},
        ],
        "usage": {"total_tokens": 0, "prompt_tokens": 0},
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 0}, "warnings": ["look"]},
    }


@pytest.mark.parametrize(("asked", "document"), [(False, {}), (True, {"document": "zero"})])
def test_the_answer_of_voyage(asked: bool, document: dict[str, str]) -> None:
    """The results are called `data`, and a document is the text itself."""
    answer = judge("/v1/rerank", top_k=2, return_documents=asked)
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert answer["data"][1] == {"index": 0, "relevance_score": 0.2, **document}


def test_the_answer_of_vllm() -> None:
    """Each result has its document's text."""
    answer = judge("/rerank", top_n=1)
    assert answer.pop("id").startswith("rerank-")
    assert answer == {
        "model": "rerank-v3.5",
        "usage": {"total_tokens": 0, "prompt_tokens": 0},
        "results": [{"index": 2, "relevance_score": 1.0, "document": {"text": "two"}}],
    }


def test_the_answer_of_text_embeddings_inference() -> None:
    """A bare list with `score` and `text`; raw scores are the rank scores."""
    request = read("/rerank", {"query": "q", "texts": ["a", "b"], "raw_scores": True, "return_text": True})
    results = rank_documents(request, [Judgment(rank_score=3), Judgment(rank_score=7)], "paper")
    assert json.loads(write_answer(request, results, ("look",))) == [
        {"index": 1, "score": 7.0, "text": "b"},
        {"index": 0, "score": 3.0, "text": "a"},
    ]
