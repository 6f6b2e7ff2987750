"""What we answer ourselves, in the engine's shape, and which paths are ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from es_rerank.proxy.http.own import OwnPath, answer_own, error_reply, is_own, json_body, own_reply
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


def test_pretty_is_for_people() -> None:
    """`?pretty` indents and ends the line."""
    assert json_body({"a": 1}, pretty=True) == b'{\n  "a": 1\n}\n'
    assert json_body({"a": 1}, pretty=False) == b'{"a":1}'


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


async def state() -> tuple[int, dict[str, Any]]:
    """What a path of ours answers."""
    return 503, {"ready": False}


PATHS = {b"/_es_rerank/health": OwnPath(methods=("GET", "HEAD"), answer=state)}


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (b"/_es_rerank/health", b'{"ready":false}'),
        (b"/_es_rerank/health/", b'{"ready":false}'),
        (b"/_es_rerank/health?pretty", b'{\n  "ready": false\n}\n'),
    ],
)
async def test_a_path_of_ours_is_answered_by_its_own(target: bytes, body: bytes) -> None:
    """Status and value come from the function in the table; they are indented if `pretty` is asked for."""
    reply = await answer_own(Request(method="GET", target=target, headers=()), PATHS, b"Elasticsearch")
    assert (reply.status, reply.body) == (503, body)
    assert (b"x-elastic-product", b"Elasticsearch") in reply.headers


@pytest.mark.parametrize(
    ("method", "target", "status", "reason"),
    [
        ("GET", b"/_es_rerank", 404, "no such path [/_es_rerank]; known is [/_es_rerank/health]"),
        ("GET", b"/_es_rerank/x", 404, "no such path [/_es_rerank/x]; known is [/_es_rerank/health]"),
        ("POST", b"/_es_rerank/health", 405, "method [POST] is not allowed here; allowed are [GET, HEAD]"),
    ],
)
async def test_any_other_path_or_method_says_what_there_is(
    method: str, target: bytes, status: int, reason: str
) -> None:
    """Any other path or method is an error in the engine's shape that names what exists."""
    reply = await answer_own(Request(method=method, target=target, headers=()), PATHS, None)
    assert reply.status == status
    assert json.loads(reply.body)["error"]["reason"] == reason
