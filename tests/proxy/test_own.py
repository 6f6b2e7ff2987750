"""What we answer ourselves, in the engine's shape."""

from __future__ import annotations

import json

import pytest

from es_rerank.proxy.exchange import framing_problem
from es_rerank.proxy.own import error_reply, json_body, own_reply
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
    """A client that asks for a compatible form is answered in it, as the engine would."""
    assert own_reply(asked_with(accept), 200, b"{}", None).headers[0] == (b"content-type", answered)


def test_the_product_is_said_only_where_the_engine_says_it() -> None:
    """Our answers carry X-Elastic-Product exactly where the engine's do."""
    said = own_reply(asked_with(None), 200, b"{}", b"Elasticsearch")
    assert (b"x-elastic-product", b"Elasticsearch") in said.headers
    assert all(name != b"x-elastic-product" for name, _ in own_reply(asked_with(None), 200, b"{}", None).headers)


def test_pretty_is_for_people() -> None:
    """`?pretty` indents and ends the line."""
    assert json_body({"a": 1}, pretty=True) == b'{\n  "a": 1\n}\n'
    assert json_body({"a": 1}, pretty=False) == b'{"a":1}'


@pytest.mark.parametrize(
    ("headers", "ambiguous"),
    [
        ((), False),
        (((b"content-length", b"3"),), False),
        (((b"transfer-encoding", b"chunked"),), False),
        (((b"content-length", b"3"), (b"content-length", b"3")), True),
        (((b"transfer-encoding", b"chunked"), (b"content-length", b"3")), True),
    ],
)
def test_ambiguous_lengths_are_seen_whatever_the_parser(
    headers: tuple[tuple[bytes, bytes], ...], *, ambiguous: bool
) -> None:
    """Two lengths, or a length beside chunks, are a problem even where the server's parser lets them through."""
    assert (framing_problem(headers) is not None) == ambiguous
