"""What a search shows of `_source`, through the whole system on the real engines, next to the engine itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT
from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

INDEX = "films-shapes"
# Bodies as they are stored, with what the engines spell in their own way as soon as they filter.
DOCUMENTS = (
    b'{"title":"robot one","text":"a robot finds love","n":1E10,"a":{"b":1,"c":[{"d":1},{"e":2}],"x":{}},"el":[]}',
    b'{ "a.b" : 5.00, "text":"two robots \\u00e9 on an island","title":"robot two","nul":null,"emp":{} }',
    b'{"title":["robot","three"],"text":["a robot",["at","sea"]],"a":[{"b":[1,2]},{"c":{"d":{}}},{}],"z":-0.0}',
    b'{"text":"the robot queen","a":{"text":"inside","title":{"deep":[[{"b":1}],[]]}},"big":12345678901234567890}',
    b'{"title":"robot \\ud83d\\ude00 five","text":"robot, robot and robot","titles":"x","tex":"y","a,b":1,"a b":2}',
    b'{"title":"","text":"robot alone","a":{"title":1,"b":{"c":{"d":[0,{"d":null}]}}},"l":[[1,{"q":1}],[]]}',
    b'{"title":"robot seven","text":"the last robot returns","half":"x\\ud800y","a":{"c":{"d":"x"}}}',
)
SCRIPTED = {"one": {"script": "1"}}
NAMES = st.sampled_from(
    ["title", "text", "a", "a.b", "a.c.d", "a.title", "emp", "el", "l.q", "a,b", "a b", "n", "half", "none", "nul"]
)
PATTERNS = NAMES | st.sampled_from(
    ["*", "t*", "*t", "*.b", "a.*", "a*d", "te*t", "", "*.*", "text.*", "titles", "**", "a."]
)
LISTS = st.lists(PATTERNS, max_size=3)
ODD = st.sampled_from([None, 7, 1.5, "", "true", {"x": 1}, [7], [["title"]], {"includes": 7}, {"includes": [None]}])
OBJECTS = st.dictionaries(st.sampled_from(["includes", "excludes", "include", "exclude"]), LISTS | PATTERNS, max_size=2)
SOURCES = st.booleans() | PATTERNS | LISTS | OBJECTS | OBJECTS | ODD
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "_source": SOURCES,
        "stored_fields": st.sampled_from([["*"], ["title"], "text", [], ["_source"], ["_source", "text"]]) | ODD,
        "fields": st.sampled_from([["title"], ["t*"], [{"field": "n"}], "title", []]) | ODD,
        "docvalue_fields": st.sampled_from([["n"], [{"field": "n"}], "n"]),
        "script_fields": st.sampled_from([{}, SCRIPTED]),
    },
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "_source": st.sampled_from(["true", "false", "", "yes"]) | LISTS.map(",".join),
        "_source_includes": LISTS.map(",".join),
        "_source_excludes": LISTS.map(",".join),
        "stored_fields": st.sampled_from(["*", "title", "_source", ""]),
    },
)


class Shapes:
    """An engine, the system before it, and the order in which the system answers when everything is shown."""

    def __init__(self, engine: Engine, system: System) -> None:
        self.engine = engine
        self.urls = {"direct": engine.url, "through": system.url}
        engine.load(INDEX, {"0": {"text": "x"}})
        send_json(f"{engine.url}/{INDEX}/_mapping", {"dynamic": False}, method="PUT")
        for number, document in enumerate(DOCUMENTS):
            send_json(f"{engine.url}/{INDEX}/_doc/{number}?refresh=true", document, method="PUT")
        self.order = [hit["_id"] for hit in self.hits(self.answer("through", {}, {})[1])]

    def answer(self, way: str, search: Any, parameters: dict[str, str]) -> tuple[int, bytes]:
        """Status and body; through the system, the status of reranking is in the body."""
        body = json.dumps({"query": {"match": {"text": "robot"}}, **search}).encode()
        target = f"{self.urls[way]}/{INDEX}/_search?{urlencode({'size': '7', **parameters})}"
        headers = {"content-type": "application/json"}
        if way == "through":
            headers["es-rerank"] = "include=status"
        try:
            with urllib.request.urlopen(urllib.request.Request(target, body, headers)) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    @staticmethod
    def hits(body: bytes) -> list[dict[str, Any]]:
        """The hits of an answer, with `_source` as it was spelled and without scores."""
        hits = RAW_LIST.decode(RAW_OBJECT.decode(RAW_OBJECT.decode(body)["hits"])["hits"])
        opened = [{key: in_order(bytes(value)) for key, value in RAW_OBJECT.decode(hit).items()} for hit in hits]
        return [{**hit, "_id": json.loads(hit["_id"]), "_score": b""} for hit in opened]


def in_order(value: bytes) -> bytes:
    """A value with the members of its objects in order of their names; everything else keeps its bytes.

    Engines put what a filter takes apart into hash tables, so their own order follows from the names.
    """
    if value[:1] == b"{":
        members = sorted(
            (json.dumps(name).encode(), in_order(bytes(part))) for name, part in RAW_OBJECT.decode(value).items()
        )
        return b"{" + b",".join(name + b":" + part for name, part in members) + b"}"
    if value[:1] == b"[":
        return b"[" + b",".join(in_order(bytes(part)) for part in RAW_LIST.decode(value)) + b"]"
    return value


@pytest.fixture(scope="module")
def shapes(real_engine: Engine, system_on: Callable[[Engine], System]) -> Shapes:
    """Documents of many shapes."""
    return Shapes(real_engine, system_on(real_engine))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(search=BODIES, parameters=st.just({}) | PARAMETERS)
def test_whatever_a_search_shows_its_hits_are_the_engines(
    shapes: Shapes, search: dict[str, Any], parameters: dict[str, str]
) -> None:
    """Each hit has the engine's own values as bytes, the order is that of a search that shows all; a refusal passes."""
    status, direct = shapes.answer("direct", search, parameters)
    through_status, through = shapes.answer("through", search, parameters)
    assert through_status == status
    if status != 200:
        assert through == direct
        return
    before = {hit["_id"]: hit for hit in shapes.hits(direct)}
    after = shapes.hits(through)
    assert {hit["_id"]: hit for hit in after} == before
    said = json.loads(through)["_es_rerank"]
    assert (said["status"], said["reason"]) == ("full", None)
    assert [hit["_id"] for hit in after] == shapes.order
