"""Remembers for which indices points in time were opened, as openings and searches pass through this process.

A search in a point in time names no index, so this says which rule holds for it. Kept in memory alone: another proxy
does not know of it, and nor does this one after a restart. Then `ext.es_rerank.rule` names the rule.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.query_string import decode, parse_query
from es_rerank.rawjson import read_object
from es_rerank.records import first_header
from es_rerank.rules.book import may_cover
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.clock import Clock
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.records import Headers, Request
    from es_rerank.rules.book import RuleBook

# Elasticsearch's, whose index may stand in the URL's parameters too, and OpenSearch's.
OPENING = re.compile(rb"^/(?:([^/_][^/]*|_all)/)?_pit/*$|^/([^/_][^/]*|_all)/_search/point_in_time/*$")
CLOSING = re.compile(rb"^/(?:_pit|_search/point_in_time)/*$")
# By engine: how an opening's answer, an answer to a search, and a closing name ids.
ID_KEYS = ("id", "pit_id")
# Longer answers are not looked at. An id has about 140 bytes for each shard.
MAX_ANSWER_BYTES = 256 * 1024
MAX_POINTS = 16_384
# As long as both engines keep a point in time at most after its last search, unless configured.
KEPT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Opened:
    """An index expression, and until when it is remembered."""

    expression: str
    until_s: float


class Points:
    """By point in time: the index expression that it was opened for. Changed in one event loop only.

    Each is kept for KEPT_S from its opening or its last search. At most MAX_POINTS are; the one that was used longest
    ago makes room. What is kept of an id is a hash, since whoever has an id may search with it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opened: dict[bytes, _Opened] = {}

    def find(self, point_id: str) -> str:
        """The index expression of a point in time, '' where it is not known."""
        opened = self._opened.get(_key(point_id))
        return opened.expression if opened is not None and opened.until_s > self._clock.monotonic_s() else ""

    def remember(self, point_id: str, expression: str) -> None:
        """A point in time is open for these indices."""
        if not expression or len(expression) > MAX_EXPRESSION_CHARACTERS:
            return
        self.forget(point_id)
        if len(self._opened) >= MAX_POINTS:
            del self._opened[next(iter(self._opened))]
        self._opened[_key(point_id)] = _Opened(expression, self._clock.monotonic_s() + KEPT_S)

    def forget(self, point_id: str) -> None:
        """A point in time is closed."""
        self._opened.pop(_key(point_id), None)

    def located(self, call: SearchCall, asked: Mapping[str, Any], book: RuleBook) -> SearchCall:
        """The call, with the index expression of the point in time that it names instead of indices.

        If it asks for a rule by name, these are all indices of that rule, so that all proxies see the same.
        """
        point_id = call.point_id
        if point_id is None or call.expression:
            return call
        named = book.named(asked.get("rule"))
        expression = self.find(point_id) if named is None else ",".join(named.rule.indices)
        return replace(call, expression=expression, in_point=True)

    def follow(self, call: SearchCall, answer: Mapping[str, msgspec.Raw]) -> None:
        """The engine answered a search in a point in time: with its id from now on, which may be a new one."""
        expression = "" if call.point_id is None else self.find(call.point_id)
        if expression and call.in_point:
            for point_id in _ids_in({key: _value(answer[key]) for key in ID_KEYS if key in answer}):
                self.remember(point_id, expression)

    def note_answer(self, request: Request, headers: Headers, body: bytes, book: RuleBook) -> None:
        """The engine answered with 200 to a request that opens or closes points in time."""
        if request.method == "DELETE":
            for point_id in _ids_in(_read(request.headers, request.body)):
                self.forget(point_id)
            return
        expression = _opened_expression(request)
        if may_cover(book, expression):
            for point_id in _ids_in(_read(headers, body)):
                self.remember(point_id, expression)


def has_point(request: Request) -> bool:
    """Whether the bytes of a request's body may name a point in time; one that hides its text is not looked at."""
    return isinstance(request.body, bytes) and b'"pit"' in request.body


def are_searched(book: RuleBook) -> bool:
    """Whether some rule holds for searches in a point in time."""
    return any(bound.rule.pit for bound in book.rules)


def changes_points(request: Request) -> bool:
    """Whether a request opens or closes points in time."""
    if request.method == "DELETE":
        return CLOSING.match(request.path) is not None
    return request.method == "POST" and OPENING.match(request.path) is not None


def _opened_expression(request: Request) -> str:
    found = OPENING.match(request.path)
    named = found and (found[1] or found[2])
    return decode(named, plus=False) if named else parse_query(request.query_string).get("index", "")


def _read(headers: Headers, body: object) -> Mapping[str, Any]:
    """The object in a body; {} for none, and for one that can't be read."""
    if not isinstance(body, bytes):
        return {}
    try:
        text = decode_body(body, first_header(headers, b"content-encoding"), max_bytes=MAX_ANSWER_BYTES)
    except UnreadableBodyError:
        return {}
    return read_object(text) or {}


def _value(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except ValueError:
        return None


def _ids_in(members: Mapping[str, Any]) -> list[str]:
    """The ids that an object names, one or a list of them."""
    given = [members[key] for key in ID_KEYS if key in members]
    return [one for value in given for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _key(point_id: str) -> bytes:
    return hashlib.blake2b(point_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
