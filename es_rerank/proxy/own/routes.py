"""The table of everything that we answer below `/_es_rerank`."""

from __future__ import annotations

from es_rerank.proxy.own import health, rules
from es_rerank.proxy.own.call import Route

RULE = "/_es_rerank/rules/{name}"
ROUTES: tuple[Route, ...] = (
    Route(methods=("GET",), path="/_es_rerank/health", answer=health.answer, about="how each part of this proxy is"),
    Route(methods=("GET",), path="/_es_rerank/rules", answer=rules.answer_all, about="all rules in force"),
    Route(methods=("GET",), path=RULE, answer=rules.answer_one, about="one rule, and its versions"),
    Route(methods=("PUT",), path=RULE, answer=rules.put, about="store a rule, or what a sweep has found (from_run)"),
    Route(methods=("DELETE",), path=RULE, answer=rules.delete, about="take a stored rule out of force"),
    Route(methods=("POST",), path=f"{RULE}/_rollback", answer=rules.roll_back, about="undo a rule's last change"),
)
