"""Raw query strings: read as the engines read them, and edited so that every other byte stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.query_string import decode, edit_query, parse_query

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


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"caf\xe9", "caf\xe9"),
        ("日".encode(), "\xe6\x97\xa5"),
        ("日".encode() + b"%20x", "日 x"),
        (b"%E6\x97\xa5", "日"),
        (b"%C3%A9 caf\xe9", "é caf\ufffd"),
        (b"\xe9%zz", "\ufffd%zz"),
        (b"\x80\xff", "\x80\xff"),
    ],
)
@pytest.mark.parametrize("plus", [True, False])
def test_raw_bytes_are_utf_8_beside_an_escape_and_latin_1_without_one(raw: bytes, text: str, *, plus: bool) -> None:
    """The engines read bytes above 0x7F so; that they do is tested on them (tests/relay/test_engines.py)."""
    assert decode(raw, plus=plus) == text


def test_a_plus_is_an_escape_only_where_it_means_a_blank() -> None:
    """In a query a plus is a blank, and makes the bytes beside it UTF-8; in a path it is a plus."""
    assert decode("日+x".encode(), plus=True) == "日 x"
    assert decode("é+".encode(), plus=False) == "\xc3\xa9+"
    assert parse_query("q=日+x&é=日".encode()) == {"q": "日 x", "\xc3\xa9": "\xe6\x97\xa5"}


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
