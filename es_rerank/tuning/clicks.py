"""From clicks to grades by COEC, clicks over expected clicks, which takes out what the place alone brings. Pure.

Source: W. V. Zhang and R. Jones, Comparing Click Logs and Editorial Labels for Training Query Rewriting, Workshop on
Query Log Analysis, WWW 2007.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from es_rerank.tuning.judged import CLICKS, Grade

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_IMPRESSIONS = 10
# A pair that is clicked three times as often as its places explain, or more, has the best grade.
MAX_GRADE = 3.0


class ShownPair(msgspec.Struct, frozen=True, kw_only=True):
    """A hit of a query as it was shown: how often at each position, and in how many searches it was clicked.

    `query_id` are the query's words, or their hash where only that is kept; then `user_query` is ''.
    """

    query_id: str
    user_query: str
    index: str
    object_id: str
    impressions: Mapping[int, int]
    clicks: int


def click_shares(impressions: Mapping[int, int], clicks: Mapping[int, int]) -> Mapping[int, float]:
    """By position, the share of its impressions that were clicked, whatever stood there; between 0 and 1.

    Both are counts by position over all queries. A position that was never shown has no share.
    """
    return {place: min(1.0, clicks.get(place, 0) / count) for place, count in impressions.items() if count > 0}


def click_grade(
    pair: ShownPair, shares: Mapping[int, float], *, min_impressions: int = MIN_IMPRESSIONS
) -> Grade | None:
    """The grade of a pair: its COEC, at most MAX_GRADE. 1 is clicked as often as hits at its positions usually are.

    COEC is its clicks over Σ impressions at a position times its share of clicks. None, no judgment, for
    less than `min_impressions` and where no click was to be expected.
    """
    impressions = sum(pair.impressions.values())
    expected = sum(count * shares.get(place, 0.0) for place, count in pair.impressions.items())
    if impressions < min_impressions or expected <= 0:
        return None
    return Grade(
        query_id=pair.query_id,
        user_query=pair.user_query,
        index=pair.index,
        object_id=pair.object_id,
        grade=min(MAX_GRADE, pair.clicks / expected),
        source=CLICKS,
        impressions=impressions,
        clicks=pair.clicks,
        expected_clicks=expected,
    )
