"""A request's body is read whole and held once, or refused with what is wrong."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, cast

import pytest

from es_rerank.errors import CallerError
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.own.call import OwnCall
from es_rerank.proxy.steps import read_whole
from es_rerank.records import LongBody, Request
from es_rerank.tables import LimitSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.proxy.parts import Parts

MOST = 2000
ROOM = 500
TEXT = b"x" * 400
NO_ROOM = CallerError("come back", status=429)


class FakeParts:
    """As much of the parts as reading needs."""

    limits = LimitSettings(max_request_bytes=MOST)


PARTS = cast("Parts", FakeParts())


async def nothing_more() -> AsyncIterator[bytes]:
    """The rest of a stream, which nobody reads."""
    return
    yield


def long(*, no_room: bool) -> LongBody:
    """A body that was not read to its end."""
    return LongBody(b"x", nothing_more(), on_head_sent=lambda: None, no_room=no_room)


def asked(body: bytes | AsyncIterator[bytes] | None, coding: bytes | None = None) -> Request:
    """A request with this body."""
    headers = () if coding is None else ((b"content-encoding", coding),)
    return Request(method="POST", target=b"/_es_rerank/sweeps", headers=headers, body=body)


WRONG = [
    (asked(long(no_room=False)), 413, f"longer than limits.max_request_bytes = {MOST}"),
    (asked(nothing_more()), 413, f"longer than limits.max_request_bytes = {MOST}"),
    (asked(gzip.compress(b"x" * (MOST + 1)), b"gzip"), 413, f"longer than limits.max_request_bytes = {MOST}"),
    (asked(b"x", b"gzip"), 400, "the body can't be read: "),
    (asked(TEXT, b"br"), 400, "the body can't be read: "),
    (asked(long(no_room=True)), None, ""),
    (asked(gzip.compress(b"x" * (ROOM + 1)), b"gzip"), None, ""),
]


@pytest.mark.parametrize(("request_", "status", "said"), WRONG)
async def test_a_body_that_can_t_be_had_is_refused(request_: Request, status: int | None, said: str) -> None:
    """413, 400, or, where memory is full, the error that the caller of this step has for it."""
    with MemoryBudget(ROOM).share() as share, pytest.raises(CallerError, match=said or str(NO_ROOM)) as raised:
        await read_whole(request_, PARTS, share, no_room=NO_ROOM)
    assert (raised.value is NO_ROOM, raised.value.status) == (status is None, status or 429)


@pytest.mark.parametrize(("request_", "status", "said"), WRONG)
async def test_below_our_path_a_full_memory_is_not_the_caller_s_fault(
    request_: Request, status: int | None, said: str
) -> None:
    """It is a 503 in the words that searches have for it; what is wrong with the body itself stays 413 or 400."""
    with MemoryBudget(ROOM).share() as share:
        call = OwnCall(request=request_, names={}, parameters={}, parts=PARTS, share=share)
        with pytest.raises(CallerError, match=said or r"limits\.max_held_bytes are held: try again") as raised:
            await call.json_object()
    assert raised.value.status == (status or 503)


@pytest.mark.parametrize(
    ("body", "coding", "held"),
    [(TEXT, None, 0), (gzip.compress(TEXT), b"gzip", len(TEXT)), (zlib.compress(TEXT), b"deflate", len(TEXT))],
)
async def test_what_was_inflated_is_held_beside_what_came(body: bytes, coding: bytes | None, held: int) -> None:
    """It is taken from the memory for bodies until the request ends; a plain body is held already."""
    with MemoryBudget(ROOM).share() as share:
        assert await read_whole(asked(body, coding), PARTS, share, no_room=NO_ROOM) == TEXT
        assert share.held_bytes == held
        assert await read_whole(asked(None), PARTS, share, no_room=NO_ROOM) is None
