"""JSON that is edited: what is read for certain, and that an edit keeps the bytes of everything else."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT, SPARE_LEVELS, edit_object, has_member, open_object, read_object

if TYPE_CHECKING:
    from collections.abc import Callable

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PLAIN = [b"0", b"-0", b"-0.0", b"1E10", b"1e+05", b"18446744073709551616", b"null", b"true", b"false"]
DOUBTFUL = [
    b"01", b"1.", b".5", b"+1", b"1e-999", b"1e308", b"1e309", b"1e999", b"-1e999", b"0e999", b"9e-400",
    b"0.1e1000000000000000000000", b"1e-99999999999999999999", b"NaN", b"Infinity", b"-Infinity", b"9" * 308,
    b"9" * 309, b"9" * 400 + b".0", b"9" * 299 + b"e9", b"9" * 250 + b"e99", b"9" * 4300, b"9" * 4301,
    b"-" + b"9" * 4300, b"0x1", b"1_0", b"True", b"nul", b"", b"/**/", b"'a'",
]  # fmt: skip
PLAIN_PIECES = [rb"a", rb"b", rb"\u0061", rb"\u0062", rb"\n", rb"\/", rb"\\", "é☕😀".encode(), b"\x7f"]
DOUBTFUL_PIECES = [
    rb"\ud83d\ude00", rb"\ud800", rb"\uDBFF", rb"\udc00", rb"\uDFFF", rb"ud800", rb"\x", rb"\u12", b"\t", b"\x00",
    b"\xff", b"\xed\xa0\x80",
]  # fmt: skip
# Most of what is generated must be plain, or the test would compare only refusals.
PIECES = st.sampled_from([*PLAIN_PIECES * 6, *DOUBTFUL_PIECES])
STRINGS = st.lists(PIECES, max_size=3).map(lambda pieces: b'"' + b"".join(pieces) + b'"')
KEYS = st.sampled_from([*(b'"%c"' % letter for letter in b"abcdefgh"), rb'"\u0061"', b'""']) | STRINGS
LEAVES = st.sampled_from([*PLAIN * 15, *DOUBTFUL]) | STRINGS
BLANKS = st.sampled_from([b"", b"", b"", b" ", b"\n\t\r"])
ENDS = st.sampled_from([*[b"", b" "] * 8, b"\x0c", b"\xc2\xa0", b"\xef\xbb\xbf", b"x"])


def in_object(members: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """An object of these keys, blanks and values."""
    return b"{" + b",".join(key + blank + b":" + value for key, blank, value in members) + b"}"


LIKE_JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.lists(st.tuples(KEYS, BLANKS, inner), max_size=3).map(in_object)
    ),
    max_leaves=6,
)
NEARLY_OBJECTS = st.lists(st.tuples(KEYS, BLANKS, LIKE_JSON), max_size=4).map(in_object)


def read_strictly(body: bytes) -> Any:
    """What two strict parsers read from a body without a repeated key, with levels of nesting in reserve; else None."""

    def unique(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            raise ValueError

    def fits(digits: str) -> None:  # msgspec refuses a float that is too large, and takes a whole number of any size
        if math.isinf(float(digits)):
            raise ValueError

    try:
        parsed = msgspec.json.decode(body)
        nested = b"[" * SPARE_LEVELS + body + b"]" * SPARE_LEVELS
        json.loads(nested, object_pairs_hook=unique, parse_int=fits)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


@given(st.tuples(ENDS, NEARLY_OBJECTS | LIKE_JSON, ENDS).map(b"".join) | st.binary(max_size=8))
@example(b"{}],[{}")
@example(b"{},{}")
@example(b"")
@example(b'{"a":1e999}')
@example(b'{"a":' + b"9" * 309 + b"}")
@example(b'{"a":{"b":[-1e999]}}')
@example('{"size": 1}'.encode("utf-16"))
def test_what_is_read_is_what_two_strict_parsers_agree_on(body: bytes) -> None:
    """An object is read exactly if msgspec reads it and no key comes twice, and it has the same values."""
    assert repr(read_object(body)) == repr(read_strictly(body))


@pytest.mark.parametrize("depth", [1, 400, 600, 700, 740, 780, 820, 900, 1100, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_read_as_far_as_two_strict_parsers_go(depth: int, opening: bytes, closing: bytes) -> None:
    """Nested lists or objects are refused from the same depth on by both readers, and never with another error."""
    body = b'{"query":' + opening * depth + b"1" + closing * depth + b"}"
    assert (read_object(body) is None) == (read_strictly(body) is None)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_objects_are_read_as_they_are(search: dict[str, Any]) -> None:
    """Every JSON object is read with its own values, whether its characters are escaped or not."""
    for escaped in (False, True):
        assert read_object(json.dumps(search, ensure_ascii=escaped).encode()) == search


@given(NEARLY_OBJECTS)
def test_what_was_read_can_be_edited(body: bytes) -> None:
    """Every body that was read can be edited, and the result reads as the same object with the change."""
    found = read_object(body)
    if found is not None:
        assert read_object(edit_object(body, {"size": 7})) == {**found, "size": 7}


def deeper(frames: int, act: Callable[[], Any]) -> Any:
    """What `act` gives when it is called so many frames deeper on the stack."""
    return act() if frames == 0 else deeper(frames - 1, act)


def nested(depth: int) -> bytes:
    """A body that is nested so deep."""
    return b'{"query": ' + b"[" * depth + b"]" * depth + b"}"


def test_a_body_that_was_read_can_be_edited_deeper_on_the_stack() -> None:
    """However deep a body nests, the first reading decides: a later one never runs out of stack."""
    depths = [depth for depth in range(0, 1000, 20) if read_object(nested(depth)) is not None]
    assert 400 < max(depths) < 980
    assert deeper(150, lambda: edit_object(nested(max(depths)), {"size": 1}))


@given(
    st.dictionaries(st.text(), JSON_VALUES, max_size=5),
    st.dictionaries(st.sampled_from(["ext", "fields", "size"]), JSON_VALUES, max_size=3),
    st.sampled_from([None, 1, 3]),
)
def test_editing_an_object_keeps_every_other_value(
    search: dict[str, Any], changes: dict[str, Any], indent: int | None
) -> None:
    """Keys keep their place and values their bytes, the client's own blanks and line ends included."""
    body = json.dumps(search, indent=indent).encode()
    edited = edit_object(body, changes)
    expected = {**search, **changes}
    for key, value in changes.items():
        if value is None:
            del expected[key]
    assert json.loads(edited) == expected
    assert list(json.loads(edited)) == list(expected)
    before, after = RAW_OBJECT.decode(body), RAW_OBJECT.decode(edited)
    for key in search.keys() - changes.keys():
        assert bytes(after[key]) == bytes(before[key])


def test_editing_keeps_numbers_as_they_were_written() -> None:
    """No digit, sign or exponent of an untouched value changes."""
    body = b'{"a":1E10,"b":1.0,"c":12345678901234567890123,"d":-0.0,"e":"\\u00e9\\/","f":[ 1 , 2 ],"size":5}'
    assert edit_object(body, {"size": None}) == body.replace(b',"size":5', b"")


def test_no_body_can_be_edited() -> None:
    """A key can be set where there is no body yet."""
    assert edit_object(b"", {"fields": ["text"]}) == b'{"fields":["text"]}'


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"---\na: 1\n", b'{"a":}', b'{"\xff":1}', b"[" * 5000])
def test_only_objects_are_opened(body: bytes) -> None:
    """Anything that isn't a JSON object, or that can't be read, is None."""
    assert open_object(body) is None


HALVES = st.sampled_from([r"\ud800", r"x\uDC00y", r"\ud83d\ud83d", r"\ud800 [{,:\" \\"])


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5), HALVES, st.sampled_from([None, 1]), st.booleans())
def test_half_a_surrogate_pair_leaves_the_rest_of_a_level_as_it_is(
    members: dict[str, Any], half: str, indent: int | None, deep: bool
) -> None:
    """An object or a list opens into the same parts, byte for byte, with one more part that no strict parser reads."""
    spoiled = f'"{half}"'
    value = f'{{"a":[{spoiled}]}}' if deep else spoiled
    parts = [json.dumps(member, indent=indent) for member in members.values()]
    keys = [json.dumps(key) for key in members]
    pairs = [f"{key} : {part}" for key, part in zip(keys, parts, strict=True)]
    found = RAW_OBJECT.decode(("{" + ", ".join([*pairs, f'"the spoiled one":{value}']) + "}").encode())
    assert [bytes(part).decode() for part in found.values()] == [*parts, value]
    assert list(found) == [*members, "the spoiled one"]
    listed = RAW_LIST.decode(("[" + ", ".join([*parts, value]) + " ]").encode())
    assert [bytes(part).decode() for part in listed] == [*parts, value]


@pytest.mark.parametrize(
    "broken",
    [
        rb'{"a":"\ud800"',
        rb'{"a":"\ud800",}',
        rb'{"a":"\ud800"}}',
        rb'{"\ud800"}',
        rb'["\ud800",]',
        rb'["\ud800"]]',
        b'"\xff"',
    ],
)
def test_what_has_no_shape_is_not_opened(broken: bytes) -> None:
    """Half a surrogate pair does not make broken JSON readable."""
    for opener in (RAW_OBJECT, RAW_LIST):
        with pytest.raises(ValueError, match=r"JSON|member|value|[Ii]nput|Expected"):
            opener.decode(broken)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"ext":{"es_rerank":{}}}', True),
        (rb'{"ext":{"es_r\u0065rank":{}}}', True),
        (rb'{"a":"\ud800","ext":{"x":[{"ext":1}],"es_rerank":{}}}', True),
        (b'{/* a comment: "{" */"ext"/* one more */:{"es_rerank":1', True),
        (b'{"ext":{"es_rerank":{},"es_rerank":{}},"ext":{}}', True),
        (b'{"query":{"match":{"ext":{"es_rerank":{}}}}}', False),
        (b'{"query":"es_rerank"/* "ext":{"es_rerank":{}} */}', False),
        (b'{"query":"ext","x":{"es_rerank":1}}', False),
        (b'{"ext":["es_rerank"]}', False),
        (b'{"ext":"es_rerank"}', False),
        (b'{"ext":{"a":{"es_rerank":1}}}', False),
        (b'[{"ext":{"es_rerank":1}}]', False),
        (b"", False),
        (b'}}"ext":{"es_rerank":1}', False),
    ],
)
def test_a_member_is_found_in_json_that_is_not_strict(body: bytes, found: bool) -> None:
    """A name counts only as the name of a member, at its place, and not in a text, a list or a comment."""
    assert has_member(body, "ext", "es_rerank") is found


@given(st.dictionaries(st.sampled_from(["ext", "a"]), JSON_VALUES, max_size=3), st.binary(max_size=9))
def test_finding_a_member_never_fails(members: dict[str, Any], rest: bytes) -> None:
    """Whatever bytes follow, the answer is yes or no, and it is right for JSON."""
    body = json.dumps(members).encode()
    inner = members.get("ext")
    assert has_member(body, "ext", "a") is (isinstance(inner, dict) and "a" in inner)
    has_member(body[:-1] + rest, "ext", "a")
