"""What `POST /_es_rerank/{index}/_explain` says: how one search is reranked, or why it isn't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.search import search, search_request, value_of
from es_rerank.proxy.own.sentences import RERANKED, SENTENCES
from es_rerank.proxy.search.decide import Rerank, question_of
from es_rerank.proxy.search.explanation import fused_hits
from es_rerank.rules.book import BoundRule
from es_rerank.rules.indices import named_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.search import Searched
    from es_rerank.proxy.pipeline import Trace
    from es_rerank.proxy.search.render import Verdict
    from es_rerank.rawjson import RawObject
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import TextSpec

NO_BODY = b"{}"


async def answer(call: OwnCall) -> OwnAnswer:
    """Run the search in the body as the caller, and tell what was decided, read and computed.

    Parameters of the URL that we don't know are the search's own. The search leaves no log line and no event.
    """
    index = call.names["index"]
    request = search_request(call, index, call.parameters, await call.body() or NO_BODY)
    book = call.parts.rules.book
    searched = await search(call, request, index, book, call.share)
    status, trace = searched.status, searched.trace
    value: dict[str, Any] = {
        "index": index,
        "status": status.block(),
        "why": RERANKED if status.reason is None else SENTENCES[status.reason],
        "question": _question(trace),
        "rules": _rules(index, book),
        "rule": _rule(status.rule, book),
        "decision": _decision(trace),
        "window": _window(trace),
        "hits": _hits(searched),
    }
    return OwnAnswer(value=value)


def _question(trace: Trace) -> str | None:
    """What was asked of the scorer; for a search that is not reranked, what its query asks."""
    if isinstance(trace.decision, Rerank):
        return trace.decision.scoring.question
    return None if trace.call is None else question_of(trace.call).text or None


def _rules(expression: str, book: RuleBook) -> dict[str, Any]:
    """Which rule each name of the expression falls under, and the patterns that were tried, in order."""
    names = {}
    for name in named_in(expression):
        found = book.find(name)
        names[name] = found.rule.name if isinstance(found, BoundRule) else None
    tried = [{"rule": bound.rule.name, "indices": bound.rule.indices} for bound in book.rules]
    return {"version": book.version, "by_name": names, "tried": tried}


def _rule(name: str | None, book: RuleBook) -> dict[str, Any] | None:
    """The rule's own words: what text it scores, by what scorer."""
    bound = book.named(name)
    if bound is None:
        return None
    text = _text(bound.rule.text)
    return {"name": bound.rule.name, "indices": bound.rule.indices, "scorer": bound.rule.scorer, "text": text}


def _text(spec: TextSpec) -> dict[str, Any]:
    return {"template": spec.template} if spec.template else {"fields": spec.fields}


def _decision(trace: Trace) -> dict[str, Any] | None:
    """What holds for a search that is reranked, after the request's own wishes."""
    decision = trace.decision
    if not isinstance(decision, Rerank):
        return None
    return {
        "alpha": decision.recipe.alpha,
        "method": decision.recipe.method,
        "score": decision.recipe.score,
        "instruction": decision.scoring.instruction or None,
        "mode": decision.mode,
        "fingerprint": decision.scoring.fingerprint,
        "language": decision.language,
        "deadline_s": decision.deadline_s,
        "page": {"from": decision.page.start, "size": decision.page.size},
    }


def _window(trace: Trace) -> dict[str, Any] | None:
    """The request that fetches the window, and what came."""
    decision, plan, call = trace.decision, trace.plan, trace.call
    if not isinstance(decision, Rerank) or plan is None or call is None:
        return None
    return {
        "size": decision.window,
        "request": {
            "method": plan.request.method,
            "target": plan.request.target.decode("latin-1"),
            "body": call.search or None,
        },
        "found": None if trace.found is None else min(decision.window, len(trace.found.hits)),
        "without_text": None if trace.texts is None else sum(text is None for text in trace.texts.texts),
    }


def _hits(searched: Searched) -> list[dict[str, Any]]:
    """The hits of the page in the order in which they are answered, each with what is known of it."""
    trace = searched.trace
    decision = trace.decision
    start = decision.page.start if isinstance(decision, Rerank) else None
    places = {} if trace.found is None else {hit: index for index, hit in enumerate(trace.found.ids)}
    known = _known(trace)
    shown = []
    for number, hit in enumerate(searched.hits):
        key = (value_of(hit.get("_index")), value_of(hit.get("_id")))
        said: dict[str, Any] = {"_index": key[0], "_id": key[1], "_score": hit.get("_score")}
        if start is not None:
            said["place"] = start + number + 1
        index = places.get(key)
        shown.append({**said, **({} if index is None else {**_engine_side(trace, index), **known.get(index, {})})})
    return shown


def _engine_side(trace: Trace, index: int) -> dict[str, Any]:
    """What the engine said of the hit with this index, and its text, None for a hit behind the window too."""
    found, texts = trace.found, () if trace.texts is None else trace.texts.texts
    hit: RawObject = {} if found is None else found.hits[index]
    return {
        "engine_score": hit.get("_score"),
        "engine_rank": index + 1,
        "in_window": index < len(texts),
        "text": texts[index] if index < len(texts) else None,
    }


def _known(trace: Trace) -> Mapping[int, dict[str, Any]]:
    """By index, what was judged and fused of the hits of the window."""
    verdict, decision, found = trace.verdict, trace.decision, trace.found
    if verdict is None or found is None or not isinstance(decision, Rerank):
        return {}
    rank_scores = verdict.ranked.rank_scores
    scores = found.scores[: len(rank_scores)]
    fused = fused_hits(scores, verdict.ranked, verdict.from_cache, decision.recipe.method)
    # As they would stand by the model alone, ties in engine order.
    by_score = sorted(fused, key=lambda index: (-fused[index].rank_score, index))
    ranks = {index: rank for rank, index in enumerate(by_score, start=1)}
    return {
        index: {
            "rank_score": None if one is None else one.rank_score,
            "rank_score_rank": ranks.get(index),
            "engine_unit": None if one is None else one.engine_unit,
            "rank_unit": None if one is None else one.rank_unit,
            "fused_score": None if one is None else one.fused_score,
            "cached": None if one is None else one.from_cache,
            "judgment": _judgment(verdict, index),
        }
        for index, one in ((index, fused.get(index)) for index in range(len(rank_scores)))
    }


def _judgment(verdict: Verdict, index: int) -> dict[str, Any] | None:
    """What else is known of a hit's judgment: all of it, for a scorer that gives a distribution. None for a gap."""
    judgment = verdict.judgments[index]
    if judgment is None:
        return None
    details: dict[str, Any] = {"truncated": judgment.truncated}
    if judgment.distribution is not None:
        details |= {
            "distribution": judgment.distribution,
            "mass": judgment.mass,
            "think_tokens": judgment.think_tokens,
            "cut": judgment.cut or None,
        }
    return details
