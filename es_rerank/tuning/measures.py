"""Measures of an order, computed by ir-measures under its own names, and what they are told of unusual grades.

ir-measures passes most of them to trec_eval, which takes whole grades only. So each measure gets the grades in a form
that changes none of its values:

- a measure that asks only whether a document is relevant (RR, AP, R, P, Rprec, Success: is the grade at least `rel`,
  which is 1 unless said otherwise?) gets the answer to that question, for a fractional grade too: 0.5 is not relevant;
- nDCG, whose gain is the grade itself, is the same when all grades of a query are multiplied by one number. Fractional
  grades are multiplied until they are whole; where that would take more than 10,000 levels, the largest grade becomes
  10,000 and the others are rounded, which moves nDCG by less than 0.0005;
- a negative grade is judged, and not relevant: it counts 0, as in trec_eval. It is passed on as 0, because a query that
  has nothing but grades of -2 and less ends the whole process within pytrec_eval 0.5.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import lcm
from typing import TYPE_CHECKING, Any

import ir_measures

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.metrics import PRIMARY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from es_rerank.tuning.graded import GradedQuery

BY_GAIN = ("nDCG",)
BY_RELEVANCE = ("RR", "AP", "R", "P", "Rprec", "Success")
JUDGED = "Judged"
NAMES = (*BY_GAIN, *BY_RELEVANCE, JUDGED)
NEED_DEPTH = ("R", "P", "Success", JUDGED)
PARAMETERS = ("cutoff", "rel")
MAX_DEPTH = 10_000
MAX_NAME = 60
MAX_GAIN = 10_000  # trec_eval keeps a table of all levels for each query

View = tuple[int, ...]
"""What a measure sees of an order: the gain at each place, 0 for a hit that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """A query's grades as a measure takes them: of the recorded hits, in engine order, and of other documents."""

    hits: View
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure under its name in ir-measures. `depth` is how many places it sees, None for all."""

    name: str
    kind: str
    depth: int | None
    rel: int
    measure: Any

    def gains(self, query: GradedQuery) -> Gains:
        """The query's grades, in the form that the module's description promises."""
        known = [grade for grade in query.grades if grade is not None]
        if self.kind in BY_GAIN:
            factor = _factor((*known, *query.others))
            told = {grade: max(0, round(grade * factor)) for grade in (*known, *query.others)}
        elif self.kind in BY_RELEVANCE:
            told = {grade: int(grade >= self.rel) for grade in (*known, *query.others)}
        else:
            told = dict.fromkeys((*known, *query.others), 1)
        return Gains(
            hits=tuple([0 if grade is None else told[grade] for grade in query.grades]),
            others=tuple([told[grade] for grade in query.others]),
        )

    def view(self, gains: Gains, order: Sequence[int]) -> View:
        """What the measure sees of an order. Orders with the same view have the same value."""
        return tuple([gains.hits[index] for index in order[: self.depth]])

    def values(self, gains: Sequence[Gains], views: Sequence[Iterable[View]]) -> list[dict[View, float]]:
        """The value of each view of each query; both arguments are parallel to the queries, and so is the result.

        ir-measures is asked as many times as the query with most views has some, each time for all queries at once.
        """
        names = [str(place) for place in range(len(gains))]
        qrels = {name: _qrels(one) for name, one in zip(names, gains, strict=True)}
        evaluator = ir_measures.evaluator([self.measure], qrels)
        left = [list(dict.fromkeys(seen)) for seen in views]
        found: list[dict[View, float]] = [{} for _ in gains]
        while any(left):
            asked = {place: seen.pop() for place, seen in enumerate(left) if seen}
            run = {names[place]: _run(view) for place, view in asked.items() if view}
            values = {result.query_id: float(result.value) for result in evaluator.iter_calc(run)} if run else {}
            for place, view in asked.items():
                found[place][view] = values.get(names[place], 0.0) if view else 0.0
        return found


def parse_measure(name: str) -> Measure:
    """The measure of this name in ir-measures: nDCG@10, RR@10, AP@100, R@100, P@5, P(rel=2)@5, Success@1, Judged@10.

    Raises TuningError for what is no measure, or one that is not taken here.
    """
    measure = _parsed(name)
    if measure is None or measure.NAME not in NAMES:
        raise TuningError(
            f"metric: {name[:MAX_NAME]!r} is not taken; allowed are {', '.join(NAMES)}, "
            f"most with a depth, as in {PRIMARY}"
        )
    given: Mapping[str, Any] = measure.params
    odd = [key for key in given if key not in PARAMETERS and (key, given[key]) != ("dcg", "log2")]
    if odd:
        raise TuningError(f"metric: {name!r} has {', '.join(odd)}; allowed are a depth and rel")
    depth, rel = given.get("cutoff"), given.get("rel", 1)
    if depth is None and measure.NAME in NEED_DEPTH:
        raise TuningError(f"metric: {name!r} needs a depth, as in {measure.NAME}@10")
    numbers = (rel,) if depth is None else (rel, depth)
    if not all(type(number) is int and 1 <= number <= MAX_DEPTH for number in numbers):
        raise TuningError(f"metric: in {name!r} the depth and rel must be whole numbers from 1 to {MAX_DEPTH:,}")
    # The grades that it is told are 1 for relevant ones, so it has no `rel` of its own.
    told = measure.NAME if depth is None else f"{measure.NAME}@{depth}"
    return Measure(name=str(measure), kind=measure.NAME, depth=depth, rel=rel, measure=ir_measures.parse_measure(told))


def _parsed(name: str) -> Any:
    """The measure as ir-measures reads it, None where it can't."""
    if len(name) > MAX_NAME:
        return None
    try:
        return ir_measures.parse_measure(name)
    except (AssertionError, AttributeError, NameError, SyntaxError, TypeError, ValueError):
        return None


def measured(measure: Measure, queries: Sequence[GradedQuery], order_by_query: Sequence[Sequence[int]]) -> list[float]:
    """The value of each query in one order; the sequences are parallel. The order of a missing query is empty."""
    gains = [measure.gains(query) for query in queries]
    views = [measure.view(one, order) for one, order in zip(gains, order_by_query, strict=True)]
    values = measure.values(gains, [[view] for view in views])
    return [value[view] for value, view in zip(values, views, strict=True)]


def _factor(grades: Sequence[float]) -> Fraction:
    """What the grades of a query are multiplied by, to be whole or, with at most 10,000 levels, nearly so."""
    exact = [Fraction(str(grade)) for grade in grades if grade > 0]
    largest = max(exact, default=Fraction(1))
    whole = lcm(*[grade.denominator for grade in exact])
    return Fraction(whole) if whole * largest <= MAX_GAIN else MAX_GAIN / largest


def _qrels(gains: Gains) -> dict[str, int]:
    """A query's judged documents that have a gain, by names made up here; one without, where no other is left.

    Documents of one gain are alike to a measure, so a name is the gain and a number among those of that gain.
    """
    numbers: Counter[int] = Counter()
    found = {}
    for gain in (*gains.hits, *gains.others):
        if gain:
            numbers[gain] += 1
            found[f"{gain} {numbers[gain]}"] = gain
    return found or {"none": 0}


def _run(view: View) -> dict[str, float]:
    """An order that has the view, as ir-measures takes it: names as in `_qrels`, with falling scores."""
    numbers: Counter[int] = Counter()
    names = _fillers(len(view))[:]
    for place, gain in enumerate(view):
        if gain:
            numbers[gain] += 1
            names[place] = f"{gain} {numbers[gain]}"
    return dict(zip(names, _scores(len(view)), strict=True))


@cache
def _fillers(count: int) -> list[str]:
    """Names for hits without a gain, one for each place."""
    return [f"at {place}" for place in range(count)]


@cache
def _scores(count: int) -> list[float]:
    """Falling scores, one for each place."""
    return [float(count - place) for place in range(count)]
