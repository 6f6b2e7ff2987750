"""The order in which the running proxy answers a recorded query under a setting. Pure.

Serving and this file call the same function (`es_rerank.fusion.rank.prepare`): the first hits of the window take their
new places, and the hits behind them stay in the engine's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.fusion.rank import prepare
from es_rerank.tuning.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from es_rerank.fusion.fuse import Method
    from es_rerank.fusion.rank import Prepared
    from es_rerank.judgment import ScoreRule
    from es_rerank.tuning.recording import Hit, RecordedQuery, RecordingHead, Setting


def order_of(query: RecordedQuery, setting: Setting) -> tuple[Hit, ...]:
    """All recorded hits of a query, best first, as its search is answered under the setting."""
    [order] = orders(query, (setting,))
    return tuple([query.ids[index] for index in order])


def orders(query: RecordedQuery, settings: Iterable[Setting]) -> Iterator[tuple[int, ...]]:
    """For each setting the order of all recorded hits: a permutation of their indexes (0-based engine ranks).

    A window is read once for each method and score, so neighbouring settings that differ only in alpha are cheap. A
    search that was `skipped` keeps the engine's order under any setting. Whether the recording holds what a setting
    needs is for `check_settings` to say, before.
    """
    engine = engine_order(query)
    prepared: dict[tuple[int, Method, ScoreRule], Prepared] = {}
    for setting in settings:
        if query.status == "skipped":
            yield engine
            continue
        key = (setting.window, setting.method, setting.score)
        if key not in prepared:
            first = slice(setting.window)
            prepared[key] = prepare(
                query.engine_scores[first], query.judgments[first], method=setting.method, score=setting.score
            )
        order = prepared[key].ranked(setting.alpha).ranking.order
        yield order if len(order) == len(engine) else (*order, *engine[len(order) :])


def engine_order(query: RecordedQuery) -> tuple[int, ...]:
    """The order of the engine itself, in the form of `orders`."""
    return tuple(range(len(query.ids)))


def check_settings(head: RecordingHead, settings: Iterable[Setting]) -> None:
    """Raise TuningError for a setting whose order the recording can't tell.

    No window can be larger than the recorded one. Under a cascade the window and the score decide which documents are
    thought about, so another window or score would have had other judgments.
    """
    recorded = head.setting
    for setting in settings:
        if setting.window > head.window:
            raise TuningError(
                f"window: {setting.window} is more than the {head.window} hits that were recorded; allowed are 1 "
                f"to {head.window}"
            )
        for name in ("window", "score"):
            asked, given = getattr(setting, name), getattr(recorded, name)
            if head.mode == "cascade" and asked != given:
                raise TuningError(
                    f"{name}: {asked} can't be tried on a recording of the mode cascade, where the {name} decides "
                    f"which documents are thought about; allowed is {given}, as recorded. Record again with {asked}"
                )
