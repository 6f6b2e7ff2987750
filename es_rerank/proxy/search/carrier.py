"""The carrier that a search comes in: how its body is replaced there, and how its window is asked for. Pure.

Both carriers ask for a page in the URL, where it wins over the body. So the body's bytes stay the client's own, and
the engine's request cache still knows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

from es_rerank.proxy.http.coding import readable_codings
from es_rerank.proxy.search.query_string import edit_query
from es_rerank.records import first_header, without_headers

if TYPE_CHECKING:
    from es_rerank.records import Headers, Request

JSON_TYPE = re.compile(r"^application/(json|vnd\.(elasticsearch|opensearch)\+json)\s*(;|$)", re.IGNORECASE)


class Carrier(Protocol):
    """One search on its way to the engine."""

    @property
    def request(self) -> Request:
        """The client's own request, as it goes through unreranked."""
        ...

    def carrying(self, body: bytes) -> Self:
        """The same with another JSON body in it."""
        ...

    def without_header(self, name: bytes) -> Self:
        """The same without a header (its name in lower case)."""
        ...

    def asking(self, *, first: int | None, filtered: bool) -> Request:
        """The request for the first hits, as many as `first`; None is the client's own page.

        The answer comes in a coding that we can read. `filtered` says that the client sent a filter. The engine then
        gets a filter that keeps everything: with any filter it rewrites the numbers and escapes of `_source`, and only
        the engine knows how.
        """
        ...


@dataclass(frozen=True, slots=True)
class _RequestCarrier:
    """A search in a request of its own, whose page is asked for in the URL."""

    request: Request

    def without_header(self, name: bytes) -> Self:
        """See `Carrier`."""
        return replace(self, request=replace(self.request, headers=without_headers(self.request.headers, name)))

    def asking(self, *, first: int | None, filtered: bool) -> Request:
        """See `Carrier`."""
        request = self.request
        page = {} if first is None else {"from": "0", "size": str(first)}
        everything = {"filter_path": "**"} if filtered else {}
        target = edit_query(request.target, drop={"filter_path", *page}, add={**everything, **page})
        accepted = readable_codings(request.header(b"accept-encoding"))
        headers = without_headers(request.headers, b"accept-encoding")
        return replace(
            request, target=target, headers=headers if accepted is None else (*headers, (b"accept-encoding", accepted))
        )


@dataclass(frozen=True, slots=True)
class BodyCarrier(_RequestCarrier):
    """A search in the body of a request, or in its URL alone."""

    def carrying(self, body: bytes) -> Self:
        """See `Carrier`. A content coding is dropped."""
        headers = without_headers(self.request.headers, b"content-encoding", b"content-length")
        # Some clients name a media type although they send no body: aiohttp's default, for example.
        if JSON_TYPE.match((self.request.header(b"content-type") or b"").decode("latin-1")) is None:
            headers = (*without_headers(headers, b"content-type"), (b"content-type", _json_type_for(headers)))
        return replace(self, request=replace(self.request, headers=headers, body=body))


@dataclass(frozen=True, slots=True)
class SourceCarrier(_RequestCarrier):
    """A search in the URL parameter `source`, for clients that can't send a body with GET."""

    def carrying(self, body: bytes) -> Self:
        """See `Carrier`."""
        target = edit_query(self.request.target, drop={"source"}, add={"source": body.decode()})
        return replace(self, request=replace(self.request, target=target))


def _json_type_for(headers: Headers) -> bytes:
    """The media type for a body that we add: the engine wants the same version there as in Accept."""
    accept = first_header(headers, b"accept") or b""
    return accept if b"," not in accept and JSON_TYPE.match(accept.decode("latin-1")) else b"application/json"
