"""The carrier that a search comes in: how its body is replaced there, and how its window is asked for. Pure.

Both carriers here (many.py and template.py have others) ask for a page, and for a wider `_source`, in the URL, where it
wins over the body. So the body's bytes, and what is wrong with them, stay the client's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

from es_rerank.proxy.http.coding import readable_codings
from es_rerank.proxy.search.query_string import edit_query
from es_rerank.records import Request, without_headers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

JSON_TYPE = re.compile(r"^application/(json|vnd\.(elasticsearch|opensearch)\+json)\s*(;|$)", re.IGNORECASE)
ABOUT_THE_BODY = (
    b"accept", b"accept-encoding", b"content-encoding", b"content-length", b"content-type", b"expect",
    b"transfer-encoding",
)  # fmt: skip
JSON_HEADER = (b"content-type", b"application/json")
SOURCE_PARAMETERS = {"_source", "_source_includes", "_source_excludes"}


class Carrier(Protocol):
    """One search on its way to the engine."""

    @property
    def request(self) -> Request:
        """The client's own request, as it goes through unreranked."""
        ...

    def carrying(self, body: bytes) -> Self:
        """The same with another JSON body in it; it had one before."""
        ...

    def without_header(self, name: bytes) -> Self:
        """The same without a header (its name in lower case)."""
        ...

    def on_page(self, start: int, size: int) -> Self:
        """The same for another page."""
        ...

    def without_parameter(self, name: str) -> Self:
        """The same without a parameter of the request (of its URL, or of a header line)."""
        ...

    def asking(self, *, first: int | None, filtered: bool, source: Mapping[str, str] | None = None) -> Request:
        """The request for the first hits, as many as `first`; None is the client's own page.

        `source` are the parameters that take the place of the client's own for `_source`; None leaves those.

        The answer comes in a coding that we can read. `filtered` says that the client sent a filter. The engine then
        gets a filter that keeps everything: with any filter it rewrites the numbers and escapes of `_source`, and only
        the engine knows how.
        """
        ...


def asked_readably(request: Request, *, drop: AbstractSet[str], add: Mapping[str, str], filtered: bool) -> Request:
    """The request with other parameters, whose answer we can read. `filtered` is explained at `Carrier.asking`."""
    everything = {"filter_path": "**"} if filtered else {}
    target = edit_query(request.target, drop={"filter_path", *drop}, add={**everything, **add})
    return replace(readable(request), target=target)


def readable(request: Request) -> Request:
    """The request, whose answer comes in a coding that we can read."""
    accepted = readable_codings(request.header(b"accept-encoding"))
    if accepted is None:
        return request
    headers = without_headers(request.headers, b"accept-encoding")
    return replace(request, headers=(*headers, (b"accept-encoding", accepted)))


def asked_beside(request: Request, target: bytes, body: bytes | None = None) -> Request:
    """Another request of the same caller, with the headers of a search but for those about its body.

    It is a POST of this JSON body, or a GET if there is none. The answer comes in JSON, without a coding.
    """
    headers = (*without_headers(request.headers, *ABOUT_THE_BODY), (b"accept", b"application/json"))
    if body is None:
        return Request(method="GET", target=target, headers=headers)
    return Request(method="POST", target=target, headers=(*headers, JSON_HEADER), body=body)


@dataclass(frozen=True, slots=True)
class _RequestCarrier:
    """A search in a request of its own, whose page is asked for in the URL."""

    request: Request

    def without_header(self, name: bytes) -> Self:
        """See `Carrier`."""
        return replace(self, request=replace(self.request, headers=without_headers(self.request.headers, name)))

    def on_page(self, start: int, size: int) -> Self:
        """See `Carrier`."""
        page = {"from": str(start), "size": str(size)}
        target = edit_query(self.request.target, drop={*page}, add=page)
        return replace(self, request=replace(self.request, target=target))

    def without_parameter(self, name: str) -> Self:
        """See `Carrier`."""
        target = edit_query(self.request.target, drop={name}, add={})
        return replace(self, request=replace(self.request, target=target))

    def asking(self, *, first: int | None, filtered: bool, source: Mapping[str, str] | None = None) -> Request:
        """See `Carrier`."""
        page = {} if first is None else {"from": "0", "size": str(first)}
        shown = set() if source is None else SOURCE_PARAMETERS
        return asked_readably(self.request, drop={*page, *shown}, add={**page, **(source or {})}, filtered=filtered)


@dataclass(frozen=True, slots=True)
class BodyCarrier(_RequestCarrier):
    """A search in the body of a request, or in its URL alone."""

    def carrying(self, body: bytes) -> Self:
        """See `Carrier`. A content coding is dropped."""
        headers = without_headers(self.request.headers, b"content-encoding", b"content-length")
        return replace(self, request=replace(self.request, headers=headers, body=body))


@dataclass(frozen=True, slots=True)
class SourceCarrier(_RequestCarrier):
    """A search in the URL parameter `source`, for clients that can't send a body with GET."""

    def carrying(self, body: bytes) -> Self:
        """See `Carrier`."""
        target = edit_query(self.request.target, drop={"source"}, add={"source": body.decode()})
        return replace(self, request=replace(self.request, target=target))
