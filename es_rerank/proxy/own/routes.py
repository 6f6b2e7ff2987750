"""The table of everything that we answer below `/_es_rerank`."""

from __future__ import annotations

from es_rerank.proxy.own import comparisons, health, job_answers, judgment_sources, judgments, replays, sweeps
from es_rerank.proxy.own.call import Route

LIST = "/_es_rerank/judgments/{name}"
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
    Route(methods=("GET",), path="/_es_rerank/judgments", answer=judgments.answer_all, about="all judgment lists"),
    Route(methods=("GET",), path=LIST, answer=judgments.export, about="a judgment list as JSON, CSV or TREC's qrels"),
    Route(methods=("PUT", "POST"), path=LIST, answer=judgments.put, about="import judgments: JSON, TREC, BEIR or CSV"),
    Route(methods=("DELETE",), path=LIST, answer=judgments.delete, about="delete a judgment list, or one source in it"),
    Route(
        methods=("POST",),
        path=f"{LIST}/_from_clicks",
        answer=judgment_sources.from_clicks,
        about="make judgments from clicks",
    ),
    Route(
        methods=("POST",),
        path=f"{LIST}/_from_recording",
        answer=judgment_sources.from_recording,
        about="let the model of a recording judge",
    ),
    Route(
        methods=("GET",),
        path=f"{LIST}/_agreement",
        answer=judgments.agree,
        about="how far two sources of a judgment list agree",
    ),
)
