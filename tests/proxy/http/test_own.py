"""What we answer ourselves, in the engine's shape, and which paths are ours."""

from __future__ import annotations

import json

import pytest

from es_rerank.proxy.http.own import error_reply, is_own, own_reply
from es_rerank.records import Request

COMPATIBLE = b"application/vnd.elasticsearch+json; compatible-with=8"


def asked_with(accept: bytes | None) -> Request:
    """A request that accepts this."""
    headers = () if accept is None else ((b"accept", accept),)
    return Request(method="GET", target=b"/", headers=headers)


def test_errors_have_the_engines_shape() -> None:
    """A client's error handling finds type, reason, root cause and status where the engines put them."""
    reply = error_reply(asked_with(None), 400, "illegal_argument_exception", "no", None)
    cause = {"type": "illegal_argument_exception", "reason": "no"}
    assert json.loads(reply.body) == {"error": {"root_cause": [cause], **cause}, "status": 400}
    assert reply.headers == (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(reply.body)),
    )


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, b"application/json"),
        (b"*/*", b"application/json"),
        (COMPATIBLE, COMPATIBLE),
        (COMPATIBLE + b", text/plain", b"application/json"),
    ],
)
def test_the_media_type_is_the_one_that_was_asked_for(accept: bytes | None, answered: bytes) -> None:
    """A client that asks for a compatible media type is answered in it, as the engine would."""
    assert own_reply(asked_with(accept), 200, b"{}", None).headers[0] == (b"content-type", answered)


def test_the_product_is_said_only_where_the_engine_says_it() -> None:
    """Our answers carry X-Elastic-Product exactly if the engine's answers do."""
    said = own_reply(asked_with(None), 200, b"{}", b"Elasticsearch")
    assert (b"x-elastic-product", b"Elasticsearch") in said.headers
    assert all(name != b"x-elastic-product" for name, _ in own_reply(asked_with(None), 200, b"{}", None).headers)


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        (b"/_es_rerank", True),
        (b"/_es_rerank/", True),
        (b"/_es_rerank/health", True),
        (b"/_es_rerank/x/y", True),
        (b"/_es_reranked", False),
        (b"/_es%5Frerank", False),
        (b"/notes/_es_rerank", False),
        (b"/", False),
    ],
)
def test_our_own_paths_are_those_below_ours(path: bytes, ours: bool) -> None:
    """Every path below our own is ours and never forwarded, and no other path is ours."""
    assert is_own(path) is ours
