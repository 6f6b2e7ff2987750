"""The engines' `?pretty` layout, compared with what the real engines print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.pretty import pretty_print

GOLDEN = Path(__file__).parents[2] / "golden"
ENGINES = ("opensearch", "elasticsearch")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++')


def printed_token_by_token(body: bytes) -> bytes:
    """The simple way: what comes before and behind each token."""
    pieces: list[bytes] = []
    depth, opened = 0, False
    for token in TOKEN.findall(body):
        if token in b"}]":
            depth -= 1
            pieces += [b" " if opened else b"\n" + b"  " * depth, token]
            opened = False
            continue
        if opened:
            pieces.append(b"\n" + b"  " * depth)
        opened = token in b"{["
        depth += opened
        pieces.append({b":": b" : ", b",": b",\n" + b"  " * depth}.get(token, token))
    return b"".join(pieces) + b"\n"


@given(st.dictionaries(st.text(), JSON_VALUES), st.sampled_from([True, False]), st.sampled_from([None, 1]))
def test_it_prints_as_token_by_token(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Whatever the JSON and however it was laid out, the layout is that of each token for itself."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert pretty_print(body) == printed_token_by_token(body)


@pytest.fixture(params=ENGINES)
def golden(request: pytest.FixtureRequest) -> Any:
    """What a real engine answered."""
    return json.loads((GOLDEN / f"{request.param}.json").read_text(encoding="utf-8"))


def test_a_compact_answer_prints_as_the_engine_prints_it(golden: Any) -> None:
    """The engine's compact answer, printed here, equals its pretty answer to the byte."""
    assert pretty_print(golden["everything"].encode()) == golden["pretty"].encode()


def test_what_is_pretty_stays(golden: Any) -> None:
    """Printing the engine's own pretty answer again changes nothing."""
    assert pretty_print(golden["pretty"].encode()) == golden["pretty"].encode()


@pytest.mark.parametrize(
    ("compact", "printed"),
    [
        (b"{}", b"{ }\n"),
        (b"[]", b"[ ]\n"),
        (b'{"a":1}', b'{\n  "a" : 1\n}\n'),
        (b'{"a":{},"b":[]}', b'{\n  "a" : { },\n  "b" : [ ]\n}\n'),
        (b"[[],{}]", b"[\n  [ ],\n  { }\n]\n"),
        (b'{"a":[1,{"b":[2]}]}', b'{\n  "a" : [\n    1,\n    {\n      "b" : [\n        2\n      ]\n    }\n  ]\n}\n'),
        (b'{"{":"}","[":",:\\"]"}', b'{\n  "{" : "}",\n  "[" : ",:\\"]"\n}\n'),
        (b'{"a":-1.50e+10,"b":null}', b'{\n  "a" : -1.50e+10,\n  "b" : null\n}\n'),
        (b'{ "a" :\n{ } ,"b": [ \t] }', b'{\n  "a" : { },\n  "b" : [ ]\n}\n'),
    ],
)
def test_the_layout(compact: bytes, printed: bytes) -> None:
    """Two blanks for each level, blanks around colons and in empty brackets, and a line end at the end."""
    assert pretty_print(compact) == printed


@given(st.dictionaries(st.text(), JSON_VALUES), st.sampled_from([True, False]), st.sampled_from([None, 1]))
def test_compacting_gives_back_every_token(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Printing changes blanks between tokens and nothing else."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    printed = pretty_print(body)
    assert msgspec.json.format(printed, indent=-1) == msgspec.json.format(body, indent=-1)
    assert pretty_print(printed) == printed


@pytest.mark.parametrize("lines", [1, 100, 50_000])
def test_parts_of_a_long_answer_join_without_a_seam(lines: int) -> None:
    """However long an answer is, each of its lines is printed as in a short one."""
    value = {"{}": [{"a": "{}", "b": {}, "c": [], "d": "[],"}] * lines}
    one = [b'      "a" : "{}",', b'      "b" : { },', b'      "c" : [ ],', b'      "d" : "[],"']
    items = b",\n".join([b"    {\n" + b"\n".join(one) + b"\n    }"] * lines)
    assert pretty_print(msgspec.json.encode(value)) == b'{\n  "{}" : [\n' + items + b"\n  ]\n}\n"


def test_deep_and_long_json_is_printed() -> None:
    """JSON is printed as deep as it can be read, and however long its strings are; deeper JSON stays as it is."""
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    assert pretty_print(deep).count(b"\n") == 1_000 + 1
    too_deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    assert pretty_print(too_deep) == too_deep
    long = b'{"a":"' + b'x\\"' * 500_000 + b'"}'
    assert pretty_print(long) == b'{\n  "a" : "' + b'x\\"' * 500_000 + b'"\n}\n'
