"""What the demo prints of its answers: two orders side by side, and both means. Pure, except for the measures."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ir_measures
from ir_measures import Judged, R, nDCG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.demo.questions import Question

MEASURES = (nDCG @ 10, R @ 100, Judged @ 10)
SHOWN_HITS = 5
SHOWN_THOUGHTS = 2
THOUGHT_WIDTH = 110
NAME_WIDTH = 40
GRADE_MARKS = {2: "**", 1: "* ", 0: "  ", None: "? "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """What a model thought about one document, and how it judged the document."""

    name: str
    reasoning: str
    think_tokens: int
    rank_score: float
    mass: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One question and its two orders: document names, best first, of the same window.

    `thoughts` are those of the reranked order, empty for a scorer that does not think.
    """

    question: Question
    engine_order: Sequence[str]
    reranked_order: Sequence[str]
    thoughts: Sequence[Thought] = ()


def gain(answered: Answered) -> float:
    """How much nDCG@10 of this question rose."""
    before, after = means([answered])
    return after["nDCG@10"] - before["nDCG@10"]


def means(answers: Sequence[Answered]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The mean of every measure over the questions, before and after reranking, under ir-measures' own names."""
    qrels = [
        ir_measures.Qrel(answered.question.id, name, grade)
        for answered in answers
        for name, grade in answered.question.grades.items()
    ]
    orders = (
        {answered.question.id: answered.engine_order for answered in answers},
        {answered.question.id: answered.reranked_order for answered in answers},
    )
    before, after = (ir_measures.calc_aggregate(MEASURES, qrels, _run(order)) for order in orders)
    return {str(m): before[m] for m in MEASURES}, {str(m): after[m] for m in MEASURES}


def _run(order_of: Mapping[str, Sequence[str]]) -> list[ir_measures.ScoredDoc]:
    """A run in which only the order counts, because the two sides score on different scales."""
    return [
        ir_measures.ScoredDoc(question_id, name, float(-rank))
        for question_id, order in order_of.items()
        for rank, name in enumerate(order)
    ]


def thoughts(answered: Answered) -> str:
    """The reasoning about the first reranked hits, one line of it each, with score, mass and length."""
    lines = [f'"{answered.question.text}": what the model thought of its first {SHOWN_THOUGHTS} hits']
    for thought in answered.thoughts[:SHOWN_THOUGHTS]:
        text = textwrap.shorten(thought.reasoning, THOUGHT_WIDTH, placeholder=" ...") or "(nothing)"
        lines.append(
            f"  {thought.name}: score {thought.rank_score:.2f}, mass {thought.mass:.2f}, {thought.think_tokens} tokens"
        )
        lines.append(f"    {text}")
    return "\n".join(lines)


def pick_examples(answers: Sequence[Answered]) -> list[Answered]:
    """Three questions that gained most, and the one that lost most."""
    by_gain = sorted(answers, key=gain)
    return [*reversed(by_gain[-3:]), by_gain[0]]


def side_by_side(answered: Answered) -> str:
    """The best hits of both orders next to each other, and from which engine rank each reranked hit came."""
    rank_of = {name: rank for rank, name in enumerate(answered.engine_order, start=1)}
    lines = [
        f'"{answered.question.text}"   nDCG@10 {gain(answered):+.3f}',
        f"    {'engine':<{NAME_WIDTH}}     reranked",
    ]
    pairs = zip(answered.engine_order[:SHOWN_HITS], answered.reranked_order[:SHOWN_HITS], strict=False)
    for rank, (before, after) in enumerate(pairs, start=1):
        moved = rank_of[after] - rank
        said = f"up {moved} from {rank_of[after]}" if moved > 0 else f"down {-moved}" if moved < 0 else "stays"
        left, right = (f"{_mark(answered, name)} {_short(name):<{NAME_WIDTH}}" for name in (before, after))
        lines.append(f" {rank:>2} {left}  {right}  {said}")
    return "\n".join(lines)


def table_of_means(answers: Sequence[Answered]) -> str:
    """Both means of every measure."""
    before, after = means(answers)
    lines = [f"mean of {len(answers)} questions   engine   reranked   change"]
    lines += [
        f"{name:<22} {before[name]:>7.3f} {after[name]:>10.3f} {after[name] - before[name]:>+8.3f}" for name in before
    ]
    return "\n".join(lines)


def _mark(answered: Answered, name: str) -> str:
    return GRADE_MARKS[answered.question.grades.get(name)]


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
