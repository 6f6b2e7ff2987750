"""What we answer ourselves, in the engine's own shape. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from es_rerank.records import Reply, Request

COMPATIBLE = b"application/vnd.elasticsearch+json"


def error_body(status: int, kind: str, reason: str) -> bytes:
    """An error as Elasticsearch and OpenSearch write one."""
    cause = {"type": kind, "reason": reason}
    return msgspec.json.encode({"error": {"root_cause": [cause], **cause}, "status": status})


def error_reply(request: Request, status: int, kind: str, reason: str, product: bytes | None) -> Reply:
    """An error of ours for this request. `kind` is an exception name as the engines have them."""
    return own_reply(request, status, error_body(status, kind, reason), product)


def own_reply(request: Request, status: int, body: bytes, product: bytes | None) -> Reply:
    """An answer of ours: in the media type that was asked for, and under the engine's product header if it has one.

    Official clients refuse an Elasticsearch that lacks the header, and we must never claim one for OpenSearch.
    """
    accept = (request.header(b"accept") or b"").strip()
    media_type = accept if accept.startswith(COMPATIBLE) and b"," not in accept else b"application/json"
    headers: list[tuple[bytes, bytes]] = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    if product is not None:
        headers.insert(0, (b"x-elastic-product", product))
    return Reply(status=status, headers=tuple(headers), body=body)


def json_body(value: Any, *, pretty: bool) -> bytes:
    """A value as JSON, indented for people where asked."""
    body = msgspec.json.encode(value)
    return msgspec.json.format(body, indent=2) + b"\n" if pretty else body
