"""Puts the proxy's address into what the engine says of its nodes, so that clients that look for nodes stay with us.

Clients that sniff ask where the nodes are, and then send their searches straight there.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.http.coding import UnreadableBodyError, packer_for
from es_rerank.proxy.offload import compute
from es_rerank.proxy.search.carrier import readable
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.query_string import is_on, parse_query
from es_rerank.proxy.search.write import PACKING_COST, PRINTING_COST
from es_rerank.proxy.steps import fetch
from es_rerank.rawjson import edit_object, open_object
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, NoRoomError

if TYPE_CHECKING:
    from es_rerank.memory import Share
    from es_rerank.proxy.parts import Parts
    from es_rerank.records import Request

# How much longer finding the addresses, printing and packing take than opening an answer.
EDITING_COST = 1 + PRINTING_COST + PACKING_COST
# The nodes info API: which nodes, what of them. Other answers below this path have no addresses.
PATH = re.compile(rb"/_nodes(?:/(?!(?:stats|usage|hot_?threads)(?:/|\Z))[^/]+){0,2}/*")


def asks_for_nodes(request: Request) -> bool:
    """Whether the answer may tell where the engine's nodes can be reached."""
    return request.method == "GET" and request.body is None and PATH.fullmatch(request.path) is not None


async def answer_nodes(request: Request, address: str, parts: Parts, share: Share) -> Reply | None:
    """The engine's answer, in which every node is published at `address`; None where it can't be held or read.

    Nothing else is changed: not `bound_address`, which no client connects to, nor what nodes say to each other. What is
    not JSON, and an error, is answered as it came. Raises UpstreamError.
    """
    try:
        reply, body = await fetch(readable(request), parts, share)
    except (AnswerTooLargeError, NoRoomError, UnreadableBodyError):
        return None
    pretty = is_on(parse_query(request.query_string), "pretty")
    return await compute(EDITING_COST * len(body), _edited, reply, body, address, pretty=pretty)


def _edited(reply: Reply, body: bytes, address: str, *, pretty: bool) -> Reply:
    """The reply, with the address in its unpacked `body`, packed as it was; itself where no node has one."""
    edited = with_address(body, address)
    if edited is None:
        return reply
    packer = packer_for(first_header(reply.headers, b"content-encoding"))
    packed = packer.compress(pretty_print(edited) if pretty else edited) + packer.flush()
    headers = (*without_headers(reply.headers, b"content-length"), (b"content-length", b"%d" % len(packed)))
    return replace(reply, headers=headers, body=packed)


def with_address(body: bytes, address: str) -> bytes | None:
    """What is said of nodes, with this address as `nodes.*.http.publish_address`; None where no node has one."""
    nodes = _opened(body, "nodes")
    changed: dict[str, Any] = {}
    for name, node in nodes.items():
        http = (open_object(node) or {}).get("http")
        if http is not None and "publish_address" in (open_object(http) or {}):
            published = msgspec.Raw(edit_object(bytes(http), {"publish_address": address}))
            changed[name] = msgspec.Raw(edit_object(bytes(node), {"http": published}))
    if not changed:
        return None
    return edit_object(body, {"nodes": {**nodes, **changed}})


def _opened(body: bytes, name: str) -> dict[str, Any]:
    """The members of a member of an object; {} where there is no such object."""
    raw = (open_object(body) or {}).get(name)
    return {} if raw is None else open_object(raw) or {}
