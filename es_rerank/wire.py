"""What proxy and worker say to each other, and under which names in Redis.

Each query is one Celery task. The task message is small and names a claim: the query and its documents, as compressed
msgpack under a key of their own. Outcomes come back as records on one stream per proxy process. Every message has
a version; a reader that meets another version raises `WireError`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
import zstandard

from es_rerank.errors import EsRerankError
from es_rerank.judgment import Judgment  # noqa: TC001  msgspec reads annotations at run time

VERSION = 3
TASK = "es_rerank.score_query"
REPLY_FIELD = b"m"
REPLY_STREAM_LENGTH = 20_000
REPLY_STREAM_TTL_S = 300
# A worker holds several claims at once. Twice what the longest answer of an engine may hold by default.
MAX_CLAIM_BYTES = 64 * 1024 * 1024


class WireError(EsRerankError):
    """A message between proxy and worker that can't be read, or is too large to be sent."""


class Claim(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One query and the documents to score. `texts` and `keys` (of the score cache) are parallel.

    `fingerprint` is that of the scorer: another one's scores do not belong under these keys.
    `budget_tokens` is how long a model may think about each document, 0 for an answer without thinking. The claim
    lives in Redis for `lifetime_ms`, which is until the caller's deadline. From the time that is left a worker knows
    the deadline and how long the task waited, so the two sides need not agree on a clock.
    """

    version: int = VERSION
    fingerprint: str
    query: str
    instruction: str
    texts: list[str]
    keys: list[str]
    budget_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    keep_reasoning: bool = False
    lifetime_ms: Annotated[int, msgspec.Meta(ge=1)]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One document's outcome; `index` points into `Claim.texts`. No judgment means that the document failed alone."""

    index: int
    judgment: Judgment | None


End = Literal["", "done", "error"]


class Arrival(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Some outcomes of a query, or its end. After an end nothing more comes for it."""

    version: int = VERSION
    query_id: str
    outcomes: list[Outcome] = []
    end: End = ""
    reason: str = ""


class _Head(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What every version of every message begins with."""

    version: int


Message = TypeVar("Message", Claim, Arrival)
# The last two come for text that is not UTF-8, and for values that nest too deeply.
UNREADABLE = (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def queue_name(fingerprint: str) -> str:
    """The Celery queue of a scorer. It names fingerprint and version, so old and new workers serve side by side."""
    return f"es-rerank.{VERSION}.{fingerprint}"


def claim_key(query_id: str) -> str:
    """Where a query's claim lies."""
    return f"es-rerank:claim:{query_id}"


def reply_key(proxy_id: str) -> str:
    """The stream on which a proxy process reads outcomes."""
    return f"es-rerank:reply:{proxy_id}"


def presence_channel(fingerprint: str) -> str:
    """The channel that every live worker of a scorer subscribes to, if it reads messages of this version.

    The number of its subscribers is the number of workers: Redis drops a killed worker with its connection, at once
    and without a clock. A message on it is the id of a query whose caller has disconnected.
    """
    return f"es-rerank:alive:{VERSION}:{fingerprint}"


def encode_claim(claim: Claim) -> bytes:
    """Compressed msgpack: 100 documents of 8 KiB take about 2 ms and a quarter of their size.

    Raises WireError for a claim that no worker would read, because it is longer than `MAX_CLAIM_BYTES`.
    """
    clean = msgspec.structs.replace(
        claim,
        query=_without_surrogates(claim.query),
        instruction=_without_surrogates(claim.instruction),
        texts=[_without_surrogates(text) for text in claim.texts],
    )
    data = msgspec.msgpack.encode(clean)
    if len(data) > MAX_CLAIM_BYTES:
        raise WireError(f"a claim of {len(data)} bytes: allowed are {MAX_CLAIM_BYTES}")
    return zstandard.ZstdCompressor(level=1).compress(data)


def decode_claim(data: bytes) -> Claim:
    """The claim. Raises WireError for anything else, another version included."""
    try:
        # `max_output_size` bounds only frames that don't say their size; ours do, so the size is checked first.
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_CLAIM_BYTES:
            raise WireError(f"a claim of {size} bytes: allowed are {MAX_CLAIM_BYTES}")
        claim = _decode(zstandard.ZstdDecompressor().decompress(data), Claim)
    except UNREADABLE as error:
        raise WireError(f"a claim that can't be read: {error}") from error
    if len(claim.texts) != len(claim.keys):
        raise WireError(f"a claim of {len(claim.texts)} texts and {len(claim.keys)} keys: each text needs one key")
    return claim


def encode_arrival(arrival: Arrival) -> bytes:
    """Msgpack for the reply stream."""
    return msgspec.msgpack.encode(arrival)


def decode_arrival(data: bytes) -> Arrival:
    """The arrival. Raises WireError for anything else, another version included."""
    try:
        return _decode(data, Arrival)
    except UNREADABLE as error:
        raise WireError(f"a reply that can't be read: {error}") from error


def _without_surrogates(text: str) -> str:
    """The text with a question mark for each lone surrogate, which a str may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


def _decode(data: bytes, kind: type[Message]) -> Message:
    """The message; its version is read first, since another version may have other members."""
    version = msgspec.msgpack.decode(data, type=_Head).version
    if version != VERSION:
        raise WireError(f"message version {version}: this side speaks {VERSION}; update the older one")
    return msgspec.msgpack.decode(data, type=kind)
