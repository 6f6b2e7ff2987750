"""The table of everything that we answer below `/_es_rerank`."""

from __future__ import annotations

from es_rerank.proxy.own import comparisons, health, job_answers, replays, sweeps
from es_rerank.proxy.own.call import Route

ROUTES: tuple[Route, ...] = (
    Route(methods=("GET",), path="/_es_rerank/health", answer=health.answer, about="how each part of this proxy is"),
    Route(
        methods=("POST",), path="/_es_rerank/replays", answer=replays.begin, about="record the windows of a query set"
    ),
    Route(
        methods=("POST",), path="/_es_rerank/replays/{id}/_resume", answer=replays.resume, about="go on with a replay"
    ),
    Route(methods=("POST",), path="/_es_rerank/sweeps", answer=sweeps.begin, about="try many settings on a recording"),
    Route(methods=("POST",), path="/_es_rerank/comparisons", answer=comparisons.begin, about="compare two settings"),
    *job_answers.routes(),
)
