"""Reads the body of a `_rank_eval`, as strictly and as leniently as the engines do. Pure.

An error says where in the body it is, and then what the engines say of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.own.rank_eval_metrics import METRICS
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.rank_eval_metrics import Metric

DEFAULT_CONCURRENT = 10
SPEC_KEYS = ("templates", "requests", "metric", "max_concurrent_searches")
REQUEST_KEYS = ("id", "request", "ratings", "summary_fields", "params", "template_id")
RATING_KEYS = ("_index", "_id", "rating")
SMALLEST_INT, LARGEST_INT = -(2**31), 2**31 - 1
MUST_NOT_HAVE = {
    "suggest": "Query in rated requests should not contain a suggest section.",
    "aggregations": "Query in rated requests should not contain aggregations.",
    "aggs": "Query in rated requests should not contain aggregations.",
    "highlight": "Query in rated requests should not contain a highlighter section.",
}
MUST_NOT_USE = ("explain", "profile")
AMBIGUOUS = "Ambiguous rated request: Set both, verbatim test request and test request template parameters."
NO_REQUEST = "Need to set at least test request or test request template parameters."
NO_TEMPLATE = "If template parameters are supplied need to set id of template to apply them to too."


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedRequest:
    """One request: its search (JSON), or a template's id with the parameters that fill it; and its ratings.

    `ratings` are by (`_index`, `_id`), in the order of the request. `summary_fields` of `_source` are to be shown.
    """

    id: str
    ratings: Mapping[tuple[str, str], int]
    search: bytes | None = None
    template_id: str | None = None
    params: Mapping[str, Any]
    summary_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEvalSpec:
    """The whole request. `templates` are by id: an object with `source` or `id`, as the engines know a script."""

    metric: Metric
    requests: tuple[RatedRequest, ...]
    templates: Mapping[str, Mapping[str, Any]]
    max_concurrent_searches: int


def read_spec(body: bytes) -> RankEvalSpec:
    """The request of a body. Raises CallerError that names the place and what is wrong there."""
    if not body.strip():
        raise CallerError("request body or source parameter is required")
    value = read_object(body)
    if value is None:
        raise CallerError("[rank_eval] the body must be one JSON object, and no key may come twice")
    raw = RAW_OBJECT.decode(body)
    _allow(value, SPEC_KEYS, "rank_eval")
    missing = [name for name in ("requests", "metric") if name not in value]
    if missing:
        raise CallerError(f"Required [{', '.join(missing)}]")
    templates = _read_templates(_list(value.get("templates", []), "templates"))
    wanted = _list(value["requests"], "requests")
    requests = tuple(
        _read_request(one, RAW_OBJECT.decode(source), f"requests[{number}]")
        for number, (one, source) in enumerate(zip(map(_object, wanted), RAW_LIST.decode(raw["requests"]), strict=True))
    )
    if not requests:
        reason = "Cannot evaluate ranking if no search requests with rated results are provided. Seen: []"
        raise CallerError(f"[requests] {reason}")
    for number, request in enumerate(requests):
        if request.template_id is not None and request.template_id not in templates:
            known = ", ".join(templates)
            raise CallerError(
                f"[requests[{number}].template_id] no template [{request.template_id}]; there are [{known}]"
            )
    concurrent = _int(value.get("max_concurrent_searches", DEFAULT_CONCURRENT), "max_concurrent_searches")
    if concurrent < 1:
        raise CallerError("[max_concurrent_searches] maxConcurrentSearchRequests must be positive")
    return RankEvalSpec(
        metric=_read_metric(value["metric"]),
        requests=requests,
        templates=templates,
        max_concurrent_searches=concurrent,
    )


def check_search(search: Mapping[str, Any], where: str) -> None:
    """Raise CallerError for a search with parts that no rated request may have."""
    for name, reason in MUST_NOT_HAVE.items():
        if search.get(name) is not None:
            raise CallerError(f"[{where}] {reason}")
    for name in MUST_NOT_USE:
        if search.get(name) in (True, "true"):
            raise CallerError(f"[{where}] Query in rated requests should not use {name}.")


def _read_metric(value: Any) -> Metric:
    if not isinstance(value, dict):
        raise CallerError(f"[metric] must be an object, was {_shown(value)}")
    if len(value) != 1:
        raise CallerError(f"[metric] must have exactly one of [{', '.join(METRICS)}], was {_shown(value)}")
    [(name, parameters)] = value.items()
    kind = METRICS.get(name)
    if kind is None:
        raise CallerError(f"[metric] unknown field [{name}]; allowed are [{', '.join(METRICS)}]")
    if not isinstance(parameters, dict):
        raise CallerError(f"[metric.{name}] must be an object, was {_shown(parameters)}")
    known = {one.name for one in fields(kind)} - {"name"}
    for key in parameters:
        if key not in known:
            raise CallerError(f"[metric.{name}] unknown field [{key}]; allowed are [{', '.join(sorted(known))}]")
    if "maximum_relevance" in known and "maximum_relevance" not in parameters:
        raise CallerError(f"[metric.{name}] Required [maximum_relevance]")
    read: dict[str, Any] = {
        key: (_bool if key in ("normalize", "ignore_unlabeled") else _int)(one, f"metric.{name}.{key}")
        for key, one in parameters.items()
    }
    if read.get("relevant_rating_threshold", 1) < 0:
        reason = "Relevant rating threshold for precision must be positive integer."
        raise CallerError(f"[metric.{name}.relevant_rating_threshold] {reason}")
    if read.get("k", 1) < 1:
        raise CallerError(f"[metric.{name}.k] Window size k must be positive.")
    return kind(**read)


def _read_templates(values: list[Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for number, value in enumerate(map(_object, values)):
        where = f"templates[{number}]"
        _allow(value, ("id", "template"), where)
        _require(value, ("id", "template"), where)
        found[_text(value["id"], f"{where}.id")] = _object(value["template"])
    return found


def _read_request(value: dict[str, Any], raw: Mapping[str, msgspec.Raw], where: str) -> RatedRequest:
    _allow(value, REQUEST_KEYS, where)
    _require(value, ("id", "ratings"), where)
    name = _text(value["id"], f"{where}.id")
    search = _object(value["request"]) if "request" in value else None
    params = _object(value.get("params", {}))
    template_id = _text(value["template_id"], f"{where}.template_id") if "template_id" in value else None
    if search is not None and (params or template_id is not None):
        raise CallerError(f"[{where}] {AMBIGUOUS}")
    if search is None and not params:
        raise CallerError(f"[{where}] {NO_REQUEST}")
    if params and template_id is None:
        raise CallerError(f"[{where}] {NO_TEMPLATE}")
    if search is not None:
        check_search(search, where)
    return RatedRequest(
        id=name,
        ratings=_read_ratings(_list(value["ratings"], f"{where}.ratings"), name, where),
        search=None if search is None else bytes(raw["request"]),
        template_id=template_id,
        params=params,
        summary_fields=_texts(value.get("summary_fields", []), f"{where}.summary_fields"),
    )


def _read_ratings(values: list[Any], name: str, where: str) -> dict[tuple[str, str], int]:
    ratings: dict[tuple[str, str], int] = {}
    for number, value in enumerate(map(_object, values)):
        place = f"{where}.ratings[{number}]"
        _allow(value, RATING_KEYS, place)
        _require(value, RATING_KEYS, place)
        key = (_text(value["_index"], f"{place}._index"), _text(value["_id"], f"{place}._id"))
        if key in ratings:
            said = msgspec.json.encode({"_index": key[0], "_id": key[1]}).decode()
            raise CallerError(f"[{place}] Found duplicate rated document key [{said}] in evaluation request [{name}]")
        ratings[key] = _int(value["rating"], f"{place}.rating")
    return ratings


def _allow(value: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in value:
        if name not in names:
            raise CallerError(f"[{where}] unknown field [{name}]; allowed are [{', '.join(names)}]")


def _require(value: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    missing = [name for name in names if name not in value]
    if missing:
        raise CallerError(f"[{where}] Required [{', '.join(missing)}]")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CallerError(f"[rank_eval] expected an object, was {_shown(value)}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise CallerError(f"[{where}] must be a list, was {_shown(value)}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of texts, or one of them, as the engines take it."""
    return tuple(_text(one, where) for one in (value if isinstance(value, list) else [value]))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise CallerError(f"[{where}] must be a text, was {_shown(value)}")
    return value


def _bool(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise CallerError(f"[{where}] must be true or false, was {_shown(value)}")


def _int(value: Any, where: str) -> int:
    """A whole number, as the engines read one: of a fraction the whole part, and a text that is a number too."""
    number = value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise CallerError(f'[{where}] For input string: "{value}"') from None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise CallerError(f"[{where}] must be a whole number, was {_shown(value)}")
    if not SMALLEST_INT <= number <= LARGEST_INT:
        raise CallerError(f"[{where}] Numeric value ({value}) out of range of int")
    return int(number)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return f"[{text if len(text) <= 80 else text[:77] + '...'}]"
