"""How far two sources agree on what is relevant, as Cohen's kappa. Pure."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from es_rerank.tuning.judged import Grade, JudgmentList

# J. R. Landis and G. G. Koch, The Measurement of Observer Agreement for Categorical Data, Biometrics 33, 1977.
WORDS = ((0.0, "slight"), (0.2, "fair"), (0.4, "moderate"), (0.6, "substantial"), (0.8, "almost perfect"))


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """What two sources say of the pairs that both have judged; `n` is how many those are.

    A kappa is 1 for full agreement, 0 for as much as chance brings, and None where it is not defined: there is no
    common pair, or both give one and the same grade to all.
    """

    sources: tuple[str, str]
    n: int
    kappa: float | None
    weighted_kappa: float | None
    sentence: str


def agreement_of(one: JudgmentList, other: JudgmentList) -> Agreement:
    """How far two lists agree. A pair is the same for both if its index is, or if one of them does not say it.

    A query is the same by its id, or else by its words, where both have some.
    """
    pairs = common_grades(one, other)
    kappa, weighted = cohens_kappa(pairs), weighted_kappa(pairs)
    return Agreement(
        sources=(one.source, other.source),
        n=len(pairs),
        kappa=kappa,
        weighted_kappa=weighted,
        sentence=_sentence(one, other, pairs, kappa, weighted),
    )


def common_grades(one: JudgmentList, other: JudgmentList) -> list[tuple[float, float]]:
    """The grades that both give to a pair, in the order of `one`."""
    known: dict[tuple[str, str], list[Grade]] = {}
    by_words = {query.user_query: query.query_id for query in other.queries() if query.user_query}
    ids = {grade.query_id for grade in other.grades}
    for grade in other.grades:
        known.setdefault((grade.query_id, grade.object_id), []).append(grade)
    words = {query.query_id: query.user_query for query in one.queries()}
    common: list[tuple[float, float]] = []
    for grade in one.grades:
        query_id = grade.query_id if grade.query_id in ids else by_words.get(words[grade.query_id], "")
        found = known.get((query_id, grade.object_id), [])
        match = next((item for item in found if item.index == grade.index), None) or next(
            (item for item in found if not item.index or not grade.index), None
        )
        if match is not None:
            common.append((grade.grade, match.grade))
    return common


def cohens_kappa(pairs: Sequence[tuple[float, float]]) -> float | None:
    """(p_o - p_e) / (1 - p_e), of grades rounded to whole ones (a half goes up); None where p_e is 1.

    p_o is the share of pairs with the same grade from both, p_e what it would be if each of them gave its grades by
    chance, as often as it does (J. Cohen, A Coefficient of Agreement for Nominal Scales, 1960).
    """
    if not pairs:
        return None
    rounded = [(math.floor(first + 0.5), math.floor(second + 0.5)) for first, second in pairs]
    n = len(pairs)
    firsts, seconds = Counter(first for first, _ in rounded), Counter(second for _, second in rounded)
    by_chance = sum(count * seconds[grade] for grade, count in firsts.items())
    if by_chance == n * n:
        return None
    observed = sum(first == second for first, second in rounded)
    return (observed * n - by_chance) / (n * n - by_chance)


def weighted_kappa(pairs: Sequence[tuple[float, float]]) -> float | None:
    """1 - Σ (a - b)² over what it would be by chance: far from each other counts more. None where that is 0.

    Quadratic weights make kappa a matter of means alone, so that fractional grades need no rounding (J. Cohen, Weighted
    Kappa, 1968; J. L. Fleiss and J. Cohen, 1973).
    """
    if not pairs:
        return None
    n = len(pairs)
    by_chance = _mean_square(first for first, _ in pairs) + _mean_square(second for _, second in pairs)
    middle = math.fsum(first for first, _ in pairs) / n - math.fsum(second for _, second in pairs) / n
    by_chance += middle * middle
    if by_chance <= 0:
        return None
    return 1 - math.fsum((first - second) ** 2 for first, second in pairs) / n / by_chance


def _mean_square(values: Iterable[float]) -> float:
    """The mean square of the distances from the mean."""
    given = list(values)
    mean = math.fsum(given) / len(given)
    return math.fsum((value - mean) ** 2 for value in given) / len(given)


def _sentence(
    one: JudgmentList,
    other: JudgmentList,
    pairs: Sequence[tuple[float, float]],
    kappa: float | None,
    weighted: float | None,
) -> str:
    both = f"{one.source} and {other.source}"
    if not pairs:
        return f"{both} have judged no pair in common, so nothing can be said of their agreement"
    judged = f"{both} have both judged {len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}"
    if kappa is None and weighted is None:
        return f"{judged} and give all of them one and the same grade, so that kappa is not defined"
    figures = [] if kappa is None else [f"kappa {kappa:.2f}, {_word(kappa)} agreement"]
    figures += [] if weighted is None else [f"quadratically weighted {weighted:.2f}"]
    highest = max(first for first, _ in pairs), max(second for _, second in pairs)
    scales = f" (their best grades are {highest[0]:g} and {highest[1]:g})" if highest[0] != highest[1] else ""
    return f"{judged}: {'; '.join(figures)}{scales}"


def _word(kappa: float) -> str:
    return next((word for least, word in reversed(WORDS) if kappa > least), "no")
