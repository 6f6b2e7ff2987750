"""What is remembered of points in time, by whatever name an engine has for them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest

from es_rerank.proxy.points import KEPT_S, MAX_ANSWER_BYTES, MAX_POINTS, Points, are_searched, changes_points, has_point
from es_rerank.records import Headers, Request
from es_rerank.rules.book import make_book
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.tables import LimitSettings
from tests.proxy.search.calls import FOX, call_of
from tests.virtual import VirtualClock

RULE = Rule(name="films", indices=("films*", "books"), fields=("text",), pit=True)
BOOK = make_book([RULE], {"minilm": MinilmSettings()}, LimitSettings())
OPENINGS = [
    (b"/films/_pit?keep_alive=1m", "id", "films"),
    (b"/films-%C3%A9,books/_pit/?keep_alive=1m", "id", "films-é,books"),
    (b"/_pit?index=films&keep_alive=1m", "id", "films"),
    (b"/films/_search/point_in_time?keep_alive=1m", "pit_id", "films"),
]


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that stands still."""
    return VirtualClock()


def asked(target: bytes, method: str = "POST", body: Any = None) -> Request:
    """A request with this JSON body."""
    return Request(method=method, target=target, headers=(), body=None if body is None else json.dumps(body).encode())


def opened(points: Points, target: bytes = b"/films/_pit?keep_alive=1m", point_id: str = "p", key: str = "id") -> None:
    """The engine opened a point in time."""
    points.note_answer(asked(target), (), json.dumps({key: point_id, "_shards": {}}).encode(), BOOK)


@pytest.mark.parametrize(("target", "key", "expression"), OPENINGS)
def test_an_opening_says_what_for(clock: VirtualClock, target: bytes, key: str, expression: str) -> None:
    """The index expression of its path, or of its parameter, is known for the id that the engine gave."""
    points = Points(clock)
    assert changes_points(asked(target))
    opened(points, target, key=key)
    assert (points.find("p"), points.find("q")) == (expression, "")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((), b"no JSON"),
        ((), b'{"id": 5}'),
        ((), b'["p"]'),
        (((b"content-encoding", b"br"),), b"?"),
        (((b"content-encoding", b"gzip"),), gzip.compress(json.dumps({"id": "p" * MAX_ANSWER_BYTES}).encode())),
    ],
)
def test_an_answer_without_an_id_is_let_be(clock: VirtualClock, headers: Headers, body: bytes) -> None:
    """Whatever comes, nothing fails, and nothing is known afterwards."""
    points = Points(clock)
    points.note_answer(asked(b"/films/_pit"), headers, body, BOOK)
    assert not points._opened


def test_a_compressed_answer_is_read(clock: VirtualClock) -> None:
    """Many clients accept gzip only."""
    points = Points(clock)
    points.note_answer(asked(b"/films/_pit"), ((b"content-encoding", b"gzip"),), gzip.compress(b'{"id": "p"}'), BOOK)
    assert points.find("p") == "films"


def test_only_what_a_rule_may_cover_is_remembered(clock: VirtualClock) -> None:
    """A point in time of a system index, or of one without a rule, is never reranked."""
    points = Points(clock)
    for target in (b"/.kibana/_pit", b"/other/_pit", b"/_all/_pit", b"/" + b"films," * 200 + b"films/_pit"):
        opened(points, target)
    assert points.find("p") == ""


@pytest.mark.parametrize(
    ("path", "body"),
    [(b"/_pit", {"id": "p"}), (b"/_search/point_in_time", {"pit_id": ["p"]}), (b"/_search/point_in_time", {"id": "p"})],
)
def test_what_is_closed_is_forgotten(clock: VirtualClock, path: bytes, body: dict[str, Any]) -> None:
    """By either engine's request; other points in time stay known."""
    points = Points(clock)
    opened(points)
    opened(points, point_id="q")
    request = asked(path, "DELETE", body)
    assert changes_points(request)
    points.note_answer(request, (), b"{}", BOOK)
    assert (points.find("p"), points.find("q")) == ("", "films")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"/_search/point_in_time/_all"),
        ("POST", b"/_search"),
        ("POST", b"/_pits"),
        ("PUT", b"/films/_pit"),
        ("DELETE", b"/films/_pit"),
        ("POST", b"/films/_doc/_pit"),
    ],
)
def test_other_requests_change_nothing(method: str, target: bytes) -> None:
    """Their answers are not looked at."""
    assert not changes_points(asked(target, method))


def test_it_is_remembered_for_a_day_from_the_last_search(clock: VirtualClock) -> None:
    """A search's answer counts as use, and the id in it is known from then on, the old one too."""
    points = Points(clock)
    opened(points)
    clock.now_s += KEPT_S - 1
    call = points.located(call_of({"pit": {"id": "p"}}, expression=""), {}, BOOK)
    points.follow(call, {"pit_id": msgspec.Raw(b'"new"'), "took": msgspec.Raw(b"1")})
    points.follow(call, {"pit_id": msgspec.Raw(b'"p"')})
    clock.now_s += KEPT_S - 1
    assert (points.find("p"), points.find("new")) == ("films", "films")
    clock.now_s += 1
    assert (points.find("p"), points.find("new")) == ("", "")


def test_the_one_used_longest_ago_makes_room(clock: VirtualClock) -> None:
    """No number of openings fills the memory."""
    points = Points(clock)
    for number in range(MAX_POINTS):
        points.remember(f"p{number}", "films")
    points.remember("p0", "films")
    points.remember("new", "films")
    assert (points.find("p0"), points.find("p1"), points.find("new")) == ("films", "", "films")


def test_a_search_gets_the_indices_of_its_point_in_time(clock: VirtualClock) -> None:
    """Those that are known, or all of a rule that it names; a search that names indices keeps these."""
    points = Points(clock)
    opened(points)
    search = {"query": FOX, "pit": {"id": "p"}}

    def found(body: Any, rule: str | None = None, expression: str = "") -> tuple[str, bool]:
        call = points.located(call_of(body, expression=expression), {} if rule is None else {"rule": rule}, BOOK)
        return call.expression, call.in_point

    assert found(search) == ("films", True)
    assert found({"pit": {"id": "q"}}) == ("", True)
    assert found(search, rule="films") == ("films*,books", True)
    assert found(search, rule="nothing") == ("films", True)
    assert found(search, expression="logs") == ("logs", False)
    for point in (None, "p", 5, {"id": 5}, {}):
        assert found({"pit": point}) == ("", False)


def test_only_where_a_rule_takes_them_is_anything_done() -> None:
    """A book without such a rule, and a body without the word, cost a search nothing."""
    plain = make_book([RULE.model_copy(update={"pit": False})], {"minilm": MinilmSettings()}, LimitSettings())
    assert (are_searched(BOOK), are_searched(plain)) == (True, False)
    assert has_point(asked(b"/_search", body={"pit": {"id": "p"}}))
    assert not has_point(asked(b"/_search", body={"query": {"match": {"text": "a pit"}}}))
    assert not has_point(asked(b"/_search"))
