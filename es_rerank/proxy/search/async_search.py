"""An async search as it was asked, without who asked it, and the plain search that finds its window. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.search.call import SearchCall, read_call
from es_rerank.proxy.search.carrier import BodyCarrier
from es_rerank.proxy.search.endpoint import ASYNC_END
from es_rerank.proxy.search.query_string import edit_query, parse_query
from es_rerank.rawjson import edit_object
from es_rerank.records import Request, without_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.records import Headers

# What `_search` does not know, and what shapes no hit.
DROPPED_PARAMETERS = frozenset(
    {
        "wait_for_completion_timeout", "keep_on_completion", "keep_alive",
        "source", "source_content_type", "filter_path", "pretty", "human", "error_trace", "typed_keys",
        "track_total_hits", "rest_total_hits_as_int",
        "suggest_field", "suggest_mode", "suggest_size", "suggest_text",
    }
)  # fmt: skip
DROPPED_KEYS: Mapping[str, None] = dict.fromkeys(("aggs", "aggregations", "suggest", "profile", "track_total_hits"))
OF_THE_BODY = (b"content-encoding", b"content-length", b"transfer-encoding", b"expect", b"accept-encoding")
COMPATIBLE = re.compile(rb"application/vnd\.(elasticsearch|opensearch)\+json[^,]*", re.IGNORECASE)
JSON = b"application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncSearch:
    """What an async search asked: where, what, and what of es-rerank. Nothing here says who asked it.

    `target` is that of its submit, `body` its JSON text, inflated, b'' for none. `asked` are its wishes, unchecked.
    """

    target: bytes
    expression: str
    body: bytes
    asked: Mapping[str, Any]

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes."""
        return len(self.target) + len(self.expression) + len(self.body)

    def as_call(self, headers: Headers) -> SearchCall:
        """The search as one with these headers would ask it now."""
        kept = without_headers(headers, b"content-type", *OF_THE_BODY)
        accept = next((value for name, value in kept if name.lower() == b"accept"), b"").strip()
        # Elasticsearch refuses a body whose type names another version than Accept does.
        media_type = accept if COMPATIBLE.fullmatch(accept) else JSON
        headers = (*kept, (b"content-type", media_type))
        target = edit_query(self.target, drop={"source", "source_content_type"}, add={})
        request = Request(method="POST", target=target, headers=headers, body=self.body or None)
        return read_call(request, self.expression, max_bytes=len(self.body))


def asked_by(call: SearchCall, asked: Mapping[str, Any]) -> AsyncSearch:
    """What is remembered of a submitted search, from which its wishes were taken."""
    return AsyncSearch(target=call.carrier.request.target, expression=call.expression, body=call.body, asked=asked)


def window_call(call: SearchCall, *, filtered: bool) -> SearchCall:
    """The plain search with the same hits as an async one, on the same indices, under the same headers.

    What shapes no hit is left out: aggregations, suggestions, the profile, the count of all hits. `filtered` says that
    the answer whose hits are replaced was filtered: then these hits have to be, see `Carrier.asking`.
    """
    request = call.carrier.request
    target = ASYNC_END.sub(b"_search", request.path) + request.target[len(request.path) :]
    kept = {"filter_path": "**"} if filtered else {}
    target = edit_query(target, drop=set(DROPPED_PARAMETERS), add={**kept, "track_total_hits": "false"})
    search = {key: value for key, value in (call.search or {}).items() if key not in DROPPED_KEYS}
    body = edit_object(call.body, DROPPED_KEYS) if call.body else b""
    headers = without_headers(request.headers, *OF_THE_BODY)
    if not isinstance(request.body, bytes) and body:  # it came in the URL
        headers = (*without_headers(headers, b"content-type"), (b"content-type", JSON))
    request = Request(method="POST", target=target, headers=headers, body=body or None)
    parameters = parse_query(request.query_string)
    return replace(call, carrier=BodyCarrier(request), parameters=parameters, body=body, search=search)
