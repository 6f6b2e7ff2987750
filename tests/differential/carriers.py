"""The forms in which a search can be sent. A new form is one more line of CARRIERS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.conftest import ENGINE_NAMES
from tests.differential.comparing import answers_in
from tests.differential.drawing import PIT, as_json, lines_of
from tests.differential.wire import JSON_TYPE, LINES_TYPE, Asked

if TYPE_CHECKING:
    from collections.abc import Callable

EVERYWHERE = frozenset({"osmem", *ENGINE_NAMES})
REAL = frozenset(ENGINE_NAMES)
# The Elasticsearch builds at hand have no template language.
MUSTACHE = frozenset({"opensearch"})


def _whole(answer: bytes) -> bytes:
    return answer


def _first(answer: bytes) -> bytes:
    return answers_in(answer)[0]


def _last(answer: bytes) -> bytes:
    return answers_in(answer)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """How a search of an index is asked, and where its answer stands in the answer.

    `engines` have this form. A form that a rule must opt in to needs its key in CARRIER_RULE too. `before` and `after`
    are what has to be asked, by engine and index, before the first search and after the last one.
    """

    name: str
    asking: Callable[[str, dict[str, Any]], Asked]
    answer: Callable[[bytes], bytes] = _whole
    engines: frozenset[str] = EVERYWHERE
    before: Callable[[str, str], Asked] | None = None
    after: Callable[[str, str], Asked] | None = None


# Keys of the rule, one a line, for the forms below that need them.
CARRIER_RULE = "pit = true\ntemplates = true\n"
OTHER_SEARCH = {"query": {"match_all": {}}, "size": 1, "sort": ["n"]}


def _source(index: str, search: dict[str, Any]) -> Asked:
    source = quote(as_json(search))
    return Asked(target=f"/{index}/_search?source={source}&source_content_type=application/json")


def _body(method: str, *, chunked: bool = False) -> Callable[[str, dict[str, Any]], Asked]:
    return lambda index, search: Asked(
        method=method, target=f"/{index}/_search", headers=(JSON_TYPE,), body=as_json(search), chunked=chunked
    )


def _line(index: str, search: dict[str, Any]) -> Asked:
    pairs = [({"index": index}, OTHER_SEARCH), ({"index": index}, search)]
    return Asked(method="POST", target="/_msearch", headers=(LINES_TYPE,), body=lines_of(pairs))


def _line_of_path(index: str, search: dict[str, Any]) -> Asked:
    pairs = [({}, search), ({"index": f"{index}-none"}, OTHER_SEARCH)]
    return Asked(method="GET", target=f"/{index}/_msearch", headers=(JSON_TYPE,), body=lines_of(pairs))


# One source for all: engines compile only so many in five minutes.
VERBATIM = "{{#toJson}}search{{/toJson}}"


def _template(index: str, search: dict[str, Any]) -> Asked:
    template = {"source": VERBATIM, "params": {"search": search}}
    return Asked(method="POST", target=f"/{index}/_search/template", headers=(JSON_TYPE,), body=as_json(template))


def _template_line(index: str, search: dict[str, Any]) -> Asked:
    template = {"source": VERBATIM, "params": {"search": search}}
    pairs = [({"index": index}, {"source": VERBATIM, "params": {"search": OTHER_SEARCH}}), ({"index": index}, template)]
    return Asked(method="POST", target="/_msearch/template", headers=(LINES_TYPE,), body=lines_of(pairs))


def _in_point(_: str, search: dict[str, Any]) -> Asked:
    body = as_json({**search, "pit": {"id": PIT, "keep_alive": "5m"}})
    return Asked(method="POST", target="/_search", headers=(JSON_TYPE,), body=body)


def _open_point(engine: str, index: str) -> Asked:
    path = "_search/point_in_time" if engine == "opensearch" else "_pit"
    return Asked(method="POST", target=f"/{index}/{path}?keep_alive=5m")


def _close_point(engine: str, _: str) -> Asked:
    path, body = ("_search/point_in_time", {"pit_id": [PIT]}) if engine == "opensearch" else ("_pit", {"id": PIT})
    return Asked(method="DELETE", target=f"/{path}", headers=(JSON_TYPE,), body=as_json(body))


CARRIERS = (
    Carrier(name="plain", asking=_body("POST")),
    Carrier(name="get in chunks", asking=_body("GET", chunked=True)),
    Carrier(name="source", asking=_source, engines=REAL),
    Carrier(name="line", asking=_line, answer=_last),
    Carrier(name="line under a path", asking=_line_of_path, answer=_first),
    Carrier(name="template", asking=_template, engines=MUSTACHE),
    Carrier(name="line of a template", asking=_template_line, answer=_last, engines=MUSTACHE),
    Carrier(name="point in time", asking=_in_point, engines=REAL, before=_open_point, after=_close_point),
)
