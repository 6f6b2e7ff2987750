"""One search as a value: what it asks, in whatever form it came. Knows the engines' request forms, but not rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.carrier import JSON_TYPE, BodyCarrier, SourceCarrier
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.rawjson import read_object
from es_rerank.records import LongBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.search.carrier import Carrier
    from es_rerank.records import Request

# A caller may make it as long as a head, and ten thousand log lines and events may wait.
MAX_OPAQUE_ID_BYTES = 256
PipelineWork = Literal["none", "first_stage", "rerank", "other"]
"""What the engine's search pipeline does: nothing, or there is none; a part of the first stage; reranking and nothing
else; or something that we can't stand in for, or don't know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall:
    """One search as asked.

    `expression` is the decoded index expression, '' if none is named. With `in_point`, a point in time is named in its
    place,
    and the expression is what that is known to be of, '' for nothing.
    `body` is the JSON text, inflated, b'' if there is none. `search` is the object in it, {} for no body. It is None if
    the body can't be read as an object (see `read_object`), has another media type or an unknown coding, or is too
    large to hold; then `head` is its beginning.
    `parameters` are the decoded URL parameters; if one comes twice, the last counts, as in the engines.
    `pipeline` is what the search pipeline does that the search goes through, None where nobody needs to know.
    """

    carrier: Carrier
    expression: str
    parameters: Mapping[str, str]
    body: bytes
    search: dict[str, Any] | None
    head: bytes = b""
    in_point: bool = False
    pipeline: PipelineWork | None = None

    @property
    def held(self) -> bool:
        """Whether the whole request is in memory, so that it can be sent more than once."""
        return isinstance(self.carrier.request.body, bytes | None)

    @property
    def no_room(self) -> bool:
        """Whether the body was not held only because memory was full."""
        body = self.carrier.request.body
        return isinstance(body, LongBody) and body.no_room

    @property
    def point_id(self) -> str | None:
        """The id of the point in time that is searched, None where the body has none that can be read."""
        point = (self.search or {}).get("pit")
        named = point.get("id") if isinstance(point, dict) else None
        return named if isinstance(named, str) else None

    @property
    def filter_path(self) -> str:
        """The client's filter, '' for none. A filter without any path changes nothing, so it is '' too."""
        return self.parameters.get("filter_path", "").strip(" ,")

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header of the request, its name compared without case."""
        return self.carrier.request.header(name)

    def flag(self, name: str) -> bool:
        """Whether a boolean URL parameter is on: `?pretty` and `?pretty=true` are."""
        return self.parameters.get(name, "false") in ("", "true")

    def with_body(self, body: bytes, search: dict[str, Any]) -> SearchCall:
        """The same call with another body, whose object is `search`."""
        return replace(self, carrier=self.carrier.carrying(body), body=body, search=search)

    def without_header(self, name: bytes) -> SearchCall:
        """The same call without a header."""
        return replace(self, carrier=self.carrier.without_header(name))


def opaque_id(request: Request) -> str | None:
    """The beginning of the caller's `X-Opaque-Id`, None for none."""
    value = request.header(b"x-opaque-id")
    return None if value is None else value[:MAX_OPAQUE_ID_BYTES].decode("latin-1")


def read_call(request: Request, expression: str, *, max_bytes: int) -> SearchCall:
    """The call of a search request whose body was read. Never fails: what can't be read has `search` None."""
    parameters = parse_query(request.query_string)
    carrier: Carrier = BodyCarrier(request)
    body = head = b""
    readable = True
    if request.body is not None and not isinstance(request.body, bytes):
        head = request.body.head if isinstance(request.body, LongBody) else b""
        readable = False
    elif request.body:
        try:
            body = decode_body(request.body, request.header(b"content-encoding"), max_bytes=max_bytes)
        except UnreadableBodyError as error:
            head = error.head
            readable = False
        media_type = (request.header(b"content-type") or b"").decode("latin-1")
        readable = readable and JSON_TYPE.match(media_type) is not None
    elif "source" in parameters:
        carrier = SourceCarrier(request)
        body = parameters["source"].encode("utf-8", "replace")
        readable = JSON_TYPE.match(parameters.get("source_content_type", "application/json")) is not None
    search: dict[str, Any] | None = {}
    if not readable:
        search = None
    elif body.strip():
        search = read_object(body)
    return SearchCall(
        carrier=carrier, expression=expression, parameters=parameters, body=body, search=search, head=head
    )
