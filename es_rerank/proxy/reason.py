"""The reasoning behind the scores of one page: what was kept, and what is thought again because it was not.

Never fails and never runs over the deadline: what can't be had is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.proxy.score import RENDER_MARGIN_S, ask_again, last_look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.clock import Deadline
    from es_rerank.proxy.classify import Rerank
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.score import WindowScores


async def find_reasoning(  # noqa: PLR0917
    places: Sequence[int],
    texts: Sequence[str | None],
    scores: WindowScores,
    decision: Rerank,
    deadline: Deadline,
    parts: Parts,
) -> dict[int, str]:
    """The reasoning of the window's hits at `places`, by place, for those that were thought about."""
    stage = decision.stages[-1]
    thought = {
        place: key
        for place in places
        if (key := scores.keys[place]) is not None and (one := scores.judgments[place]) is not None and one.think_tokens
    }
    found = await _look_up(thought, deadline, parts)
    missing = [text for place in thought if place not in found and (text := texts[place]) is not None]
    if missing and deadline.remaining_s() > RENDER_MARGIN_S:
        await ask_again(list(dict.fromkeys(missing)), stage, decision, deadline, parts)
        found = await _look_up(thought, deadline, parts)
    return found


async def _look_up(key_of: dict[int, str], deadline: Deadline, parts: Parts) -> dict[int, str]:
    found = await last_look(parts.cache.get_reasoning(list(key_of.values())), deadline)
    return {place: text for place, text in zip(key_of, found, strict=False) if text is not None}
