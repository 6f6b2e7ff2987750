"""What must be equal between an engine's answer and ours: all but what is named here."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.differential.wire import Answer, Asked

# What no two answers of an engine have in common: how long it took, and names that it makes up.
TIMES = re.compile(rb'("?(?:took|took_in_millis)"?) ?: ?[0-9]+')
NAMES = re.compile(rb'(?<![\w"])"?(_scroll_id|pit_id|id|uuid|index_uuid|cluster_uuid)"? ?: ?"[^"]*"')
INDEX_ID = re.compile(rb"/[\w-]{22}\]")
CONTEXTS = re.compile(rb"context found for id \[[0-9]+\]")
# A parser's own words for the bytes that it reads, which depend on the pieces in which they came.
SOURCES = re.compile(rb"\[Source: [^\n]*?; (line|byte)")
MOMENTS = re.compile(rb'"?(creation_time|creation_date|timestamp)"? ?: ?"?[0-9]+"?')
# The time, where an engine says it, and what a search cost, which OpenSearch says.
CHANGING_HEADERS = {"date": "(now)", "task_resource_usage": "(costs)"}
# How an answer is cut into pieces, and whether another may follow it, is between two neighbours.
FRAMING = ("connection", "transfer-encoding")
# OpenSearch warns of a feature that will be gone, but of each only once in its life.
ONCE = "299 OpenSearch-"
GZIP = b"\x1f\x8b"


def masked(body: bytes) -> bytes:
    """A body without what differs between two answers to one request."""
    body = NAMES.sub(rb'"\1":"(id)"', TIMES.sub(rb"\1:0", body))
    body = CONTEXTS.sub(b"context found for id [0]", MOMENTS.sub(rb'"\1":0', body))
    return INDEX_ID.sub(b"/(id)]", SOURCES.sub(rb"[Source: (source); \1", body))


def readable(answer: Answer) -> bytes:
    """The body of an answer, inflated."""
    return gzip.decompress(answer.body) if answer.body.startswith(GZIP) else answer.body


def plain_headers(answer: Answer, *, with_length: bool) -> list[tuple[str, str]]:
    """The headers of an answer in order; its length only where the body may not differ by a digit."""
    left_out = FRAMING if with_length else (*FRAMING, "content-length")
    return [
        (name, CHANGING_HEADERS.get(name, value))
        for name, value in answer.headers
        if name not in left_out and not value.startswith(ONCE)
    ]


def assert_equal(asked: Asked, direct: Answer, through: Answer) -> None:
    """Status, headers and body are the engine's own."""
    assert through.status == direct.status, (asked, direct.body, through.body)
    assert masked(readable(through)) == masked(readable(direct)), asked
    with_length = through.body == direct.body
    assert plain_headers(through, with_length=with_length) == plain_headers(direct, with_length=with_length)


def hits_of(answer: bytes) -> list[dict[str, bytes]]:
    """The hits of an answer, each as its members' own bytes, without what reranking writes.

    That is the score, a score in the first place of `sort`, and what es-rerank adds where it is asked to.
    """
    hits = RAW_LIST.decode(RAW_OBJECT.decode(RAW_OBJECT.decode(answer)["hits"]).get("hits", b"[]"))
    return [_plain_hit({key: bytes(value) for key, value in RAW_OBJECT.decode(hit).items()}) for hit in hits]


def _plain_hit(hit: dict[str, bytes]) -> dict[str, bytes]:
    score = hit.pop("_score", None)
    hit.pop("_es_rerank", None)
    if "sort" in hit and score is not None:
        first, *others = RAW_LIST.decode(hit["sort"])
        if bytes(first) == score:
            hit["sort"] = b",".join(bytes(value) for value in others)
    return hit


def name_of(hit: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """What tells a hit from all others."""
    return hit.get("_index", b""), hit.get("_id", b"")


def around(answer: bytes) -> list[tuple[str, object]]:
    """Everything of an answer but its hits and the best score, in order."""
    found: list[tuple[str, object]] = []
    for key, value in RAW_OBJECT.decode(answer).items():
        if key == "hits":
            inner = RAW_OBJECT.decode(value).items()
            found.append((key, [(name, bytes(part)) for name, part in inner if name not in ("hits", "max_score")]))
        elif key != "_es_rerank":
            found.append((key, masked(b'"%s":%s' % (key.encode(), bytes(value)))))
    return found


def assert_reranked(asked: Asked, direct: bytes, through: bytes, pool: Sequence[Mapping[str, bytes]]) -> None:
    """A page of the same length, whose hits are the engine's own but for their scores; nothing else is changed.

    `pool` has all hits that may be on the page: those of the window, and those that follow in the engine's order.
    """
    assert around(through) == around(direct), asked
    own = {name_of(hit): hit for hit in pool}
    page = hits_of(through)
    assert len(page) == len(hits_of(direct)), asked
    assert len({name_of(hit) for hit in page}) == len(page), asked
    for hit in page:
        engines = own[name_of(hit)]
        assert hit.keys() == engines.keys(), asked
        assert {**hit, "_explanation": b""} == {**engines, "_explanation": b""}, asked
        # Ours stands on top, with the engine's own inside.
        assert engines.get("_explanation", b"") in hit.get("_explanation", b""), asked


def answers_in(body: bytes) -> list[bytes]:
    """The answers of an `_msearch`, each as its own bytes."""
    return [bytes(one) for one in RAW_LIST.decode(RAW_OBJECT.decode(body)["responses"])]
