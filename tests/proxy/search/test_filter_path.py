"""`filter_path`, compared with what the real engines leave of their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.filter_path import filter_answer, without_paths
from es_rerank.proxy.search.pretty import pretty_print

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
    raw = msgspec.Raw(b'{"a.b":1,"a":[{"b":2,"c":3},{"b":4}]}')
    assert msgspec.json.encode(without_paths(raw, [("a.b",), ("a", "b")])) == b'{"a":[{"c":3}]}'
    assert without_paths(raw, [("a.b",), ("a",)]) is None
