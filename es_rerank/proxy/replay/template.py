"""The search that each query of a replay becomes: a body in which `%SearchText%` stands for the query's words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.search.control import KEY
from es_rerank.rawjson import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEARCH_TEXT = "%SearchText%"
DEFAULT_SIZE = 10


def read_template(request: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The body of the searches, from `request`: an object, or JSON text as the Search Relevance Workbench keeps it.

    Without a request it is a `multi_match` on these fields. A body shows no `_source` unless it says otherwise, since
    nothing of it is recorded. Raises CallerError.
    """
    body = request
    if request is None:
        body = {"query": {"multi_match": {"query": SEARCH_TEXT, "fields": list(fields)}}}
    elif isinstance(request, str):
        body = read_object(request.encode("utf-8", "replace"))
    if not isinstance(body, dict):
        raise CallerError("[request] must be a search body: a JSON object, or text that is one")
    if not _is_in(body.get("query"), SEARCH_TEXT):
        raise CallerError(f"[request.query] must hold [{SEARCH_TEXT}], which stands for the words of each query")
    if isinstance(body.get("ext"), dict) and KEY in body["ext"]:
        raise CallerError(f"[request.ext.{KEY}] is the replay's own: say it as [rule] or [window]")
    return {"size": DEFAULT_SIZE, "_source": False, **body}


def fill_template(template: Mapping[str, Any], words: str) -> dict[str, Any]:
    """The body for one query's words."""
    filled: dict[str, Any] = _filled(dict(template), words)
    return filled


def _filled(value: Any, words: str) -> Any:
    if isinstance(value, str):
        return value.replace(SEARCH_TEXT, words)
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    return [_filled(item, words) for item in value] if isinstance(value, list) else value


def _is_in(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return text in value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_is_in(item, text) for item in items)
