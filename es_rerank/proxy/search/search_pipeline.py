"""OpenSearch's own way to ask for reranking: `ext.rerank`, and what the search pipelines of a search do. Pure.

Sources: OpenSearch's manual of the rerank processor; how a pipeline is chosen was measured on OpenSearch 2.19.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from es_rerank.rawjson import edit_object

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import PipelineWork, SearchCall
    from es_rerank.proxy.search.carrier import Carrier

KEY = "search_pipeline"
# The name that stands for no pipeline, whatever an index has by default.
NO_PIPELINE = "_none"
MAX_PATH_CHARACTERS = 1000
DOT = re.compile(r"(?<!\\)\.")
# Processors of requests that change which hits are found, not which of them are answered. Others may do anything.
FINDING = {
    "filter_query", "ml_inference", "neural_query_enricher", "neural_sparse_two_phase_processor",
}  # fmt: skip


def named_pipeline(call: SearchCall) -> Any:
    """The search pipeline that a search names, or writes out as an object; None for none. The URL wins."""
    given = call.parameters.get(KEY)
    return (call.search or {}).get(KEY) if given is None else given


def work_of(definition: Any) -> PipelineWork:
    """What a search pipeline does, from its definition."""
    if not isinstance(definition, dict):
        return "other"
    requests, responses = _processors(definition, "request_processors"), _processors(definition, "response_processors")
    phases = definition.get("phase_results_processors")
    if responses:
        return "rerank" if responses == ["rerank"] and not requests and not phases else "other"
    if all(kind in FINDING for kind in requests):
        return "first_stage" if requests or phases else "none"
    return "other"


def _processors(definition: dict[str, Any], key: str) -> list[str]:
    """The kinds of the processors under a key; one that can't be read is ''."""
    given = definition.get(key) or []
    if not isinstance(given, list):
        return [""]
    return [next(iter(one), "") if isinstance(one, dict) and len(one) == 1 else "" for one in given]


def asks_to_rerank(call: SearchCall) -> bool:
    """Whether a search has `ext.rerank`."""
    ext = (call.search or {}).get("ext")
    return isinstance(ext, dict) and "rerank" in ext


def rerank_text(call: SearchCall) -> str:
    """The text by which `ext.rerank` asks to rerank, with single blanks; '' where OpenSearch would refuse it."""
    asked = (call.search or {})["ext"]["rerank"]
    context = asked.get("query_context") if isinstance(asked, dict) else None
    if not isinstance(context, dict) or ("query_text" in context) == ("query_text_path" in context):
        return ""
    text = context.get("query_text")
    if "query_text_path" in context:
        path = context["query_text_path"]
        fits = isinstance(path, str) and len(path) <= MAX_PATH_CHARACTERS
        text = _at(call.search, [part.replace("\\.", ".") for part in DOT.split(path)]) if fits else None
    return " ".join(text.split()) if isinstance(text, str) else ""


def _at(node: Any, path: list[str]) -> Any:
    """What lies at a path in a search, as OpenSearch writes the search out; None if nothing does.

    It writes the short form `{"match": {"text": "fox"}}` in the long one, and a single clause as a list of one.
    """
    for place, part in enumerate(path):
        if isinstance(node, list):
            node = node[int(part)] if part.isascii() and part.isdigit() and int(part) < len(node) else None
        elif isinstance(node, dict):
            node = node if part == "0" and part not in node else node.get(part)
        elif path[place:] != ["query"]:
            return None
    return node


def without_rerank(call: SearchCall) -> SearchCall:
    """The search without `ext.rerank`, which it has."""
    return call.without_ext("rerank")


def taken_over(call: SearchCall) -> SearchCall:
    """A search that we rerank, without an `ext.rerank` that nothing in the engine needs any more.

    Where the engine would rerank, its own search keeps it, in case that we can't.
    """
    needless = call.pipeline in ("none", "first_stage") and asks_to_rerank(call)
    return without_rerank(call) if needless else call


def past_pipeline(call: SearchCall) -> Carrier:
    """The carrier of a search that is not reranked by the engine: without `ext.rerank`, and through no pipeline."""
    bare = without_rerank(call)
    return bare.carrier.without_parameter(KEY).carrying(edit_object(bare.body, {KEY: NO_PIPELINE}))
