"""Which requests may be sent to an engine twice, because they change nothing. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.records import Request

# Searches and their kin, with a body, which change nothing. They have an index before them, or nothing: what lies below
# something else, or deeper, may be a document or a script with such a name.
READING_PATH = re.compile(
    rb"/(?:(?:[^/_%][^/]*|%3[Cc][^/]*|_all|)/)?(?:_search|_msearch|_search/template|_msearch/template|_render/template|_count|_mget|_field_caps"
    rb"|_validate/query|_explain/[^/]+|_rank_eval|_termvectors(?:/[^/]+)?|_mtermvectors|_analyze)/*"
)
# A body in another coding may do worse to an engine than break a connection: zstd ends the process of OpenSearch 2.19.
HARMLESS_CODINGS = (b"", b"identity", b"gzip", b"x-gzip", b"deflate")


def changes_nothing(request: Request) -> bool:
    """Whether a request may be sent twice: a search or the like, or a GET or HEAD without a body, all of which we hold.

    A scroll moves on with each request.
    """
    if (request.header(b"content-encoding") or b"").strip().lower() not in HARMLESS_CODINGS:
        return False
    if READING_PATH.fullmatch(request.path):
        return request.method in ("GET", "POST") and isinstance(request.body, bytes | None)
    return request.method in ("GET", "HEAD") and request.body is None and b"/scroll" not in request.path
