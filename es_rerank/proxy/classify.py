"""Decides whether a search is reranked, and names the reason where it isn't. Pure.

One place for the eligibility rule: docs/search.md has it as a table, with every reason word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.question import Question, find_question, strip_syntax
from es_rerank.settings import MinilmSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from es_rerank.fusion.fuse import Method
    from es_rerank.judgment import ScoreRule
    from es_rerank.proxy.call import SearchCall
    from es_rerank.proxy.control import Controls
    from es_rerank.settings import Mode, RuleSettings, ScorerSettings

DEFAULT_SIZE = 10
LARGEST_PAGE = 2**31 - 1
# Of a remote cluster or spelt as date math too.
SYSTEM_INDEX = re.compile(r"([^:<]*:)?<?\.")
# Present in the body, the search has an order, a first stage or a paging of its own.
FOREIGN_BODY_KEYS = (
    "scroll",
    "search_after",
    "slice",
    "pit",
    "retriever",
    "knn",
    "rank",
    "sub_searches",
    "rescore",
    "terminate_after",
    "search_pipeline",
    "explain",
)
FOREIGN_PARAMETERS = ("scroll", "terminate_after", "search_pipeline", "explain")


@dataclass(frozen=True, slots=True)
class Relay:
    """The search goes through unreranked, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One round of scoring: how long the model may think about a document, and about how many of the best.

    A `budget_tokens` of 0 is an answer without thinking; a `top` of None is the whole window.
    """

    budget_tokens: int
    top: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """The search is reranked: by what rule, for what question, over what window, and which page is answered.

    `stages` come one after the other, and a document's score is that of its last. `mode` is None for a scorer that
    does not think.
    """

    rule: RuleSettings
    question: str
    instruction: str
    window: int
    alpha: float
    method: Method
    mode: Mode | None
    stages: tuple[Stage, ...]
    score: ScoreRule
    keep_reasoning: bool
    page_from: int
    page_size: int


def matching_rule(expression: str, rules: Sequence[RuleSettings]) -> RuleSettings | Relay:
    """The one rule that all named indices fall under, or why there is none. An index's first match counts."""
    names = [name for name in expression.split(",") if name and not name.startswith("-")] or ["_all"]
    if any(SYSTEM_INDEX.match(name) for name in names):
        return Relay("system_index")
    # `_all` and no index at all mean every index, which only a catch-all rule covers.
    wanted = ["*" if name == "_all" else name for name in names]
    first, *others = {next((rule for rule in rules if rule.matches(name)), None) for name in wanted}
    if first is None or None in others:
        return Relay("no_rule")
    return Relay("several_rules") if others else first


def classify(
    call: SearchCall,
    controls: Controls,
    rule: RuleSettings | Relay,
    scorer: ScorerSettings,
) -> Rerank | Relay:
    """Rerank the call, or relay it and why. Never fails: what can't be understood is the engine's to judge.

    `scorer` is the rule's; without a rule it does not matter.
    """
    if isinstance(rule, Relay):
        return rule
    window = controls.window or rule.window
    page = _page(call)
    question = _question(call)
    reason = (
        ("" if controls.rerank else "asked_off")
        or _unreadable(call)
        or _foreign_feature(call)
        or _foreign_format(call)
        or _unfit_page(page, window)
        or ("" if _by_relevance(call) else "sort")
        or ("not_bm25" if question.not_bm25 else "")
        or ("" if question.text else "no_text_query")
    )
    if reason or page is None:
        return Relay(reason)
    mode = None if isinstance(scorer, MinilmSettings) else controls.mode or rule.mode
    return Rerank(
        rule=rule,
        question=question.text,
        instruction=controls.instruction or rule.instruction,
        window=window,
        alpha=rule.alpha if controls.alpha is None else controls.alpha,
        method=controls.method or rule.method,
        mode=mode,
        stages=_stages(mode, controls, rule, scorer),
        score=controls.score or rule.score,
        keep_reasoning=mode is not None and (rule.keep_reasoning or "reasoning" in controls.include),
        page_from=page[0],
        page_size=page[1],
    )


def _stages(
    mode: Mode | None,
    controls: Controls,
    rule: RuleSettings,
    scorer: ScorerSettings,
) -> tuple[Stage, ...]:
    if mode is None or mode == "direct" or isinstance(scorer, MinilmSettings):
        return (Stage(budget_tokens=0),)
    thinking = controls.budget_tokens or rule.budget_tokens or scorer.max_think_tokens
    if mode == "think":
        return (Stage(budget_tokens=thinking),)
    return Stage(budget_tokens=0), Stage(budget_tokens=thinking, top=controls.think_top or rule.think_top)


def _question(call: SearchCall) -> Question:
    """What is asked: `q`, which takes the place of the body's query where it is there."""
    if "q" in call.parameters:
        return Question(text=strip_syntax(call.parameters["q"]))
    return find_question((call.search or {}).get("query"))


def _unreadable(call: SearchCall) -> str:
    """Why the body could not be read, or ''."""
    if call.search is not None:
        return ""
    return "unreadable_body" if isinstance(call.request.body, bytes | None) else "body_too_large"


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
    readable = any(part in accept for part in (b"json", b"*/*", b"application/*"))
    return "" if readable and call.parameters.get("format", "") in ("", "json") else "format"


def _unfit_page(page: tuple[int, int] | None, window: int) -> str:
    """Why no hit of this page can be of the window, or ''."""
    if page is None:
        return "unreadable_page"
    if page[1] == 0:
        return "size_zero"
    return "past_window" if page[0] >= window else ""


def _page(call: SearchCall) -> tuple[int, int] | None:
    """`from` and `size`; None where the engine should judge them."""
    page_from, page_size = _page_number(call, "from", 0), _page_number(call, "size", DEFAULT_SIZE)
    return None if page_from is None or page_size is None else (page_from, page_size)


def _page_number(call: SearchCall, name: str, default: int) -> int | None:
    """`from` or `size`, that of the URL before that of the body; None for one that the engine should judge."""
    value = call.parameters.get(name, (call.search or {}).get(name, default))
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= LARGEST_PAGE else None


def _by_relevance(call: SearchCall) -> bool:
    """Whether there is no sort, or `_score` descending comes first."""
    first = next(_sort_keys(call), None)
    if first is None:
        return True
    name, order = first
    if isinstance(order, dict):
        order = order.get("order", "desc")
    return name == "_score" and isinstance(order, str) and order.lower() == "desc"


def _sort_keys(call: SearchCall) -> Iterator[tuple[Any, Any]]:
    """What the hits are sorted by, each with its order. The engines put the URL's keys behind those of the body."""
    sort = (call.search or {}).get("sort")
    for entry in sort if isinstance(sort, list) else [sort]:
        if isinstance(entry, dict):
            yield from entry.items()
        elif entry is not None:
            yield entry, "desc"
    for key in call.parameters.get("sort", "").split(","):
        name, _, order = key.partition(":")
        if name:
            yield name, order or "desc"
