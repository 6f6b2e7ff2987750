"""The searches of an `_msearch`, each as a call of its own, and the way back to one request for all. Pure.

The body is lines: a header line (which indices, how to search) and a line with the search, for each search, each line
with its end. Only a search that is reranked is written anew; the lines of all others keep their bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.call import WRITING, SearchCall
from es_rerank.proxy.search.carrier import asked_readably
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.rawjson import RAW_LIST, edit_object, open_object, read_object
from es_rerank.records import LongBody, without_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import msgspec

    from es_rerank.rawjson import RawObject
    from es_rerank.reasons import Reason
    from es_rerank.records import Request

LINES_TYPE = re.compile(
    r"^application/(x-ndjson|json|vnd\.(elasticsearch|opensearch)\+(x-ndjson|json))\s*(;|$)", re.IGNORECASE
)
# A search is three bytes at least: a body of millions would take seconds to be read.
MAX_SEARCHES = 2048
# Either key names the indices.
INDEX_KEYS = ("index", "indices")


@dataclass(frozen=True, slots=True)
class ItemCarrier:
    """One search among many: its header line and its own line, without their ends. See `Carrier`.

    `whole` is the client's request, whose body is left out of account. `request` is the same with this search alone.
    """

    whole: Request
    header_line: bytes
    search_line: bytes

    @property
    def request(self) -> Request:
        """See `Carrier`."""
        return replace(self.whole, body=b"%b\n%b\n" % (self.header_line, self.search_line))

    def carrying(self, body: bytes) -> Self:
        """See `Carrier`."""
        return replace(self, search_line=body)

    def without_header(self, name: bytes) -> Self:
        """See `Carrier`."""
        return replace(self, whole=replace(self.whole, headers=without_headers(self.whole.headers, name)))

    def on_page(self, start: int, size: int) -> Self:
        """See `Carrier`."""
        return self.carrying(edit_object(self.search_line, {"from": start, "size": size}))

    def without_parameter(self, name: str) -> Self:
        """See `Carrier`."""
        header = _header_of(self.header_line) or {}
        return replace(self, header_line=edit_object(self.header_line, {name: None})) if name in header else self

    def asking(self, *, first: int | None, filtered: bool, source: Mapping[str, str] | None = None) -> Request:
        """See `Carrier`. The page, and what is shown of `_source`, are asked for in the search's own line."""
        changes: dict[str, Any] = {} if first is None else {"from": 0, "size": first}
        if source is not None:
            changes["_source"] = source_in_body(source)
        line = edit_object(self.search_line, changes) if changes else self.search_line
        return asked_readably(self.carrying(line).request, drop=set(), add={}, filtered=filtered)


def named_expressions(body: object, expression: str) -> Iterable[str]:
    """The index expressions of all searches in a body, each once, without reading more than the header lines.

    There is none in a body that is no bytes, or whose lines are not read.
    """
    lines = split_lines(body) if isinstance(body, bytes) else None
    for line in dict.fromkeys((lines or [])[::2]):
        named = _named_in(line, expression)
        if named is not None:
            yield named


def split_lines(body: bytes) -> list[bytes] | None:
    """The lines, without their ends: a header line and a search by turns. None where it is the engine's to judge.

    So it is if the last line has no end, or no partner, and if there are more than MAX_SEARCHES. An empty line at the
    very beginning is a header line for Elasticsearch, and nothing at all for OpenSearch.
    """
    if body[:1] == b"\n" or body[-1:] != b"\n" or body.count(b"\n") > 2 * MAX_SEARCHES:
        return None
    lines = body[:-1].split(b"\n")
    return None if len(lines) % 2 else lines


def read_many(
    request: Request, expression: str, *, max_bytes: int, template: bool = False
) -> tuple[bytes, list[SearchCall]] | Reason:
    """The body, inflated, and its searches in order, templates or not; or why they can't be read.

    A search whose header line or own line can't be read has `search` None.
    """
    if not isinstance(request.body, bytes):
        no_room = isinstance(request.body, LongBody) and request.body.no_room
        return "memory_full" if no_room else "unreadable_body" if request.body is None else "body_too_large"
    media_type = (request.header(b"content-type") or b"").decode("latin-1")
    if LINES_TYPE.match(media_type) is None:
        return "unreadable_body"
    try:
        body = decode_body(request.body, request.header(b"content-encoding"), max_bytes=max_bytes)
    except UnreadableBodyError as error:
        return "body_too_large" if error.head else "unreadable_body"
    lines = split_lines(body)
    if lines is None:
        return "unreadable_body"
    whole = replace(
        request, body=None, headers=without_headers(request.headers, b"content-encoding", b"content-length")
    )
    given = parse_query(request.query_string)  # those for writing aside, they are for the engine alone, or refused
    shared = {name: given[name] for name in WRITING if name in given}
    pairs = zip(lines[::2], lines[1::2], strict=True)
    calls = [_read_item(ItemCarrier(whole, header, search), expression, shared) for header, search in pairs]
    return body, [replace(call, template=template) for call in calls]


def joined(requests: Sequence[Request]) -> Request:
    """One request for the searches of all these, in order. There is at least one, and all else in them is equal."""
    return replace(requests[0], body=b"".join([one.body for one in requests if isinstance(one.body, bytes)]))


def read_responses(body: bytes) -> tuple[RawObject, list[msgspec.Raw]] | None:
    """The members of an engine's answer to an `_msearch`, and the answers in it, opened no further."""
    top = open_object(body)
    if top is None or "responses" not in top:
        return None
    try:
        return top, RAW_LIST.decode(top["responses"])
    except (ValueError, RecursionError):
        return None


def _read_item(carrier: ItemCarrier, expression: str, shared: Mapping[str, str]) -> SearchCall:
    named = _named_in(carrier.header_line, expression)
    header = _header_of(carrier.header_line) or {}
    pipeline = {"search_pipeline": str(header["search_pipeline"])} if "search_pipeline" in header else {}
    line = carrier.search_line
    search = None if named is None else read_object(line) if line.strip() else {}
    return SearchCall(
        carrier=carrier,
        expression=expression if named is None else named,
        parameters={**shared, **pipeline},
        body=line,
        search=search,
    )


def _named_in(line: bytes, expression: str) -> str | None:
    """The index expression of a search by its header line; None for a line that only the engine can judge."""
    header = _header_of(line)
    if header is None:
        return None
    given = [header[key] for key in INDEX_KEYS if key in header]
    if not given:
        return expression
    names = given[0] if isinstance(given[0], list) else [given[0]]
    return ",".join(names) if len(given) == 1 and all(isinstance(name, str) for name in names) else None


def _header_of(line: bytes) -> dict[str, Any] | None:
    return read_object(line) if line else {}


def source_in_body(source: Mapping[str, str]) -> Any:
    """`_source` for a body that says what these parameters say in a URL."""
    if source.get("_source") == "false":
        return False
    lists = {"includes": "_source_includes", "excludes": "_source_excludes"}
    return {key: source[name].split(",") for key, name in lists.items() if name in source}
