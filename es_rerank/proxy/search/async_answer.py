"""An engine's answer about an async search, opened: how far the search is, and what it found. Pure.

Elasticsearch says it by `is_running` and `is_partial`, OpenSearch by `state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.search.render import BLOCK
from es_rerank.proxy.search.window import EngineAnswer, read_answer
from es_rerank.rawjson import RAW_OBJECT, RawObject, open_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNNING_STATES = ("INIT", "RUNNING")
# A search whose results OpenSearch could not store ended well all the same.
COMPLETE_STATES = ("SUCCEEDED", "PERSISTING", "PERSIST_SUCCEEDED", "PERSIST_FAILED", "STORE_RESIDENT")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncAnswer:
    """The members of an answer as raw JSON. `search_id` is '' where it has none: then nothing is stored.

    `running`: the search has not ended. `complete`: it ended, and on all shards. `response` is the search answer in it,
    None where there is none. `found` is that opened, for a complete search whose hits have scores; else None.
    """

    top: RawObject
    search_id: str
    running: bool
    complete: bool
    response: RawObject | None
    found: EngineAnswer | None

    def with_hits(self, hits_object: Mapping[str, Any]) -> dict[str, Any]:
        """The members with `hits` and `max_score` of another search answer; the totals stay."""
        response = self.response or {}
        hits: dict[str, Any] = dict(RAW_OBJECT.decode(response["hits"]))
        hits.update({name: hits_object[name] for name in ("max_score", "hits") if name in hits and name in hits_object})
        return {**self.top, "response": {**response, "hits": hits}}


def read_async(body: bytes) -> AsyncAnswer | None:
    """The answer, opened; None for anything that is no answer about an async search."""
    try:
        top = RAW_OBJECT.decode(body)
        search_id = msgspec.json.decode(top.get("id", b'""'), type=str)
        running, complete = _progress(top)
        response = RAW_OBJECT.decode(top["response"]) if "response" in top else None
    except (KeyError, ValueError, RecursionError):
        return None
    found = read_answer(bytes(top["response"])) if complete and response is not None else None
    return AsyncAnswer(
        top=top,
        search_id=search_id,
        running=running,
        complete=complete and response is not None and "error" not in top and (found is None or found.complete),
        response=response,
        found=found,
    )


def with_status(members: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    """The members with the status at the end of the search answer; unchanged where there is none."""
    response = members.get("response", b"")
    opened = response if isinstance(response, dict) else open_object(bytes(response))
    return dict(members) if opened is None else {**members, "response": {**opened, BLOCK: block}}


def same_hits(page: EngineAnswer, window: Sequence[tuple[str, str]], ranked: Sequence[Any]) -> bool:
    """Whether a ranked page can take the place of the engine's own: as long, out of a window that has all its hits.

    It can't where the index has changed much between the async search and its window. `window` are the ids there.
    """
    return len(ranked) == len(page.hits) and set(page.ids) <= set(window)


def _progress(top: RawObject) -> tuple[bool, bool]:
    """Whether the search runs, and whether it ended on all shards. Raises KeyError and ValueError for another shape."""
    if "state" in top:
        state = msgspec.json.decode(top["state"], type=str)
        return state in RUNNING_STATES, state in COMPLETE_STATES
    running = msgspec.json.decode(top["is_running"], type=bool)
    return running, not running and not msgspec.json.decode(top["is_partial"], type=bool)
