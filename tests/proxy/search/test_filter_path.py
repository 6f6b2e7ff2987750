"""`filter_path`, compared with what the real engines leave of their answers."""

from __future__ import annotations

import json
import random
import re
import urllib.request
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.filter_path import MAX_COMPARISONS, filter_answer
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.source_filter import star_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import Engine

GOLDEN = {
    name: json.loads((Path(__file__).parents[2] / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("opensearch", "elasticsearch")
}
NAMES = st.sampled_from(["a", "b", "ab", "a.b", "*", "?", "[a]", "\\", ""])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(NAMES, JSON_VALUES, max_size=4)


PATTERNS = st.lists(
    st.text(alphabet="ab*?[]\\", max_size=4) | st.sampled_from(["a", "b", "*", "**", "a*", "*b", "a*b", "a*a"]),
    min_size=1,
    max_size=4,
).map(".".join)
FILTERS = st.lists(PATTERNS | PATTERNS.map("-{}".format), min_size=1, max_size=6).map(",".join)


def filtered_one_by_one(body: bytes, filter_path: str) -> bytes:
    """The simple way: each name is compared with the next name of each path that is left."""
    includes: list[tuple[str, ...]] = []
    excludes: list[tuple[str, ...]] = []
    for pattern in filter(None, (part.strip() for part in filter_path.split(","))):
        names = re.split(r"(?<!\\)\.", pattern.removeprefix("-"))
        path = tuple(star_pattern(name.replace("\\.", ".")) for name in names)
        (excludes if pattern.startswith("-") else includes).append(path)
    kept: Any = json.loads(body)
    if includes:
        kept = included(kept, includes)
    if excludes and kept is not None:
        kept = not_excluded(kept, excludes)
    return msgspec.json.encode({} if kept is None else kept)


def included(value: Any, paths: Iterable[tuple[str, ...]]) -> Any:
    """What the paths lead into, None for nothing."""
    if isinstance(value, dict):
        members = {}
        for name, inner in value.items():
            rest = left_behind(paths, name)
            part = inner if () in rest else included(inner, rest) if rest else None
            if part is not None or (inner is None and () in rest):
                members[name] = part
        return members or None
    if isinstance(value, list):
        return [part for part in (included(item, paths) for item in value) if part is not None] or None
    return None


def not_excluded(value: Any, paths: Iterable[tuple[str, ...]]) -> Any:
    """What the paths don't lead to, None for nothing."""
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            rest = left_behind(paths, name)
            if () not in rest:
                part = not_excluded(inner, rest) if rest else inner
                if part is not None or inner is None:
                    kept[name] = part
        return None if value and not kept else kept
    if isinstance(value, list):
        pairs = [(item, not_excluded(item, paths)) for item in value]
        parts = [part for item, part in pairs if part is not None or item is None]
        return None if value and not parts else parts
    return value


def left_behind(paths: Iterable[tuple[str, ...]], name: str) -> set[tuple[str, ...]]:
    """What is left of each path whose next name this one fits."""
    rest: set[tuple[str, ...]] = set()
    for path in paths:
        if path[0] == "**":
            rest |= {path, path[1:]}
        elif fnmatchcase(name, path[0]):
            rest.add(path[1:])
    return rest


@given(OBJECTS, FILTERS)
def test_all_paths_at_once_leave_what_each_for_itself_would(value: dict[str, Any], filter_path: str) -> None:
    """Whatever the filter and the answer, what is left is what comparing each name with each path leaves."""
    body = msgspec.json.encode(value)
    assert filter_answer(body, filter_path) == filtered_one_by_one(body, filter_path)


@given(
    st.text(alphabet="ab.?[", max_size=6),
    st.text(alphabet="ab*?[", max_size=6).filter(lambda pattern: pattern.strip("-")),
)
def test_only_stars_mean_something_in_a_name(name: str, pattern: str) -> None:
    """A name is kept if the pattern, all of it but the stars literal, fits all of it."""
    fits = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    body = msgspec.json.encode({name: {"x": 1}})
    assert filter_answer(body, pattern) == (body if fits else b"{}")


@pytest.mark.engines
def test_random_filters_leave_what_a_real_engine_leaves(real_engine: Engine) -> None:
    """Filters made by chance of the answer's own names give the engine's bytes, `took` apart."""
    chance = random.Random(7)
    source = {
        "title": "red fox",
        "text": "a red fox",
        "tags": [{"b": 1, "c": [{"d": 2}, {"d": 3}]}, {"b": 4}],
        "deep": {"deeper": {"deepest": {"x": 1.50, "y": None}}, "x": [[1, 2], [3]]},
        "a.b": {"c": True},
    }
    real_engine.load("filtered", {str(number): {**source, f"only{number}": number} for number in range(3)})
    names = ["hits", "_source", "took", "_shards", "total", "max_score", "title", "t*", "*e*", "d*p", "deep", "deeper"]
    names += ["*", "**", "**", "_*", "only1", "only*", "x", "tags", "b", "a", "c", "d", "value", "nope", "?", "[a]"]

    def answered(filter_path: str) -> bytes:
        url = f"{real_engine.url}/filtered/_search?q=text:fox&filter_path={filter_path}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            return re.sub(rb'"took":[0-9]+', b'"took":1', reply.read())

    everything = answered("**")
    for _ in range(300):
        paths = [".".join(chance.choices(names, k=chance.randint(1, 4))) for _ in range(chance.randint(1, 5))]
        paths += [f"hits.hits._source.{path}" for path in paths[:2]]
        filter_path = ",".join(chance.choice(("", "", "-")) + path for path in paths)
        assert filter_answer(everything, filter_path) == answered(filter_path), filter_path


def test_a_long_filter_on_many_hits_is_one_step_for_each_name() -> None:
    """480 patterns on 2,000 hits: each different name is compared once, and no pattern is compiled."""
    hits = [{"_id": str(number), "_source": {"title": "x", "text": "y", "year": number}} for number in range(2_000)]
    body = msgspec.json.encode({"hits": {"hits": hits}})
    filter_path = ",".join(f"**.*{number}x*" for number in range(480))
    assert filter_answer(body, filter_path) == b"{}"
    assert filter_answer(body, f"{filter_path},hits.hits._id") == msgspec.json.encode(
        {"hits": {"hits": [{"_id": str(number)} for number in range(2_000)]}}
    )


def test_a_filter_that_would_take_very_long_is_left_out() -> None:
    """An answer made of different names, and a filter of patterns that fit none: the answer stays whole."""
    patterns = 1_000
    filter_path = ",".join(f"*{number}_*" for number in range(patterns))
    few = msgspec.json.encode({f"n{number}": 1 for number in range(MAX_COMPARISONS // patterns)})
    assert filter_answer(few, filter_path) == b"{}"
    many = msgspec.json.encode({f"n{number}": 1 for number in range(MAX_COMPARISONS // patterns + 1)})
    assert filter_answer(many, filter_path) == many


@pytest.mark.parametrize(
    ("engine", "filter_path"), [(engine, path) for engine, case in GOLDEN.items() for path in case["filtered"]]
)
def test_an_answer_is_filtered_as_the_engine_filters_it(engine: str, filter_path: str) -> None:
    """Whatever the filter, the bytes are those that the engine answers."""
    case = GOLDEN[engine]
    assert filter_answer(case["everything"].encode(), filter_path) == case["filtered"][filter_path].encode()


@pytest.mark.parametrize(
    ("engine", "filter_path"),
    [(engine, path) for engine, case in GOLDEN.items() for path in case["pretty_filtered"]],
)
def test_a_filtered_answer_is_printed_as_the_engine_prints_it(engine: str, filter_path: str) -> None:
    """Filtering a pretty answer and then printing it gives the engine's bytes too."""
    case = GOLDEN[engine]
    filtered = filter_answer(case["pretty"].encode(), filter_path)
    assert pretty_print(filtered) == case["pretty_filtered"][filter_path].encode()


@pytest.mark.parametrize("engine", GOLDEN)
@pytest.mark.parametrize("filter_path", ["", ",", " , ,"])
def test_a_filter_without_a_path_filters_nothing(engine: str, filter_path: str) -> None:
    """A filter of nothing but commas and blanks leaves every byte as it is."""
    plain = GOLDEN[engine]["plain"].encode()
    assert filter_answer(plain, filter_path) == plain


@pytest.mark.parametrize(
    ("filter_path", "left"),
    [
        ("-a.x", {"e": {}, "f": []}),
        ("-**.x", {"e": {}, "f": []}),
        ("-a.y", {"a": [{"x": 1}, []], "e": {}, "f": []}),
        ("-e.x", {"a": [{"x": 1}, []], "e": {}, "f": []}),
        ("e,f", {"e": {}, "f": []}),
        ("e.x,f.x", {}),
    ],
)
def test_what_was_empty_stays_and_what_is_emptied_goes(filter_path: str, left: dict[str, Any]) -> None:
    """An excluding filter removes what it empties, and keeps what was empty before, as Elasticsearch does."""
    body = {"a": [{"x": 1}, []], "e": {}, "f": []}
    if filter_path in ("-a.x", "-**.x"):
        left = {"a": [[]], **left}
    assert json.loads(filter_answer(json.dumps(body).encode(), filter_path)) == left


def test_values_keep_their_bytes() -> None:
    """What is kept is kept as it was written, numbers and escapes included."""
    body = b'{"a":{"x":1E10,"y":-0.0,"z":"\\u00e9\\/"},"b":12345678901234567890123}'
    assert filter_answer(body, "a.*,b,-a.y") == body.replace(b',"y":-0.0', b"")


@given(OBJECTS, st.sampled_from(["**", "*", "*,**", "-\x00nope", "**,-\x00nope"]))
def test_a_filter_for_everything_keeps_everything(value: dict[str, Any], filter_path: str) -> None:
    """A filter that includes all, or excludes only what is not there, changes no byte."""
    body = msgspec.json.encode(value)
    assert filter_answer(body, filter_path) == body


@given(OBJECTS, st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "-a", "-**.b"]), min_size=1).map(".".join))
def test_filtering_twice_is_filtering_once(value: dict[str, Any], filter_path: str) -> None:
    """An answer that the engine has filtered may be filtered again."""
    once = filter_answer(msgspec.json.encode(value), filter_path)
    assert filter_answer(once, filter_path) == once


@given(OBJECTS, st.text(alphabet="ab*?[]\\.,- -", max_size=20) | st.text())
def test_any_filter_gives_an_object(value: dict[str, Any], filter_path: str) -> None:
    """Any filter on any object gives an object that holds nothing new."""
    left = json.loads(filter_answer(msgspec.json.encode(value), filter_path))
    assert isinstance(left, dict)
    assert left.keys() <= value.keys()


def test_an_answer_nested_too_deep_to_walk_stays_whole() -> None:
    """An answer that is nested too deep for the filter is given unfiltered rather than not at all."""
    body = b'{"a":[' * 450 + b"1" + b"]}" * 450
    assert filter_answer(body, "**.b") == body
    assert filter_answer(body, "-**.b") == body
    assert filter_answer(b'{"a":[' * 150 + b"1" + b"]}" * 150, "**.b") == b"{}"


def test_a_pattern_full_of_stars_is_matched_fast() -> None:
    """No pattern takes long on a long name."""
    body = msgspec.json.encode({"a" * 10_000: 1})
    assert filter_answer(body, "*a" * 50 + "*b") == b"{}"


def test_paths_name_keys_with_dots() -> None:
    """A name in a path is a whole key, dots included, and the objects on the way stay if something remains in them."""
    body = b'{"a.b":1,"a":[{"b":2,"c":3},{"b":4}]}'
    assert filter_answer(body, r"-a\.b,-a.b") == b'{"a":[{"c":3}]}'
    assert filter_answer(body, r"-a\.b,-a") == b"{}"
