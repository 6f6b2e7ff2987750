"""Which of the engines' ways to search a request takes, and which indices its path names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from es_rerank.proxy.search.query_string import decode, parse_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.records import Request

# `http.max_initial_line_length` of both engines, unless configured.
MAX_TARGET_BYTES = 4096
# Both engines take any number of slashes at the end, and two at the beginning as the empty index expression.
INDICES = rb"^/(?:(/|[^/_][^/]*/|_all/))?"
PATH = re.compile(INDICES + rb"(_search|_msearch)(/template)?/*$")
# Elasticsearch's name, and OpenSearch's two.
ASYNC = rb"(?:_async_search|_(?:plugins|opendistro)/_asynchronous_search)"
ASYNC_END = re.compile(ASYNC + rb"/*$")
SUBMIT_PATH = re.compile(INDICES + ASYNC + rb"/*$")
RESULT_PATH = re.compile(rb"^/" + ASYNC + rb"/([^/]+)/*$")
SearchKind = Literal["one", "many", "template", "templates", "async", "async_result"]
KINDS: Mapping[bytes, SearchKind] = {
    b"_search": "one",
    b"_msearch": "many",
    b"_search/template": "template",
    b"_msearch/template": "templates",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A way to search. `expression` is the decoded index expression of the path, '' where it names none.

    `search_id` is that of the async search whose result is asked for, else ''.
    """

    kind: SearchKind
    expression: str
    search_id: str = ""

    @property
    def is_template(self) -> bool:
        """Whether the engine first makes the searches of templates."""
        return self.kind in ("template", "templates")

    @property
    def is_many(self) -> bool:
        """Whether the request may hold many searches, each with indices of its own."""
        return self.kind in ("many", "templates")


def endpoint_of(request: Request) -> Endpoint | None:
    """The way to search that a request takes, or None for any other request.

    It is None for a target longer than engines accept by default too: the engine refuses that one.
    """
    if request.method not in ("GET", "POST") or len(request.target) > MAX_TARGET_BYTES:
        return None
    found = PATH.match(request.path)
    if found is None:
        return _async_endpoint_of(request)
    return Endpoint(kind=KINDS[found[2] + (found[3] or b"")], expression=_named(request, found))


def _async_endpoint_of(request: Request) -> Endpoint | None:
    """The same for async searches: a POST submits one, a GET with an id asks for its result."""
    if request.method == "POST":
        found = SUBMIT_PATH.match(request.path)
        return None if found is None else Endpoint(kind="async", expression=_named(request, found))
    found = RESULT_PATH.match(request.path)
    if found is None:
        return None
    return Endpoint(kind="async_result", expression="", search_id=decode(found[1], plus=False))


def _named(request: Request, found: re.Match[bytes]) -> str:
    by_parameter = found[1] is None
    return parse_query(request.query_string).get("index", "") if by_parameter else decode(found[1][:-1], plus=False)
