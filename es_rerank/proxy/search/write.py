"""Writes an answer's bytes as the caller asked for them: `filter_path`, `pretty`, the status at its end. Pure.

In two steps, so that the status, which tells how long everything took, is made last: `start_body` does the work, and
`finish_body` adds the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.http.coding import packer_for
from es_rerank.proxy.search.filter_path import filter_answer
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.render import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from es_rerank.proxy.http.coding import Packer
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.status import SearchStatus

LONGEST_EMPTY = len(b"{ }\n")
PRETTY_END = b"\n}\n"
# How much longer than encoding an answer it takes to pack it, to print it, and to filter it by so many bytes of paths.
PACKING_COST = 4
PRINTING_COST = 4
FILTER_BYTES_OF_COST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedBody:
    """A JSON object that lacks its end: `packed` is what the packer has given so far. To be finished once.

    `empty` tells that the object has no member yet, `end` is what closes it if nothing is added.
    """

    packer: Packer
    packed: bytes
    empty: bool
    end: bytes


def writing_cost(body_bytes: int, call: SearchCall, coding: bytes | None) -> int:
    """How much there is to compute for a body of at most so many bytes, in bytes of one that is only encoded."""
    packing = PACKING_COST if coding else 0
    printing = PRINTING_COST if call.flag("pretty") else 0
    return body_bytes * (1 + packing + printing + len(call.filter_path) // FILTER_BYTES_OF_COST)


def start_body(members: Mapping[str, Any], call: SearchCall, coding: bytes | None) -> StartedBody:
    """All of an answer but its end, in the content coding that the engine chose for its own."""
    written = _written({name: value for name, value in members.items() if name != BLOCK}, call)
    empty = len(written) <= LONGEST_EMPTY
    end = written if empty else PRETTY_END if written.endswith(PRETTY_END) else b"}"
    packer = packer_for(coding)
    packed = packer.compress(memoryview(written)[: len(written) - len(end)])
    return StartedBody(packer=packer, packed=packed, empty=empty, end=end)


def finish_body(started: StartedBody, call: SearchCall, status: SearchStatus, include: AbstractSet[str]) -> bytes:
    """The whole body; the status is its last member if it was asked for and the filter leaves anything of it."""
    end = started.end
    if "status" in include:
        block = _written({BLOCK: status.block()}, call)
        if len(block) > LONGEST_EMPTY:
            end = block if started.empty else b"," + block[1:]
    return end_body(started, end)


def end_body(started: StartedBody, end: bytes | None = None) -> bytes:
    """The whole body with this end; without one, with the end that adds nothing."""
    packer = started.packer
    return b"".join((started.packed, packer.compress(started.end if end is None else end), packer.flush()))


def _written(members: Mapping[str, Any], call: SearchCall) -> bytes:
    """An object as `filter_path` and `pretty` want it."""
    body = msgspec.json.encode(members)
    if call.filter_path:
        body = filter_answer(body, call.filter_path)
    return pretty_print(body) if call.flag("pretty") else body
