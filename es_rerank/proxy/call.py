"""A `_search` call as a value: its target, its parameters and its parsed body.

Knows the engine's request forms (body, `source` parameter, URL parameters) and nothing of rules.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_plus

import msgspec

from es_rerank.proxy.coding import UnreadableBodyError, decode_body
from es_rerank.records import Request, first_header, without_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.records import Headers

# `http.max_initial_line_length` of both engines, unless configured.
MAX_TARGET_BYTES = 4096
SEARCH_PATH = re.compile(rb"^/(?:([^/_][^/]*|_all)/)?_search/?$")
JSON_TYPE = re.compile(r"^application/(json|vnd\.(elasticsearch|opensearch)\+json)\s*(;|$)", re.IGNORECASE)
# The engines end a parameter at a semicolon too.
PARAMETER = re.compile(rb"([^&;]*)([&;]?)")
RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Nesting that must be left to spare: who reads a body again stands deeper on the stack than who read it first.
SPARE_LEVELS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall:
    """One search as asked.

    `expression` is the decoded index expression, '' where the path names none. `body` is the JSON text, inflated,
    b'' where there is none; `search` the object that it says, {} for no body, and None where it can't be read as
    one: it is no JSON object, names a key twice, is in an unknown coding, or is a stream, since too large to hold.
    `parameters` are the decoded URL parameters; of a repeated one the last counts, as in the engines.
    """

    request: Request
    expression: str
    parameters: Mapping[str, str]
    body: bytes
    search: dict[str, Any] | None
    in_source: bool

    def flag(self, name: str) -> bool:
        """Whether a boolean URL parameter is on: `?pretty` and `?pretty=true` are."""
        return self.parameters.get(name, "false") in ("", "true")

    def with_body(self, body: bytes) -> SearchCall:
        """The same call asking `body` instead, however it was carried; its encoding is dropped."""
        request = self.request
        if self.in_source:
            target = edit_query(request.target, drop={"source"}, add={"source": body.decode()})
            request = replace(request, target=target)
        else:
            headers = without_headers(request.headers, b"content-encoding", b"content-length")
            # Some clients name a type where they send no body, aiohttp's default for one.
            if JSON_TYPE.match((request.header(b"content-type") or b"").decode("latin-1")) is None:
                headers = (*without_headers(headers, b"content-type"), (b"content-type", _json_type_for(headers)))
            request = replace(request, headers=headers, body=body)
        return replace(self, request=request, body=body, search=_parse_object(body))


def search_expression(request: Request) -> str | None:
    """The index expression of a search request ('' where it names none), or None for any other request.

    A target longer than engines take by default is none of ours either: it is theirs to refuse.
    """
    if request.method not in ("GET", "POST") or len(request.target) > MAX_TARGET_BYTES:
        return None
    found = SEARCH_PATH.match(request.path)
    if found is None:
        return None
    if found[1] is None:
        return parse_query(request.query_string).get("index", "")
    return unquote(found[1].decode("utf-8", "replace"))


def read_call(request: Request, expression: str, *, max_bytes: int) -> SearchCall:
    """The call of a search request whose body was read. Never fails: what can't be read has `search` None."""
    parameters = parse_query(request.query_string)
    body, in_source = b"", False
    readable = True
    if request.body is not None and not isinstance(request.body, bytes):
        readable = False
    elif request.body:
        try:
            body = decode_body(request.body, request.header(b"content-encoding"), max_bytes=max_bytes)
        except UnreadableBodyError:
            readable = False
        media_type = (request.header(b"content-type") or b"").decode("latin-1")
        readable = readable and JSON_TYPE.match(media_type) is not None
    elif "source" in parameters:
        body, in_source = parameters["source"].encode("utf-8", "replace"), True
        readable = JSON_TYPE.match(parameters.get("source_content_type", "application/json")) is not None
    search: dict[str, Any] | None = {}
    if not readable:
        search = None
    elif body.strip():
        search = _parse_object(body)
    return SearchCall(
        request=request, expression=expression, parameters=parameters, body=body, search=search, in_source=in_source
    )


def parse_query(query_string: bytes) -> dict[str, str]:
    """The decoded parameters of a raw query string; of a repeated one the last."""
    parameters = {}
    for piece, _ in PARAMETER.findall(query_string):
        if piece:
            name, _, value = piece.partition(b"=")
            parameters[_decoded(name)] = _decoded(value)
    return parameters


def edit_query(target: bytes, *, drop: set[str], add: Mapping[str, str]) -> bytes:
    """The target without some parameters and with others at its end; every other byte stays as it was."""
    path, _, query_string = target.partition(b"?")
    kept = b"".join(
        piece + end for piece, end in PARAMETER.findall(query_string) if _decoded(piece.partition(b"=")[0]) not in drop
    )
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in add.items()).encode()
    joint = b"&" if kept and added and kept[-1:] not in b"&;" else b""
    return path + (b"?" + kept + joint + added if kept or added else b"")


def edit_object(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """A JSON object with some keys set (or, by None, dropped); every other value keeps its bytes and its place."""
    members: dict[str, Any] = dict(RAW_OBJECT.decode(body)) if body.strip() else {}
    for key, value in changes.items():
        if value is None:
            members.pop(key, None)
        else:
            members[key] = value
    return msgspec.json.encode(members)


def _decoded(text: bytes) -> str:
    return unquote_plus(text.decode("latin-1"), encoding="utf-8", errors="replace")


def _parse_object(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = msgspec.json.decode(body)
        json.loads(b"[" * SPARE_LEVELS + body + b"]" * SPARE_LEVELS, object_pairs_hook=_unique)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, as is text that isn't Unicode
        return None
    return parsed if isinstance(parsed, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    """Raise ValueError for a key that is there twice: engines refuse it, and an edit would drop one of the two."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")


def _json_type_for(headers: Headers) -> bytes:
    """The media type for a body that we add: the engine wants the same version there as in Accept."""
    accept = first_header(headers, b"accept") or b""
    return accept if b"," not in accept and JSON_TYPE.match(accept.decode("latin-1")) else b"application/json"
