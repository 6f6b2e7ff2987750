"""Frozen values that cross from one folder to another. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, repeated ones included, as they were on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request as it reached us.

    `target` is the raw request target, path and query string, never decoded or normalised. `body` is None where the
    request has none, bytes where it was read, or a stream that can be read once.
    """

    method: str
    target: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None = None

    @property
    def path(self) -> bytes:
        """The raw path: the target up to its first question mark."""
        return self.target.partition(b"?")[0]

    @property
    def query_string(self) -> bytes:
        """The raw query string, without its question mark."""
        return self.target.partition(b"?")[2]

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, its name compared without case."""
        return first_header(self.headers, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One HTTP answer, complete."""

    status: int
    headers: Headers
    body: bytes


class LongBody:
    """A stream of a body that is too long to hold: its `head`, which was read already, and then the rest.

    `on_head_sent` is called when the next part is asked for, so when nobody holds the head any more. `no_room` says
    that the length is not the cause: the memory for all bodies together is full.
    """

    def __init__(
        self, head: bytes, rest: AsyncIterator[bytes], *, on_head_sent: Callable[[], None], no_room: bool = False
    ) -> None:
        self.head = head
        self.no_room = no_room
        self._rest = rest
        self._on_head_sent = on_head_sent

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The stream itself: it can be read once."""
        return self

    async def __anext__(self) -> bytes:
        """The next part."""
        if self.head:
            head, self.head = self.head, b""
            return head
        self._on_head_sent()
        return await anext(self._rest)


def first_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header, its name compared without case."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def without_headers(headers: Headers, *names: bytes) -> Headers:
    """The headers without those of these (lower-case) names."""
    return tuple((key, value) for key, value in headers if key.lower() not in names)
