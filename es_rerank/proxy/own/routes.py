"""The table of everything that we answer below `/_es_rerank`."""

from __future__ import annotations

from es_rerank.proxy.own import cat, explain, health, overview, rank_eval, rules
from es_rerank.proxy.own.call import Route

RULE = "/_es_rerank/rules/{name}"
ROUTES: tuple[Route, ...] = (
    Route(
        methods=("GET",),
        path="/_es_rerank",
        answer=overview.list_routes(lambda: ROUTES),
        about="what there is here",
    ),
    Route(methods=("GET",), path="/_es_rerank/health", answer=health.answer, about="how each part of this proxy is"),
    Route(methods=("GET",), path="/_es_rerank/rules", answer=rules.answer_all, about="all rules in force"),
    Route(methods=("GET",), path=RULE, answer=rules.answer_one, about="one rule, and its versions"),
    Route(methods=("PUT",), path=RULE, answer=rules.put, about="store a rule, or what a sweep has found (from_run)"),
    Route(methods=("DELETE",), path=RULE, answer=rules.delete, about="take a stored rule out of force"),
    Route(methods=("POST",), path=f"{RULE}/_rollback", answer=rules.roll_back, about="undo a rule's last change"),
    Route(
        methods=("GET",),
        path="/_es_rerank/_stats",
        answer=overview.stats,
        about="what became of the searches of this process since its start",
    ),
    Route(
        methods=("GET",),
        path="/_es_rerank/_cat",
        answer=overview.list_tables(lambda: ROUTES),
        about="the tables that there are",
    ),
    Route(methods=("GET",), path="/_es_rerank/_cat/rules", answer=cat.rules, about="the rules in force"),
    Route(methods=("GET",), path="/_es_rerank/_cat/scorers", answer=cat.scorers, about="the scorers in use"),
    Route(methods=("GET",), path="/_es_rerank/_cat/runs", answer=cat.runs, about="the newest replays and sweeps"),
    Route(
        methods=("GET", "POST"),
        path="/_es_rerank/{index}/_explain",
        answer=explain.answer,
        about="how one search is reranked, or why it is not",
    ),
    Route(
        methods=("GET", "POST"),
        path="/_es_rerank/_rank_eval",
        answer=rank_eval.answer,
        about="the engine's _rank_eval on the reranked order, over all indices",
    ),
    Route(
        methods=("GET", "POST"),
        path="/_es_rerank/{index}/_rank_eval",
        answer=rank_eval.answer,
        about="the engine's _rank_eval on the reranked order",
    ),
)
