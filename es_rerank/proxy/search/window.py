"""Plans the one request that fetches the window, and reads the engine's answer to it. Pure.

A search that hides the text is sent with a wider filter for `_source`, and its hits are cut back to what it asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.fusion.scale import LARGEST_FLOAT32
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES
from es_rerank.proxy.search.search_pipeline import past_pipeline
from es_rerank.proxy.search.source_filter import EVERYTHING, SourceFilter, asked_source, left_to_cut, widened
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT, RawObject, edit_object
from es_rerank.rules.indices import is_system
from es_rerank.texts import texts_of

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.records import Request
    from es_rerank.texts import Texts

SCORE = msgspec.json.Decoder(float)
TEXT = msgspec.json.Decoder(str, strict=False)
# `index.max_result_window` of both engines, unless configured.
MAX_RESULT_WINDOW = 10_000
# The rest of a request's first line, which the engines count with the target: the longest method and the version.
LINE_BYTES = len(b"POST  HTTP/1.1")


WindowShape = tuple[str, int, SourceFilter | None]
"""What makes a window large: the index expression, the number of hits, and what of `_source` is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """The request that fetches the window and, where the page goes past it, the hits behind it.

    `cut` says what to leave of each hit's `_source`, where it has more than the client asked for; else it is None.
    """

    request: Request
    shape: WindowShape
    cut: SourceFilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAnswer:
    """The engine's answer with its hits opened and everything else as raw JSON, nothing lost or reordered.

    `ids` (`_index` and `_id`, '' for what the engine left out) and `scores` are parallel to `hits`, in engine order.
    `complete` is False when some shard or cluster failed or ran out of time, `shards_failed` tells of the first.
    """

    top: RawObject
    hits_object: RawObject
    hits: tuple[RawObject, ...]
    ids: tuple[tuple[str, str], ...]
    scores: tuple[float, ...]
    complete: bool
    shards_failed: bool

    @property
    def has_system_hits(self) -> bool:
        """Whether some hit is of a system index, on a remote cluster too."""
        return any(is_system(index) for index in {index for index, _ in self.ids})


def plan_window(call: SearchCall, decision: Rerank) -> WindowPlan:
    """The upstream request for a reranked search. It leaves `filter_path` to us, since that could hide what we need."""
    size = decision.size
    if decision.cursor is not None:  # in the window, or of no use: see cursor.py
        size = max(decision.window, min(size, MAX_RESULT_WINDOW))
        call = _without_cursor(call)
    carrier = past_pipeline(call) if call.pipeline == "rerank" else call.carrier
    filtered = bool(call.filter_path)
    asked = asked_source(call)
    wider = None if asked is None else widened(asked, decision.text.names)
    if asked is None or wider is None or wider == asked:
        request = carrier.asking(first=size, filtered=filtered)
        return WindowPlan(request=request, shape=(call.expression, size, asked))
    request = carrier.asking(first=size, filtered=filtered, source=wider.parameters)
    if len(request.target) + LINE_BYTES > MAX_TARGET_BYTES:  # then more is fetched than is needed
        wider = SourceFilter(includes=(EVERYTHING,))
        request = carrier.asking(first=size, filtered=filtered, source=wider.parameters)
    return WindowPlan(request=request, shape=(call.expression, size, wider), cut=left_to_cut(asked, wider))


def _without_cursor(call: SearchCall) -> SearchCall:
    left = {key: value for key, value in (call.search or {}).items() if key != "search_after"}
    return call.with_body(edit_object(call.body, {"search_after": None}), left)


def plan_plain(call: SearchCall) -> Request:
    """The client's own search, sent so that we can read the answer and write into it."""
    return call.carrier.asking(first=None, filtered=bool(call.filter_path))


def read_answer(body: bytes) -> EngineAnswer | None:
    """The engine's answer, opened; None if it is not a search answer with a score on every hit.

    What a document holds is not read here, so that none spoils the answer for the others.
    """
    try:
        top = RAW_OBJECT.decode(body)
        hits_object = RAW_OBJECT.decode(top["hits"])
        hits = tuple([RAW_OBJECT.decode(hit) for hit in RAW_LIST.decode(hits_object["hits"])])
        scores = tuple([SCORE.decode(hit["_score"]) for hit in hits])
        shards = msgspec.json.decode(top.get("_shards", b"{}"), type=dict[str, Any])
        clusters = msgspec.json.decode(top.get("_clusters", b"{}"), type=dict[str, Any])
        timed_out = msgspec.json.decode(top.get("timed_out", b"false"))
    except (KeyError, ValueError, RecursionError):
        return None
    # Engines compute with 32-bit floats.
    if not all(abs(score) <= LARGEST_FLOAT32 for score in scores):
        return None
    answered = clusters.get("successful") == clusters.get("total")  # `successful` does not count skipped clusters
    shards_failed = bool(shards.get("failed"))
    complete = not shards_failed and answered and timed_out is False
    ids = tuple([(_text(hit, "_index"), _text(hit, "_id")) for hit in hits])
    return EngineAnswer(
        top=top,
        hits_object=hits_object,
        hits=hits,
        ids=ids,
        scores=scores,
        complete=complete,
        shards_failed=shards_failed,
    )


def _text(hit: RawObject, key: str) -> str:
    raw = hit.get(key)
    if raw is None:
        return ""
    try:
        return TEXT.decode(raw)
    except ValueError:  # no engine sends anything but a text there
        return bytes(raw).decode("utf-8", "replace")


def read_texts(answer: EngineAnswer, decision: Rerank) -> Texts:
    """The texts to score: parallel to the window's hits, None for a hit without text."""
    texts = texts_of((hit.get("_source") for hit in answer.hits[: decision.window]), decision.text)
    chunking = None if decision.similarity is None else decision.similarity.chunking
    if chunking is None:
        return texts
    question = decision.scoring.question
    chosen = tuple([None if text is None else chunking.best(text, question) for text in texts.texts])
    return replace(texts, texts=chosen)
