"""How a request below our path finds its handler, and how the answer is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from es_rerank.errors import CallerError
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.own.call import EngineRefusedError, OwnAnswer, OwnCall, Route
from es_rerank.proxy.own.router import answer_own
from es_rerank.records import Reply, Request
from es_rerank.tables import LimitSettings

if TYPE_CHECKING:
    from es_rerank.proxy.parts import Parts


class FakeParts:
    """As much of the parts as the router needs."""

    class engine:  # noqa: N801
        """An Elasticsearch."""

        product = b"Elasticsearch"

    limits = LimitSettings()


async def state(call: OwnCall) -> OwnAnswer:
    """What a path of ours answers."""
    return OwnAnswer(status=503, value={"ready": False, "name": call.names.get("name")}, warnings=("take care",))


async def refuse(call: OwnCall) -> OwnAnswer:
    """A handler whose request to the engine is refused."""
    headers = ((b"WWW-Authenticate", b"Basic"), (b"content-type", b"application/json"), (b"date", b"now"))
    raise EngineRefusedError(Reply(status=401, headers=headers, body=b'{"status":401}'))


ROUTES = (
    Route(methods=("GET",), path="/_es_rerank/health", answer=state, about="x"),
    Route(methods=("GET", "PUT"), path="/_es_rerank/rules/{name}", answer=state, about="x"),
    Route(methods=("POST",), path="/_es_rerank/rules/{name}/_rollback", answer=refuse, about="x"),
)


async def ask(method: str, target: bytes) -> Reply:
    """The answer of the router."""
    request = Request(method=method, target=target, headers=())
    return await answer_own(request, ROUTES, cast("Parts", FakeParts()), MemoryBudget(10_000).share())


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (b"/_es_rerank/health", b'{"ready":false,"name":null}'),
        (b"/_es_rerank/health/", b'{"ready":false,"name":null}'),
        (b"/_es_rerank/rules/a%20b%2Fc", b'{"ready":false,"name":"a b/c"}'),
        (b"/_es_rerank/health?filter_path=ready", b'{"ready":false}'),
        (b"/_es_rerank/health?filter_path=ready&pretty", b'{\n  "ready" : false\n}\n'),
    ],
)
async def test_a_path_of_ours_is_answered_by_its_handler(target: bytes, body: bytes) -> None:
    """Status and value come from the handler; `pretty` and `filter_path` mean what they mean to the engines."""
    reply = await ask("GET", target)
    assert (reply.status, reply.body) == (503, body)
    assert (b"x-elastic-product", b"Elasticsearch") in reply.headers
    assert (b"warning", b'299 es-rerank "take care"') in reply.headers


@pytest.mark.parametrize("target", [b"/_es_rerank/x", b"/_es_rerank/rules/", b"/_es_rerank/rules/a/b"])
async def test_any_other_path_says_where_the_list_is(target: bytes) -> None:
    """A path that does not exist is a 404 that says where all are listed."""
    with pytest.raises(CallerError, match="no such path") as raised:
        await ask("GET", target)
    assert raised.value.status == 404


async def test_another_method_says_which_there_are() -> None:
    """A path that exists, with another method, is a 405 that names those that are allowed."""
    reply = await ask("DELETE", b"/_es_rerank/rules/a")
    assert reply.status == 405
    error: dict[str, Any] = json.loads(reply.body)["error"]
    assert error["reason"] == "method [DELETE] is not allowed here; allowed are [GET, PUT]"


async def test_what_the_engine_refuses_is_refused_in_its_words() -> None:
    """Where the engine refuses the caller, the caller gets its status, body and how to log in, and no stray header."""
    reply = await ask("POST", b"/_es_rerank/rules/a/_rollback")
    assert (reply.status, reply.body) == (401, b'{"status":401}')
    assert (b"WWW-Authenticate", b"Basic") in reply.headers
    assert all(name != b"date" for name, _ in reply.headers)
