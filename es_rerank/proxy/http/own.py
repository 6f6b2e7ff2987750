"""What we answer ourselves, in the engine's own shape, and which paths are ours."""

from __future__ import annotations

import msgspec

from es_rerank.records import Reply, Request

OWN_PATH = b"/_es_rerank"
UPSTREAM_KIND = "es_rerank_upstream_exception"
CALLER_KIND = "illegal_argument_exception"
CALLER_KINDS = {
    404: "resource_not_found_exception",
    408: "timeout_exception",
    409: "version_conflict_engine_exception",
}
COMPATIBLE = b"application/vnd.elasticsearch+json"


def caller_kind(status: int) -> str:
    """The exception name for an error that the caller made, by its HTTP status."""
    return CALLER_KINDS.get(status, CALLER_KIND)


def error_body(status: int, kind: str, reason: str) -> bytes:
    """An error as Elasticsearch and OpenSearch write one."""
    cause = {"type": kind, "reason": reason}
    return msgspec.json.encode({"error": {"root_cause": [cause], **cause}, "status": status})


def error_reply(request: Request, status: int, kind: str, reason: str, product: bytes | None) -> Reply:
    """An error of ours for this request. `kind` is an exception name as the engines have them."""
    return own_reply(request, status, error_body(status, kind, reason), product)


def own_reply(
    request: Request, status: int, body: bytes, product: bytes | None, *, media_type: bytes | None = None
) -> Reply:
    """An answer of ours, with the engine's product header if it has one.

    It is JSON, in the media type that was asked for, unless another `media_type` is named.

    Official clients refuse an Elasticsearch that lacks the header; for an OpenSearch we must never send it. The
    caller's X-Opaque-Id comes back, as from the engines.
    """
    accept = (request.header(b"accept") or b"").strip()
    if media_type is None:
        media_type = accept if accept.startswith(COMPATIBLE) and b"," not in accept else b"application/json"
    headers: list[tuple[bytes, bytes]] = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    if product is not None:
        headers.insert(0, (b"x-elastic-product", product))
    opaque_id = request.header(b"x-opaque-id")
    if opaque_id is not None:
        headers.insert(0, (b"x-opaque-id", opaque_id))
    return Reply(status=status, headers=tuple(headers), body=body)


def is_own(path: bytes) -> bool:
    """Whether a raw path is ours, so that it is never forwarded."""
    return path == OWN_PATH or path.startswith(OWN_PATH + b"/")
