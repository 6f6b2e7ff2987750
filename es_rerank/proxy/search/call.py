"""One search as a value: what it asks, in whatever form it came. Knows the engines' request forms, but not rules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.carrier import JSON_TYPE, BodyCarrier, SourceCarrier
from es_rerank.proxy.search.query_string import is_on, parse_query
from es_rerank.rawjson import RAW_OBJECT, edit_object, read_object
from es_rerank.records import LongBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.search.carrier import Carrier
    from es_rerank.proxy.search.similarity import Similarity
    from es_rerank.records import Request

# Of the URL's parameters, those that say how an answer is written.
WRITING = ("filter_path", "pretty", "format")
# What a search template's URL may say besides. The engines take a search's own parameters there too (`q`, `size` and
# the like), but the search that is made takes the place of all they say (measured on OpenSearch 2.19).
BESIDE_TEMPLATE = (*WRITING, "scroll", "search_pipeline")
# A caller may make it as long as a head, and ten thousand log lines and events may wait.
MAX_OPAQUE_ID_BYTES = 256
PipelineWork = Literal["none", "first_stage", "rerank", "other"]
"""What the engine's search pipeline does: nothing, or there is none; a part of the first stage; reranking and nothing
else; or something that we can't stand in for, or don't know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall:
    """One search as asked.

    `expression` is the decoded index expression, '' if none is named. With `in_point`, a point in time is named in its
    place, and the expression is what that is known to be of, '' for nothing.
    `body` is the JSON text, inflated, b'' if there is none. `search` is the object in it, {} for no body. It is None if
    the body can't be read as an object (see `read_object`), has another media type or an unknown coding, or is too
    large to hold; then `head` is its beginning.
    `similarity` is what a `text_similarity_reranker` asks of us that was taken off the search, None for none.
    `parameters` are the decoded URL parameters; if one comes twice, the last counts, as in the engines.

    `template` says that the body asks the engine to make the search of a template, which has not happened yet. Such a
    call, and the search that is made of it, have those `parameters` only that mean something to both. `wishes` is what
    was asked of es-rerank beside the body, by what the search was made of.
    `pipeline` is what the search pipeline does that the search goes through, None where nobody needs to know.
    """

    carrier: Carrier
    expression: str
    parameters: Mapping[str, str]
    body: bytes
    search: dict[str, Any] | None
    head: bytes = b""
    in_point: bool = False
    template: bool = False
    wishes: Mapping[str, Any] = field(default_factory=dict)
    similarity: Similarity | None = None
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
        """Whether a boolean URL parameter is on."""
        return is_on(self.parameters, name)

    def with_body(self, body: bytes, search: dict[str, Any]) -> SearchCall:
        """The same call with another body, whose object is `search`."""
        return replace(self, carrier=self.carrier.carrying(body), body=body, search=search)

    def on_page(self, start: int, size: int) -> SearchCall:
        """The same call for another page."""
        page = {"from": str(start), "size": str(size)}
        return replace(self, carrier=self.carrier.on_page(start, size), parameters={**self.parameters, **page})

    def without_ext(self, key: str) -> SearchCall:
        """The same call without a key of `ext`, which its body has; without `ext` if nothing else is in it."""
        search = self.search or {}
        others = RAW_OBJECT.decode(RAW_OBJECT.decode(self.body)["ext"])
        del others[key]
        left = {name: value for name, value in search.items() if name != "ext"}
        if others:
            left["ext"] = {name: value for name, value in search["ext"].items() if name != key}
        return self.with_body(edit_object(self.body, {"ext": others or None}), left)

    def without_header(self, name: bytes) -> SearchCall:
        """The same call without a header."""
        return replace(self, carrier=self.carrier.without_header(name))


def opaque_id(request: Request) -> str | None:
    """The beginning of the caller's `X-Opaque-Id`, None for none."""
    value = request.header(b"x-opaque-id")
    return None if value is None else value[:MAX_OPAQUE_ID_BYTES].decode("latin-1")


def read_call(request: Request, expression: str, *, max_bytes: int, template: bool = False) -> SearchCall:
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
    if template:
        parameters = {name: parameters[name] for name in BESIDE_TEMPLATE if name in parameters}
    return SearchCall(
        carrier=carrier,
        expression=expression,
        parameters=parameters,
        body=body,
        search=search,
        head=head,
        template=template,
    )
