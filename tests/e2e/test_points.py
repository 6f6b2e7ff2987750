"""Points in time through the whole system: pages to the end of the hits, next to the engine itself."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

INDEX = "films-points"
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
QUERY = {"multi_match": {"query": "a robot who finds love on an island", "fields": ["text", "title"]}}
WINDOW = 20
RULES = f"""
[limits]
max_deadline_s = 120.0
[[rules]]
name = "points"
indices = ["films-points*"]
fields = ["text"]
window = {WINDOW}
any_language = true
deadline_s = 60.0
pit = true
[[rules]]
name = "closed"
indices = ["films-closed*"]
fields = ["text"]
"""
SORTS: dict[str, list[Any]] = {
    "score": ["_score"],
    "id": [{"_score": "desc"}, {"n": "asc"}],
    "ties": ["_score", {"tie": "desc"}, {"n": "asc"}],
}


@pytest.fixture(scope="module")
def engine(real_engine: Engine) -> Iterator[Engine]:
    """Films on an engine: some score alike, and some have no text that could be scored."""
    chance = random.Random(7)
    films = {
        f"f{number}": {
            "n": number,
            "tie": number % 3,
            "title" if number % 11 == 3 else "text": " ".join(chance.choices(WORDS, k=4 + number % 5)),
        }
        for number in range(70)
    }
    real_engine.load(INDEX, films)
    yield real_engine
    send_json(f"{real_engine.url}/{INDEX}", method="DELETE")


@pytest.fixture(scope="module")
def system(engine: Engine, run_system: Callable[..., System]) -> System:
    """The system before it, whose rule takes points in time."""
    system = run_system(engine.url, extra=RULES)
    if not system.workers():
        system.start_worker()
    return system


def opening_of(engine: Engine, index: str = INDEX) -> str:
    """The target that opens a point in time on an engine."""
    how = "_search/point_in_time" if engine.name == "opensearch" else "_pit"
    return f"/{index}/{how}?keep_alive=5m"


def close(url: str, engine: Engine, point: str) -> None:
    """Close a point in time."""
    closing = ("/_search/point_in_time", {"pit_id": [point]})
    path, body = closing if engine.name == "opensearch" else ("/_pit", {"id": point})
    send_json(f"{url}{path}", body, method="DELETE")


@contextmanager
def point_on(url: str, engine: Engine) -> Iterator[str]:
    """A point in time that is opened through this URL, and closed in the end."""
    opened = send_json(f"{url}{opening_of(engine)}", method="POST")
    point = opened["pit_id" if engine.name == "opensearch" else "id"]
    try:
        yield point
    finally:
        close(url, engine, point)


def search_of(point: str, size: int, **more: Any) -> dict[str, Any]:
    """The body of a search in a point in time."""
    return {"query": QUERY, "pit": {"id": point, "keep_alive": "5m"}, "size": size, **more}


def sent(url: str, target: str, body: Any = None) -> tuple[int, bytes]:
    """Status and body of the answer to a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + target, data, {"content-type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read()


def told(url: str, body: dict[str, Any], **wishes: Any) -> dict[str, Any]:
    """The answer of a search that asks for the status, and for this."""
    ext = {"es_rerank": {"include": ["status"], **wishes}}
    answer: dict[str, Any] = send_json(f"{url}/_search", {**body, "ext": ext}, method="POST")
    return answer


def pages_behind(url: str, point: str, size: int, sort: list[Any], **wishes: Any) -> list[dict[str, Any]]:
    """All pages by `search_after`, to the end of the hits."""
    pages: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while not pages or pages[-1]["hits"]["hits"]:
        assert len(pages) < 100
        pages.append(told(url, search_of(point, size, sort=sort, **after), **wishes))
        point = pages[-1]["pit_id"]
        if pages[-1]["hits"]["hits"]:
            after = {"search_after": pages[-1]["hits"]["hits"][-1]["sort"]}
    return pages


def ids_in(pages: list[dict[str, Any]]) -> list[str]:
    """The ids of all hits in order."""
    return [hit["_id"] for page in pages for hit in page["hits"]["hits"]]


@pytest.mark.parametrize("size", [7, 20, 30])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_by_cursor_tile_the_ranked_list(engine: Engine, system: System, sort: str, size: int) -> None:
    """Each hit that the engine finds comes once, in the order of the pages by `from` and `size`, whatever is cached."""
    if engine.name == "opensearch" and sort == "score":
        pytest.skip("OpenSearch gives hits that are sorted by their score alone no sort values")
    keys = SORTS[sort]
    with point_on(system.url, engine) as point:
        question = f"A robot who finds love {sort} {size}"
        pages = pages_behind(system.url, point, size, keys, query=question)
        whole = send_json(f"{engine.url}/_search", search_of(point, 100, sort=keys), method="POST")
        ranked = told(system.url, search_of(point, 100, sort=keys), query=question)
        assert (ranked["_es_rerank"]["status"], ranked["_es_rerank"]["rule"]) == ("full", "points")
        assert ids_in([ranked])[:WINDOW] != ids_in([whole])[:WINDOW]
        assert ids_in([ranked])[WINDOW:] == ids_in([whole])[WINDOW:]
        assert sorted(ids_in(pages)) == sorted(ids_in([whole]))
        shown = [hit for page in pages for hit in page["hits"]["hits"]]
        assert shown == ranked["hits"]["hits"]
        assert {page["hits"]["total"]["value"] for page in pages} == {whole["hits"]["total"]["value"]}
        assert {page["_es_rerank"]["reason"] for page in pages} == {None, "past_window"}
        tiles = [
            told(system.url, search_of(point, size, sort=keys) | {"from": at}, query=question)
            for at in range(0, 100, size)
        ]
        assert [hit for page in tiles for hit in page["hits"]["hits"]] == shown


def test_a_point_that_was_opened_elsewhere_needs_its_rules_name(engine: Engine, system: System) -> None:
    """Without it, the engine's own answer comes, and the status says why; with it, pages are as in any other."""
    with point_on(engine.url, engine) as point:
        passed = told(system.url, search_of(point, 10))
        assert (passed["_es_rerank"]["reason"], passed["_es_rerank"]["rule"]) == ("pit", None)
        direct = send_json(f"{engine.url}/_search", search_of(point, 10), method="POST")
        assert passed["hits"] == direct["hits"]
        pages = pages_behind(system.url, point, 9, SORTS["id"], rule="points")
        assert pages[0]["_es_rerank"]["status"] == "full"
        assert len(set(ids_in(pages))) == len(ids_in(pages)) == direct["hits"]["total"]["value"]
        closed = told(system.url, search_of(point, 10), rule="closed")
        assert (closed["_es_rerank"]["reason"], closed["_es_rerank"]["rule"]) == ("pit", "closed")


def test_an_opening_comes_back_byte_for_byte(engine: Engine, system: System) -> None:
    """The refusal of an index that is not there, too."""
    with point_on(system.url, engine) as point, point_on(engine.url, engine) as direct:
        assert len(point) == len(direct)
    status, body = sent(system.url, opening_of(engine, f"{INDEX}-none"))
    assert (status, body) == sent(engine.url, opening_of(engine, f"{INDEX}-none"))
    assert status == 404


def test_a_closed_point_is_the_engines_error(engine: Engine, system: System) -> None:
    """Byte for byte, for a first page and for one behind a cursor."""
    with point_on(system.url, engine) as point:
        other = send_json(f"{system.url}{opening_of(engine)}", method="POST")
    gone = other["pit_id" if engine.name == "opensearch" else "id"]
    close(engine.url, engine, gone)
    for more in ({}, {"sort": SORTS["id"], "search_after": [1.0, 3]}):
        body = search_of(gone, 5, **more)
        assert sent(system.url, "/_search", body) == sent(engine.url, "/_search", body)
        assert sent(system.url, "/_search", body)[0] == 404
    assert point != gone


def test_many_searches_at_once_may_each_have_a_point(engine: Engine, system: System) -> None:
    """Each gets what it would get alone, by its place and by its cursor."""
    with point_on(system.url, engine) as point:
        first = search_of(point, 6, sort=SORTS["id"])
        after = told(system.url, first)["hits"]["hits"][-1]["sort"]
        searches = [first, {**first, "from": 6}, {**first, "search_after": after}, {**first, "search_after": [0.0, 1]}]
        alone = [told(system.url, body)["hits"] for body in searches]
        lines = "".join(json.dumps({}) + "\n" + json.dumps(body) + "\n" for body in searches)
        many = send_json(f"{system.url}/_msearch", lines.encode(), method="POST")["responses"]
        assert [one["hits"] for one in many] == alone
        assert alone[1]["hits"] == alone[2]["hits"]
