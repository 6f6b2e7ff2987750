"""Raw query strings: read as the engines read them, and edited so that every other byte stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.query_string import edit_query, parse_query

PIECES = st.binary(max_size=8).map(
    lambda raw: raw.translate(None, delete=bytes(range(33)) + b"&;?#%+" + bytes(range(127, 256)))
)


def test_parameters_are_decoded_and_the_last_of_several_counts() -> None:
    """Names and values are decoded, a semicolon separates them like an ampersand, and the last of a name counts."""
    query = b"size=3&q=a+b%20c%3Dd=e;s%69ze=4&&empty=&bare&caf%C3%A9=%E9;x=1%3B2"
    assert parse_query(query) == {
        "size": "4",
        "q": "a b c=d=e",
        "empty": "",
        "bare": "",
        "café": "\ufffd",
        "x": "1;2",
    }


@given(st.lists(st.tuples(PIECES, st.sampled_from([b"&", b";"]))), st.sets(st.sampled_from("abc")))
def test_editing_a_query_keeps_every_other_byte(pieces: list[tuple[bytes, bytes]], drop: set[str]) -> None:
    """What is not dropped stays as it is, in order, and what is added comes at the end and can be read again."""
    query = b"".join(piece + end for piece, end in pieces)
    kept = b"".join(piece + end for piece, end in pieces if piece.split(b"=")[0].decode() not in drop)
    edited = edit_query(b"/a%20b/_search?" + query, drop=drop, add={"n w": "1&2"})
    path, _, rest = edited.partition(b"?")
    assert path == b"/a%20b/_search"
    assert rest == kept + (b"&" if kept and kept[-1:] not in b"&;" else b"") + b"n%20w=1%262"
    assert parse_query(rest)["n w"] == "1&2"


@pytest.mark.parametrize(
    ("target", "edited"),
    [
        (b"/_search", b"/_search"),
        (b"/_search?from=1", b"/_search"),
        (b"/_search?q=a", b"/_search?q=a"),
        (b"/_search?from=1&q=a?b;fr%6Fm=2", b"/_search?q=a?b;"),
    ],
)
def test_dropping_parameters(target: bytes, edited: bytes) -> None:
    """A parameter is dropped however its name is spelt, and the question mark is dropped with the last parameter."""
    assert edit_query(target, drop={"from"}, add={}) == edited
