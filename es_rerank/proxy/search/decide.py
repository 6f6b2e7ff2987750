"""Decides whether a search is reranked, and names the reason where it isn't. Pure.

This is the only place for that decision; docs/search.md has it as a table, with every reason word. Later steps know of
rules and scorers only what is decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from es_rerank.errors import CallerError
from es_rerank.fusion.rank import Recipe
from es_rerank.proxy.scoring.ask import Scoring, Stage
from es_rerank.proxy.search.control import ControlLimits, check_controls, refused
from es_rerank.proxy.search.cursor import Cursor, read_cursor
from es_rerank.proxy.search.first_stage import any_stage, is_set, query_alone
from es_rerank.proxy.search.question import NOTHING_KNOWN, FieldChoice, Question
from es_rerank.proxy.search.search_pipeline import NO_PIPELINE, asks_to_rerank, named_pipeline, rerank_text
from es_rerank.reasons import STAGE_KEYS, Foreign
from es_rerank.rules.book import BoundRule
from es_rerank.rules.indices import may_reach_system
from es_rerank.texts import TextSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from es_rerank.language import Language
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.control import Controls, Include
    from es_rerank.proxy.search.first_stage import FirstStageReading
    from es_rerank.proxy.search.similarity import Similarity
    from es_rerank.reasons import FirstStage, Reason
    from es_rerank.rules.book import RuleBook
    from es_rerank.rules.rule import Mode, Rule
    from es_rerank.tables import LimitSettings

DEFAULT_SIZE = 10
LARGEST_PAGE = 2**31 - 1
# Of the deadline. The rest is for the search itself, whoever answers it.
RENDERING_SHARE = 0.5
# The part of a deadline that a search may wait to learn whether it has a question.
DOUBT_SHARE = 0.25
FOREIGN_BODY_KEYS: tuple[Foreign, ...] = get_args(Foreign)
# What a rule may allow for a search in a point in time.
POINT_KEYS: frozenset[Foreign] = frozenset({"pit", "search_after"})
# What a reranker of ours may have beside it: itself, and where it searches.
SIMILARITY_KEYS: frozenset[Foreign] = frozenset({"retriever", "pit"})
OTHER_FORMATS = (b"cbor", b"smile", b"yaml")
FOREIGN_PARAMETERS: tuple[Foreign, ...] = ("scroll", "terminate_after")
# Those that are looked at by themselves, since a rule may take them.
FIRST_STAGE_KEYS = {*STAGE_KEYS, "search_pipeline"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The hits that are answered: `size` of them from place `start` on, which counts from 0."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The place after the last one."""
        return self.start + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The search goes through unreranked, for this reason; `rule` is the name of the one that held, if any.

    `in_doubt` are the fields whose types, once known, may give it a question after all; that is worth `wait_s`.
    `rendering_s` is how long after
    the search has come the engine may have made it of its template, to be decided then; None where it is not asked.
    """

    reason: Reason
    rule: str | None = None
    in_doubt: tuple[str, ...] = ()
    wait_s: float = 0.0
    rendering_s: float | None = None
    include: frozenset[Include] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """The search is reranked: by what rule and scorer, on what text, over what window, and which page is answered.

    `first_stage` is how the engine ranks the window, `most` how many hits it may be asked for, None for any number.
    `question` is what the text of `scoring.question` was made from, `in_doubt` the fields whose types may change it.
    `language` is the only one in which the window is scored, None for any. `mode` is None for a scorer that does not
    think. `similarity` is what a `text_similarity_reranker` asks: then `rule` is the endpoint that it names, the order
    is that of the rank scores alone unless the request wants it otherwise, and the page ends with the window.
    `may_reach_system` says that the search may find hits of system indices, which are never reranked.
    `in_point` says that it searches a point in time. There it may have a `cursor`, behind which its page begins; until
    the order is known, and with it that place (see `turned`), `page` is the one that begins right behind the window.
    """

    rule: str
    scorer: str
    text: TextSpec
    window: int
    page: Page
    question: Question
    in_doubt: tuple[str, ...] = ()
    scoring: Scoring
    recipe: Recipe
    language: Language | None
    mode: Mode | None
    deadline_s: float
    may_reach_system: bool = False
    in_point: bool = False
    cursor: Cursor | None = None
    similarity: Similarity | None = None
    include: frozenset[Include] = frozenset()
    first_stage: FirstStage = "bm25"
    most: int | None = None

    @property
    def size(self) -> int:
        """How many hits the engine is asked for: the window, and the page where it goes past that."""
        size = max(self.window, self.page.end)
        return size if self.most is None else min(size, self.most)

    @property
    def told_question(self) -> str | None:
        """The question for the status of a search that wants to know it, else None."""
        return self.scoring.question if "question" in self.include else None


def decide(
    call: SearchCall, asked: dict[str, Any], book: RuleBook, is_text: Mapping[str, bool] = NOTHING_KNOWN
) -> Rerank | Relay:
    """Whether and how the call is reranked, or why it is relayed. What we can't understand is left to the engine.

    `asked` is what the request asks of us, unchecked. `is_text` is what is known of the fields that the search names.
    Raises CallerError where what is asked isn't allowed.
    """
    if call.similarity is not None:
        return _decide_similarity(call, call.similarity, asked, book)
    bound = _rule_of(call, asked, book)
    if not isinstance(bound, BoundRule):
        return Relay(reason=bound, include=check_controls(asked, _limits_of(None, book.limits)).include)
    controls = check_controls(asked, _limits_of(bound, book.limits))
    rule = bound.rule
    if call.template and rule.templates and call.search is not None:
        # Whatever else is said: the template may ask something of us, which no engine must see.
        limit_s = (controls.deadline_s or bound.deadline_s) * RENDERING_SHARE
        return Relay(reason="template", rule=rule.name, rendering_s=limit_s, include=controls.include)
    page = asked_page(call)
    stage = any_stage(call) if rule.first_stage == "any" else query_alone(call)
    window = _window(stage, page, controls.window or rule.window)
    question = stage.question.choosing(FieldChoice(only=rule.question_fields, ignored=rule.ignore_fields))
    asked_text = _asked_text(call, controls)
    if asked_text is not None:
        question = question.asking(asked_text)
    text = question.text_given(is_text)
    cursor = _cursor(call)
    reason = (
        _unasked(controls)
        or _own_page(call, rule)
        or _unreadable(call)
        or _foreign_feature(call, POINT_KEYS if call.in_point and rule.pit else frozenset())
        or _foreign_stage(stage, page, book.limits.max_window)
        or _foreign_pipeline(call, rule)
        or foreign_format(call)
        or ("template" if call.template else None)
        or _unfit_page(page, window, first_only=stage.first_page_only or stage.size_counts)
        or _foreign_order(call)
        or _unfit_cursor(cursor, call, page)
        or _bounded_cursor(cursor, stage)
        or _no_question(stage, text)
    )
    if reason is not None or page is None:
        relay = Relay(reason=reason or "unreadable_page", rule=rule.name, include=controls.include)
        in_doubt = question.fields_in_doubt() if reason == "no_text_query" else ()
        wait_s = (controls.deadline_s or bound.deadline_s) * DOUBT_SHARE
        return replace(relay, in_doubt=in_doubt, wait_s=wait_s) if in_doubt else relay
    decision = _reranked(call, controls, bound, page, text)
    return replace(
        decision,
        window=window,
        page=page if cursor is None else Page(start=window, size=page.size),
        question=question,
        in_doubt=question.fields_in_doubt(),
        cursor=cursor,
        first_stage=_stage_name(stage, call, rule),
        most=_most(stage, page),
    )


def _decide_similarity(call: SearchCall, asked: Similarity, wishes: dict[str, Any], book: RuleBook) -> Rerank | Relay:
    """What is done with a search whose `text_similarity_reranker` is ours.

    It names its field and its question itself, so it needs no rule. What does not go with a retriever is left to the
    engine, which refuses it.
    """
    controls = check_controls(wishes, _limits_of(asked.policy, book.limits))
    if controls.window is not None:
        raise CallerError("[ext.es_rerank.window] does not go with a reranker, which has [rank_window_size]")
    page = asked_page(call)
    reason: Reason | None = "system_index" if book.find(call.expression) == "system_index" else None
    reason = (
        reason
        or _unasked(controls)
        or _foreign_feature(call, SIMILARITY_KEYS)
        or _beside_retriever(call)
        or foreign_format(call)
        or _unfit_page(page, asked.window)
        or _foreign_order(call)
    )
    if reason is not None or page is None:
        return Relay(reason=reason or "unreadable_page", rule=asked.inference_id, include=controls.include)
    question = Question().asking(controls.query or asked.question)
    decision = _reranked(call, controls, asked.policy, page, question.text)
    text = TextSpec(fields=(asked.field,))
    return replace(
        decision,
        text=text,
        window=asked.window,
        question=question,
        similarity=asked,
        first_stage=any_stage(call).name,
    )


def _reranked(call: SearchCall, controls: Controls, bound: BoundRule, page: Page, question: str) -> Rerank:
    """The decision of a rule, by its own window and after the wishes of the request."""
    rule = bound.rule
    abilities = bound.scorer.abilities
    mode = controls.mode or rule.mode if abilities.thinks else None
    score = controls.score or rule.score
    return Rerank(
        rule=rule.name,
        scorer=rule.scorer,
        text=rule.text,
        window=rule.window,
        page=page,
        question=Question(),
        scoring=Scoring(
            fingerprint=bound.fingerprint,
            question=question,
            instruction=(controls.instruction or rule.instruction) if abilities.reads_instruction else "",
            stages=_stages(mode, controls, bound),
            score=score,
            keep_reasoning=mode is not None and (rule.keep_reasoning or "reasoning" in controls.include),
        ),
        recipe=Recipe(
            method=controls.method or rule.method,
            alpha=bound.alpha if controls.alpha is None else controls.alpha,
            score=score,
        ),
        language=bound.language,
        mode=mode,
        deadline_s=controls.deadline_s or bound.deadline_s,
        may_reach_system=call.in_point or may_reach_system(call.expression),
        in_point=call.in_point,
        include=controls.include,
    )


def with_types(decision: Rerank, is_text: Mapping[str, bool]) -> Rerank:
    """The decision, once this is known of the fields that the search names."""
    return replace(decision, scoring=replace(decision.scoring, question=decision.question.text_given(is_text)))


def _rule_of(call: SearchCall, asked: Mapping[str, Any], book: RuleBook) -> BoundRule | Reason:
    """The rule that holds for the search, or why none does."""
    if "rule" in asked:
        if not call.in_point:
            raise refused("rule", asked["rule"], "goes with [pit] in a search that names no index")
        named = book.named(asked["rule"])
        if named is None:
            raise refused("rule", asked["rule"], "must be the name of a rule")
        return named
    return "pit" if call.in_point and not call.expression else book.find(call.expression)


def _limits_of(bound: BoundRule | None, limits: LimitSettings) -> ControlLimits:
    """How far a request may go under a rule, or without one."""
    if bound is None:
        return ControlLimits(max_window=limits.max_window, max_deadline_s=limits.max_deadline_s)
    abilities = bound.scorer.abilities
    return ControlLimits(
        max_window=limits.max_window,
        max_deadline_s=limits.max_deadline_s,
        scorer="" if abilities.thinks else f"{bound.rule.scorer}, of kind {bound.scorer.kind}",
        max_think_tokens=abilities.max_think_tokens,
        mode=bound.rule.mode,
    )


def _stages(mode: Mode | None, controls: Controls, bound: BoundRule) -> tuple[Stage, ...]:
    if mode is None or mode == "direct":
        return (Stage(budget_tokens=0),)
    rule = bound.rule
    thinking = controls.budget_tokens or rule.budget_tokens or bound.scorer.abilities.max_think_tokens
    if mode == "think":
        return (Stage(budget_tokens=thinking),)
    return Stage(budget_tokens=0), Stage(budget_tokens=thinking, top=controls.think_top or rule.think_top)


def question_of(call: SearchCall) -> Question:
    """What the search asks, whatever its rule says: the parameter `q` if there is one, else the body's query."""
    return query_alone(call).question


def _asked_text(call: SearchCall, controls: Controls) -> str | None:
    """What the request itself says that is asked, None if it does not; '' where OpenSearch refuses how it says it."""
    text = rerank_text(call) if call.pipeline is not None and asks_to_rerank(call) else None
    return text if text == "" else controls.query or text


def _no_question(stage: FirstStageReading, text: str) -> Reason | None:
    if stage.own_order:
        return "not_bm25"
    return None if text else "no_text_query"


def _window(stage: FirstStageReading, page: Page | None, asked: int) -> int:
    """How many hits are reranked: as many as were rescored, if any were, and never more than may be asked for."""
    window = asked if stage.window is None else stage.window
    most = _most(stage, page)
    return window if most is None else min(window, most)


def _most(stage: FirstStageReading, page: Page | None) -> int | None:
    """How many hits the engine may be asked for, None for any number."""
    return page.size if stage.size_counts and page is not None else stage.most


def _stage_name(stage: FirstStageReading, call: SearchCall, rule: Rule) -> FirstStage:
    """What the status calls the first stage."""
    through = rule.first_stage == "any" and call.pipeline == "first_stage"
    return "pipeline" if through and stage.name == "bm25" else stage.name


def _foreign_stage(stage: FirstStageReading, page: Page | None, max_window: int) -> Reason | None:
    """The key of a first stage that is not ours, or that can't give the whole window."""
    refused = stage.most is not None and page is not None and page.size > stage.most
    too_wide = stage.window is not None and stage.window > max_window
    return stage.key if stage.foreign or refused or too_wide else None


def _bounded_cursor(cursor: Cursor | None, stage: FirstStageReading) -> Reason | None:
    """`search_after` where the engine can't be asked for all hits from the first one to those behind the cursor."""
    bounded = stage.size_counts or stage.first_page_only or stage.most is not None or stage.window is not None
    return "search_after" if cursor is not None and bounded else None


def _beside_retriever(call: SearchCall) -> Reason | None:
    """The first key of a first stage that does not go with a retriever."""
    search = call.search or {}
    key = next((name for name in STAGE_KEYS if name != "retriever" and is_set(search.get(name))), None)
    return key or ("search_pipeline" if is_set(named_pipeline(call)) else None)


def _foreign_pipeline(call: SearchCall, rule: Rule) -> Reason | None:
    """`search_pipeline` where one may change the hits in a way that we can't stand in for, or was not looked at."""
    named = named_pipeline(call) not in (None, False, 0, "", "false", "0", NO_PIPELINE, [], {})
    work = call.pipeline
    if work is None:
        foreign = named or asks_to_rerank(call)
    elif work == "rerank":
        foreign = not asks_to_rerank(call)
    else:
        foreign = work == "other" or (work == "first_stage" and named and rule.first_stage != "any")
    return "search_pipeline" if foreign else None


def _unasked(controls: Controls) -> Reason | None:
    return None if controls.rerank else "asked_off"


def _own_page(call: SearchCall, rule: Rule) -> Reason | None:
    """`product_origin` for a search of a page of Kibana or OpenSearch Dashboards, unless the rule takes those too.

    Kibana marks the requests of its pages, but not what a person types in Dev Tools. OpenSearch Dashboards marks both;
    its Dev Tools add `pretty` to every request, which its pages never do.
    """
    kibana = call.header(b"x-elastic-product-origin") is not None
    dashboards = call.header(b"x-opensearch-product-origin") is not None and "pretty" not in call.parameters
    return "product_origin" if rule.dashboards == "leave" and (kibana or dashboards) else None


def _unreadable(call: SearchCall) -> Reason | None:
    """Why the body could not be read."""
    if call.search is not None:
        return None
    if call.held:
        return "unreadable_body"
    return "memory_full" if call.no_room else "body_too_large"


def _foreign_feature(call: SearchCall, allowed: frozenset[Foreign] = frozenset()) -> Reason | None:
    """The first feature of the search, but for those allowed in its body, that forbids us to change the order."""
    search = call.search or {}
    for name in FOREIGN_BODY_KEYS:
        if name not in allowed and name not in FIRST_STAGE_KEYS and is_set(search.get(name)):
            return name
    for name in FOREIGN_PARAMETERS:
        if name in call.parameters and call.parameters[name] not in ("false", "0"):
            return name
    stored = call.parameters.get("stored_fields", search.get("stored_fields"))
    return "stored_fields" if stored in ("_none_", ["_none_"]) else None


def foreign_format(call: SearchCall) -> Reason | None:
    """`format` where the client wants, or may get, something other than JSON.

    An engine chooses by the parameter, else by `Accept`, else by the type of the request. Engines read lists in
    `Accept` differently, so one that names another format at all is left to them.
    """
    accept = (call.header(b"accept") or b"*/*").lower()
    kind = (call.header(b"content-type") or b"").lower()
    readable = any(part in accept for part in (b"json", b"*/*", b"application/*"))
    named = any(word in header for word in OTHER_FORMATS for header in (accept, kind))
    asked = call.parameters.get("format", "").lower() in ("", "json")
    return None if readable and asked and not named else "format"


def _unfit_page(page: Page | None, window: int, *, first_only: bool = False) -> Reason | None:
    """Why no hit of this page can lie in the window, or why the engine gives no other page than the first."""
    if page is None:
        return "unreadable_page"
    if page.start >= (1 if first_only else window):
        return "past_window"
    return "size_zero" if page.size == 0 else None


def asked_page(call: SearchCall, *, default_size: int = DEFAULT_SIZE) -> Page | None:
    """`from` and `size`; None where the engine should judge them."""
    start, size = _page_number(call, "from", 0), _page_number(call, "size", default_size)
    return None if start is None or size is None else Page(start=start, size=size)


def _page_number(call: SearchCall, name: str, default: int) -> int | None:
    """`from` or `size`, from the URL if it is there, else from the body; None if the engine should judge the value."""
    value = call.parameters.get(name, (call.search or {}).get(name, default))
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= LARGEST_PAGE else None


def _foreign_order(call: SearchCall) -> Reason | None:
    """`sort`, unless the search has no sort or its first key is `_score`, descending."""
    first = next(_sort_keys(call), None)
    if first is None:
        return None
    name, order = first
    if isinstance(order, dict):
        order = order.get("order", "desc")
    return None if name == "_score" and isinstance(order, str) and order.lower() == "desc" else "sort"


def _cursor(call: SearchCall) -> Cursor | None:
    """The cursor that the page begins behind; None for none, and for one that the engine should judge."""
    return read_cursor((call.search or {}).get("search_after"), sum(1 for _ in _sort_keys(call)))


def _unfit_cursor(cursor: Cursor | None, call: SearchCall, page: Page | None) -> Reason | None:
    """`search_after` for a cursor, or a page with one, that the engine should judge."""
    if "search_after" not in (call.search or {}):
        return None
    return "search_after" if cursor is None or page is None or page.start else None


def _sort_keys(call: SearchCall) -> Iterator[tuple[Any, Any]]:
    """The keys that hits are sorted by, each with its order. The engines put the URL's keys after those of the body."""
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
