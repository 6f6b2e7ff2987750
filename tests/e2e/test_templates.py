"""Search templates through the whole system, next to the engine itself and to the searches that are made of them."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Engine, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

INDEX = "films-template"
CLOSED = "closed-template"
STORED = "es-rerank-films"
RULES = """
[limits]
max_deadline_s = 120.0
[[rules]]
name = "films"
indices = ["films-template"]
fields = ["title", "text"]
any_language = true
deadline_s = 60.0
templates = true
[[rules]]
name = "closed"
indices = ["closed-template"]
fields = ["title", "text"]
any_language = true
deadline_s = 60.0
"""
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
WISH = {"es_rerank": {"include": ["status"]}}
# Each with parameters that fill it, and the keys of the search that it makes spread over all that mustache has here.
SOURCES: tuple[Any, ...] = (
    {"query": {"match": {"text": "{{words}}"}}, "size": "{{size}}{{^size}}40{{/size}}"},
    '{"query": {"match": {"text": {{#toJson}}words{{/toJson}}}}, "from": {{from}}{{^from}}0{{/from}}, "size": 40}',
    """
    {"query": {"bool": {"must": [{"match": {"text": "{{words}}"}}]
        {{#named}}, "filter": {"exists": {"field": "n"}}{{/named}}}},
        "track_total_hits": {{named}}{{^named}}false{{/named}} {{#size}}, "size": {{size}}{{/size}}}
    """,
    '{"query": {"match": {"text": "{{#join}}list{{/join}}"}}, "size": 40, "_source": {{#toJson}}shown{{/toJson}}}',
    '{"query": {"match_all": {}}, "size": 3}',
    '{"query": {"match": {"text": "{{words}}"}}, "sort": [{"n": "asc"}], "size": 2}',
    '{"query": {"match": {"text": "{{words}}"}}, "size": 1, "size": 2}',
    '{"query": {"match": {"text": "{{words}}"}}} and more',
    '{"query": {"nonsense": {"text": "{{words}}"}}}',
    '{"query": {{#open}}',
    "{{words}}",
    {"query": {"match": {"text": "love"}}, "explain": True, "from": 2, "size": 5},
)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "words": st.sampled_from(["love on an island", 'the "glass" queen', "Köln \\ 東京 😀 robot", "{{size}} war"]),
        "size": st.sampled_from([1, 7, 40]),
        "from": st.sampled_from([0, 3, 25]),
        "named": st.just(value=True),
        "list": st.just(["robot", "love"]),
        "shown": st.sampled_from([False, ["title"], {"excludes": ["te*"]}]),
    },
)
REQUESTS = st.builds(
    lambda source, params, more: {**source, **params, **more},
    st.sampled_from([*({"source": source} for source in SOURCES), {"id": STORED}, {"id": "nothing"}, {}]),
    st.fixed_dictionaries({}, optional={"params": PARAMS}),
    st.sampled_from([{}, {}, {}, {"explain": True}, {"profile": False}, {"explain": False}, {"odd": 1}]),
)
PARAMETERS = st.sampled_from(
    [
        "",
        "",
        "typed_keys=true",
        "rest_total_hits_as_int=true",
        "from=3&size=2",
        "q=prison&sort=n:asc&_source=false",
        "preference=_local&request_cache=true",
        "odd=1",
        "filter_path=hits.hits._id,hits.total,status",
        "explain=true&stored_fields=_none_",
    ]
)


@pytest.fixture(scope="module")
def engine(opensearch: Engine) -> Iterator[Engine]:
    """Films in an index whose rule opts in and in one whose rule does not, and a stored template."""
    chance = random.Random(7)
    films = {
        f"f{number}": {"title": f"Film {number}", "n": number, "text": " ".join(chance.choices(WORDS, k=12))}
        for number in range(40)
    }
    for index in (INDEX, CLOSED):
        opensearch.load(index, films)
    limit = {"script.context.template.max_compilations_rate": "1000/1m"}
    send_json(f"{opensearch.url}/_cluster/settings", {"transient": limit}, method="PUT")
    script = {"lang": "mustache", "source": SOURCES[0]}
    send_json(f"{opensearch.url}/_scripts/{STORED}", {"script": script}, method="PUT")
    try:
        yield opensearch
    finally:
        send_json(f"{opensearch.url}/{INDEX},{CLOSED}", method="DELETE")
        send_json(f"{opensearch.url}/_scripts/{STORED}", method="DELETE")
        send_json(f"{opensearch.url}/_cluster/settings", {"transient": dict.fromkeys(limit)}, method="PUT")


@pytest.fixture(scope="module")
def system(engine: Engine, run_system: Callable[..., System]) -> System:
    """The system before it."""
    system = run_system(engine.url, extra=RULES)
    if not system.workers():
        system.start_worker()
    return system


def ask(url: str, target: str, body: bytes | None, **headers: str) -> tuple[int, bytes]:
    """Status and body of an answer."""
    sent = {"content-type": "application/json", **headers} if body is not None else headers
    request = urllib.request.Request(url + target, body, sent, method="GET" if body is None else "POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def told(answer: bytes) -> dict[str, Any]:
    """The members of an answer, without the time that the engine took."""
    members: dict[str, Any] = json.loads(answer)
    return {key: value for key, value in members.items() if key != "took"}


def lines_of(pairs: list[tuple[Any, Any]]) -> bytes:
    """The body of an `_msearch`."""
    return b"".join(json.dumps(line).encode() + b"\n" for pair in pairs for line in pair)


def check_reranked(ours: dict[str, Any], own: dict[str, Any], plain: dict[str, Any]) -> None:
    """An answer has the hits of the search alone, through us, and all else is as the engine has it for a template."""
    assert [(hit["_id"], hit["_score"]) for hit in ours["hits"]["hits"]] == [
        (hit["_id"], hit["_score"]) for hit in plain["hits"]["hits"]
    ]
    whole = {hit["_id"]: hit for hit in own["hits"]["hits"]}
    for hit in ours["hits"]["hits"]:
        assert not hit.keys() ^ own["hits"]["hits"][0].keys()
        if hit["_id"] in whole:
            kept = {"_score": 0, "_explanation": 0}
            assert {**hit, **kept} == {**whole[hit["_id"]], **kept}
    assert len(ours["hits"]["hits"]) == len(own["hits"]["hits"])
    for answer in (ours, own):
        answer["hits"] = {key: value for key, value in answer["hits"].items() if key not in ("hits", "max_score")}
    assert ours == own


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(template=REQUESTS, parameters=PARAMETERS, in_url=st.booleans())
def test_a_template_is_answered_as_its_search(
    engine: Engine, system: System, template: dict[str, Any], parameters: str, *, in_url: bool
) -> None:
    """Reranked, it has the hits that the search made of it has; and where it is not ours, it is the engine's answer."""
    target = f"/{INDEX}/_search/template?{parameters}"
    body: bytes | None = json.dumps(template).encode()
    if in_url:
        target += f"&source_content_type=application/json&source={quote(body or b'')}"
        body = None
    direct, through = ask(engine.url, target, body), ask(system.url, target, body)
    assert through[0] == direct[0]
    asked = {**template, "ext": WISH}
    status, blocked = ask(system.url, f"/{INDEX}/_search/template", json.dumps(asked).encode())
    block = json.loads(blocked).get("_es_rerank", {"status": "refused"})
    if status != 200 or block["status"] != "full" or not block["window"] or direct[0] != 200:
        assert told(through[1]) == told(direct[1])
        return
    if "filter_path" in parameters:
        assert told(through[1]).keys() == told(direct[1]).keys()
        return
    rendered = send_json(f"{engine.url}/_render/template", template, method="POST")["template_output"]
    wanted = [one for one in parameters.split("&") if one.partition("=")[0] in ("typed_keys", "rest_total_hits_as_int")]
    plain = ask(system.url, f"/{INDEX}/_search?{'&'.join(wanted)}", json.dumps(rendered).encode())
    check_reranked(told(through[1]), told(direct[1]), told(plain[1]))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(st.sampled_from([INDEX, INDEX, CLOSED]), REQUESTS.filter(bool)), min_size=1, max_size=6)
)
def test_each_of_many_templates_is_answered_as_alone(
    engine: Engine, system: System, pairs: list[tuple[str, dict[str, Any]]]
) -> None:
    """Errors of the engine stand in their places, in its words, and touch no other."""
    body = lines_of([({"index": index}, template) for index, template in pairs])
    direct = ask(engine.url, "/_msearch/template", body)
    through = ask(system.url, "/_msearch/template", body)
    assert through[0] == direct[0]
    if direct[0] != 200:
        assert through == direct
        return
    for (index, template), ours, own in zip(
        pairs, json.loads(through[1])["responses"], json.loads(direct[1])["responses"], strict=True
    ):
        alone = ask(system.url, f"/{index}/_search/template", json.dumps(template).encode())
        assert {**ours, "took": 0, "status": 0} == {**json.loads(alone[1]), "took": 0, "status": 0}
        assert ours.keys() == own.keys()
        assert ours["status"] == own["status"]


def test_the_rule_that_opts_in_gives_the_models_order(engine: Engine, system: System) -> None:
    """Another order than the engine's, the same hits, and the status says so; pages tile the list."""
    params = {"words": "a robot who finds love on an island"}
    body = {"id": STORED, "params": params, "ext": WISH}
    status, through = ask(system.url, f"/{INDEX}/_search/template", json.dumps(body).encode())
    answer = json.loads(through)
    assert (status, answer["_es_rerank"]["status"], answer["_es_rerank"]["rule"]) == (200, "full", "films")
    ours = [hit["_id"] for hit in answer["hits"]["hits"]]
    own = send_json(
        f"{engine.url}/{INDEX}/_search/template", {key: body[key] for key in ("id", "params")}, method="POST"
    )
    engines = [hit["_id"] for hit in own["hits"]["hits"]]
    assert sorted(ours) == sorted(engines)
    assert ours != engines
    paged = {"source": '{"query": {"match": {"text": "{{words}}"}}, "from": {{from}}, "size": 7}'}
    pages = [
        send_json(
            f"{system.url}/{INDEX}/_search/template",
            {**paged, "params": {**params, "from": start}},
            method="POST",
        )["hits"]["hits"]
        for start in range(0, len(ours), 7)
    ]
    assert [hit["_id"] for page in pages for hit in page] == ours


WISHED = {"query": {"match": {"text": "{{words}}"}}, "ext": {"es_rerank": {"rerank": False}}, "size": 4}
PLAIN = {"query": {"match": {"text": "{{words}}"}}, "size": 4}
FILLED = {"params": {"words": "the queen of glass"}}


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("asked", "headers"),
    [
        ({"source": PLAIN, **FILLED, "ext": {"es_rerank": {"rerank": False}}}, {}),
        ({"source": WISHED, **FILLED}, {}),
        ({"source": json.dumps(WISHED), **FILLED, "ext": {"es_rerank": {"alpha": 0.5}}}, {}),
        ({"source": PLAIN, **FILLED}, {"ES-Rerank": "off"}),
        ({"source": WISHED, **FILLED, "explain": True}, {"ES-Rerank": "off"}),
    ],
)
def test_the_engine_sees_nothing_of_what_is_asked_of_us(
    engine: Engine, system: System, asked: dict[str, Any], headers: dict[str, str], *, many: bool
) -> None:
    """At the top of the request, in the template or in a header: what passes is the engine's own answer without it."""
    plain = {"source": PLAIN, **FILLED, **({"explain": True} if "explain" in asked else {})}
    target, index = ("/_msearch/template", {"index": INDEX}) if many else (f"/{INDEX}/_search/template", None)
    sent, own = (lines_of([(index, one)]) if many else json.dumps(one).encode() for one in (asked, plain))
    direct, through = ask(engine.url, target, own), ask(system.url, target, sent, **headers)
    assert (through[0], direct[0]) == (200, 200)
    answers = [json.loads(body)["responses"][0] if many else json.loads(body) for body in (direct[1], through[1])]
    assert {**answers[0], "took": 0} == {**answers[1], "took": 0}


def test_what_is_asked_in_the_request_wins_over_the_template(engine: Engine, system: System) -> None:
    """The template says what holds where the request is silent; a wrong wish in either is a 400 of ours."""
    assert engine.name == "opensearch"
    asked = {"source": {**WISHED, "ext": {"es_rerank": {"rerank": False, "include": ["status"]}}}, **FILLED}
    target = f"{system.url}/{INDEX}/_search/template"
    assert send_json(target, asked, method="POST")["_es_rerank"]["reason"] == "asked_off"
    asked["ext"] = {"es_rerank": {"rerank": True}}
    assert send_json(target, asked, method="POST")["_es_rerank"]["status"] == "full"
    for wrong in (
        {"source": PLAIN, **FILLED, "ext": {"es_rerank": {"alpha": 7}}},
        {"source": {**PLAIN, "ext": {"es_rerank": {"alpha": 7}}}, **FILLED},
    ):
        status, body = ask(system.url, f"/{INDEX}/_search/template", json.dumps(wrong).encode())
        assert (status, "[ext.es_rerank.alpha]" in json.loads(body)["error"]["reason"]) == (400, True)


def test_templates_of_a_rule_that_does_not_opt_in_pass(engine: Engine, system: System) -> None:
    """As they are, and without a line in the log; one that asks for its status is told why."""
    body = {"source": PLAIN, **FILLED}
    target = f"/{CLOSED}/_search/template"
    through = ask(system.url, target, json.dumps(body).encode(), **{"x-opaque-id": "untold"})
    assert told(through[1]) == told(ask(engine.url, target, json.dumps(body).encode())[1])
    asked = ask(system.url, target, json.dumps({**body, "ext": WISH}).encode(), **{"x-opaque-id": "told"})
    status = json.loads(asked[1])["_es_rerank"]
    assert status == {**status, "status": "skipped", "reason": "template", "rule": "closed"}
    system.await_log('"told"')
    assert [line["opaque_id"] for line in system.log_lines() if line.get("opaque_id") in ("told", "untold")] == ["told"]


def test_an_engine_without_templates_refuses_them_in_its_own_words(
    elasticsearch: Engine, run_system: Callable[..., System]
) -> None:
    """Elasticsearch without mustache: byte for byte, for one template and for many, with a wish and without."""
    system = run_system(elasticsearch.url, extra=RULES)
    one, many = {"source": PLAIN, **FILLED}, {"source": PLAIN, **FILLED, "ext": WISH}
    for target, direct_body, bodies in (
        (f"/{INDEX}/_search/template", json.dumps(one).encode(), [json.dumps(body).encode() for body in (one, many)]),
        (
            "/_msearch/template",
            lines_of([({"index": INDEX}, one)]),
            [lines_of([({"index": INDEX}, body)]) for body in (one, many)],
        ),
    ):
        direct = ask(elasticsearch.url, target, direct_body)
        assert direct[0] == 400
        for body in bodies:
            assert ask(system.url, target, body) == direct


PIECES = st.sampled_from(
    [b"{}", b"\n", b" ", b"{{", b"}}", b"]", b"\x00", b"\xff", b'"', b",", b'{"index":"films-template"}', b'{"source":']
    + [json.dumps({"source": source}).encode() for source in SOURCES[:4]]
    + [
        b'{"source":"{\\"query\\":{}},\\"x\\":{}"}',
        b'{"id":7}',
        b'{"source":[1]}',
        b'{"params":{"words":[{}]},"id":"nothing"}',
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(PIECES, max_size=6).map(b"".join) | st.binary(max_size=40), many=st.booleans())
def test_no_body_gets_another_status_than_from_the_engine(
    engine: Engine, system: System, body: bytes, *, many: bool
) -> None:
    """Broken templates of every kind: no failure of ours, and a refusal is the engine's, byte for byte."""
    target = f"/{INDEX}/_msearch/template" if many else f"/{INDEX}/_search/template"
    direct, through = ask(engine.url, target, body), ask(system.url, target, body)
    assert through[0] == direct[0]
    if direct[0] != 200:
        assert through == direct
