"""The table of everything that we answer below `/_es_rerank`."""

from __future__ import annotations

from es_rerank.proxy.own import health
from es_rerank.proxy.own.call import Route

ROUTES: tuple[Route, ...] = (
    Route(methods=("GET",), path="/_es_rerank/health", answer=health.answer, about="how each part of this proxy is"),
)
