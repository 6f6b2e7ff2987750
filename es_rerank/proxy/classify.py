"""Decides whether a search is reranked, and names the reason where it isn't. Pure.

One place for the eligibility rule: docs/search.md has it as a table, with every reason word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.question import find_question, strip_syntax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.fusion.fuse import Method
    from es_rerank.proxy.call import SearchCall
    from es_rerank.proxy.control import Controls
    from es_rerank.settings import RuleSettings

DEFAULT_SIZE = 10
# Present in the body, the search has an order, a first stage or a paging of its own.
FOREIGN_BODY_KEYS = (
    "scroll", "search_after", "slice", "pit", "retriever", "knn", "rank", "sub_searches", "rescore",
    "terminate_after", "search_pipeline", "explain",
)
FOREIGN_PARAMETERS = ("scroll", "terminate_after", "search_pipeline", "explain")


@dataclass(frozen=True, slots=True)
class Relay:
    """The search goes through unreranked, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """The search is reranked: by what rule, for what question, over what window, and which page is answered."""

    rule: RuleSettings
    question: str
    window: int
    alpha: float
    method: Method
    page_from: int
    page_size: int


def matching_rule(expression: str, rules: Sequence[RuleSettings]) -> RuleSettings | Relay:
    """The one rule that all named indices fall under, or why there is none. The first match of each index counts."""
    names = [name for name in expression.split(",") if name and not name.startswith("-")] or ["_all"]
    if any(name.startswith(".") for name in names):
        return Relay("system_index")
    # `_all` and no index at all mean every index, which only a catch-all rule covers.
    wanted = ["*" if name == "_all" else name for name in names]
    found = {next((rule for rule in rules if rule.matches(name)), None) for name in wanted}
    if None in found:
        return Relay("no_rule")
    return found.pop() or Relay("no_rule") if len(found) == 1 else Relay("several_rules")


def classify(call: SearchCall, controls: Controls, rule: RuleSettings | Relay) -> Rerank | Relay:
    """Rerank the call, or relay it and why. Never fails: what can't be understood is the engine's to judge."""
    if isinstance(rule, Relay):
        return rule
    if not controls.rerank:
        return Relay("asked_off")
    if call.search is None:
        return Relay("unreadable_body")
    reason = _foreign_feature(call) or _foreign_format(call)
    if reason:
        return Relay(reason)
    page_from, page_size = _page(call)
    window = controls.window or rule.window
    if page_from is None or page_size is None:
        return Relay("unreadable_page")
    if page_size == 0:
        return Relay("size_zero")
    if page_from >= window:
        return Relay("past_window")
    if not _by_relevance(call):
        return Relay("sort")
    question = find_question(call.search.get("query"))
    text = strip_syntax(call.parameters["q"]) if "q" in call.parameters else question.text
    if question.not_bm25 and "q" not in call.parameters:
        return Relay("not_bm25")
    if not text:
        return Relay("no_text_query")
    return Rerank(
        rule=rule, question=text, window=window, alpha=rule.alpha if controls.alpha is None else controls.alpha,
        method=controls.method or rule.method, page_from=page_from, page_size=page_size,
    )


def _foreign_feature(call: SearchCall) -> str:
    """The first feature with which the order isn't ours to change, or ''."""
    search = call.search or {}
    # Kibana marks its own pages so; what a person types in Dev Tools carries no such header.
    if call.request.header(b"x-elastic-product-origin") is not None:
        return "product_origin"
    for name in FOREIGN_BODY_KEYS:
        if name in search and search[name] not in (None, False, 0, [], {}):
            return name
    for name in FOREIGN_PARAMETERS:
        if name in call.parameters and call.parameters[name] not in ("false", "0"):
            return name
    stored = call.parameters.get("stored_fields", search.get("stored_fields"))
    return "stored_fields" if stored in ("_none_", ["_none_"]) else ""


def _foreign_format(call: SearchCall) -> str:
    """`format` where the client wants something other than JSON, or ''."""
    accept = (call.request.header(b"accept") or b"*/*").lower()
    asked = call.parameters.get("format", "json")
    return "" if asked in ("", "json") and (b"json" in accept or b"*/*" in accept or b"application/*" in accept) else "format"


def _page(call: SearchCall) -> tuple[int | None, int | None]:
    """`from` and `size`, those of the URL before those of the body; None for one that the engine should judge."""
    search = call.search or {}
    return tuple(  # type: ignore[return-value]
        _whole(call.parameters[name]) if name in call.parameters else _whole(search.get(name, default))
        for name, default in (("from", 0), ("size", DEFAULT_SIZE))
    )


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _by_relevance(call: SearchCall) -> bool:
    """Whether there is no sort, or `_score` descending comes first."""
    if "sort" in call.parameters:
        return call.parameters["sort"].split(",")[0] in ("_score", "_score:desc")
    sort = (call.search or {}).get("sort")
    first = sort[0] if isinstance(sort, list) and sort else sort
    if first in (None, [], "_score"):
        return True
    order = first.get("_score") if isinstance(first, dict) and len(first) == 1 else None
    return order == "desc" or (isinstance(order, dict) and order.get("order", "desc") == "desc")
