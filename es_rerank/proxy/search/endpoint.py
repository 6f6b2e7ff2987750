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
PATH = re.compile(rb"^/(?:(/|[^/_][^/]*/|_all/))?(_search|_msearch)/*$")
SearchKind = Literal["one", "many"]
KINDS: Mapping[bytes, SearchKind] = {b"_search": "one", b"_msearch": "many"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A way to search. `expression` is the decoded index expression of the path, '' where it names none."""

    kind: SearchKind
    expression: str


def endpoint_of(request: Request) -> Endpoint | None:
    """The way to search that a request takes, or None for any other request.

    It is None for a target longer than engines accept by default too: the engine refuses that one.
    """
    if request.method not in ("GET", "POST") or len(request.target) > MAX_TARGET_BYTES:
        return None
    found = PATH.match(request.path)
    if found is None:
        return None
    by_parameter = found[1] is None
    named = parse_query(request.query_string).get("index", "") if by_parameter else decode(found[1][:-1], plus=False)
    return Endpoint(kind=KINDS[found[2]], expression=named)
