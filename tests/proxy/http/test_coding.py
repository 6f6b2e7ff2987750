"""Content codings: what was encoded reads back, within limits, and what is broken or unknown is refused."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body, inflated_bytes, packer_for, readable_codings

TEXT = b'{"query": {"match_all": {}}}' * 20


def encode_body(body: bytes, coding: bytes | None) -> bytes:
    """The body, packed in two parts."""
    packer = packer_for(coding)
    middle = len(body) // 2
    return packer.compress(body[:middle]) + packer.compress(body[middle:]) + packer.flush()


@given(st.binary(), st.sampled_from([None, b"", b"identity", b"gzip", b"x-gzip", b" GZIP ", b"deflate", b"Deflate"]))
def test_what_we_encode_reads_back(body: bytes, coding: bytes | None) -> None:
    """Decoding undoes encoding in every coding that we let an engine choose."""
    assert decode_body(encode_body(body, coding), coding, max_bytes=len(body)) == body


@pytest.mark.parametrize(("coding", "encoded"), [(b"gzip", gzip.compress(TEXT)), (b"deflate", zlib.compress(TEXT))])
def test_others_encoding_reads_back(coding: bytes, encoded: bytes) -> None:
    """What other libraries compress is read too."""
    assert decode_body(encoded, coding, max_bytes=len(TEXT)) == TEXT


@pytest.mark.parametrize("coding", [None, b"gzip", b"deflate"])
def test_one_byte_over_the_limit_is_refused(coding: bytes | None) -> None:
    """The limit counts the inflated body, to the byte."""
    encoded = encode_body(TEXT, coding)
    assert decode_body(encoded, coding, max_bytes=len(TEXT)) == TEXT
    with pytest.raises(UnreadableBodyError, match=f"more than {len(TEXT) - 1} bytes"):
        decode_body(encoded, coding, max_bytes=len(TEXT) - 1)


def test_a_bomb_is_refused_before_it_is_held() -> None:
    """A small body that inflates to a gigabyte must be refused without the memory for it."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(64)), packer.flush()])
    assert len(bomb) < 100_000
    assert inflated_bytes(bomb, b"gzip") >= 64 << 20
    with pytest.raises(UnreadableBodyError, match="more than 1000 bytes"):
        decode_body(bomb, b"gzip", max_bytes=1000)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_every_cut_is_noticed(coding: bytes) -> None:
    """A body that ends early is refused, wherever it was cut."""
    encoded = encode_body(TEXT, coding)
    for end in range(len(encoded)):
        with pytest.raises(UnreadableBodyError):
            decode_body(encoded[:end], coding, max_bytes=len(TEXT))


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(TEXT) + gzip.compress(TEXT), b"gzip"),
        (gzip.compress(TEXT) + b"more", b"gzip"),
        (zlib.compress(TEXT) + b"more", b"deflate"),
        (gzip.compress(TEXT)[:-8] + b"12345678", b"gzip"),
        (TEXT, b"gzip"),
        (zlib.compress(TEXT)[2:-4], b"deflate"),
        (TEXT, b"br"),
        (TEXT, b"zstd"),
        (gzip.compress(TEXT), b"gzip, identity"),
    ],
)
def test_what_we_could_only_half_read_is_refused(body: bytes, coding: bytes) -> None:
    """Trailing data, a wrong checksum, or another format or coding makes a body unreadable: none is read wrongly."""
    with pytest.raises(UnreadableBodyError):
        decode_body(body, coding, max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        (None, None),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"gzip, deflate"),
        (b"br;q=1.0, GZIP;q=0.5 ,identity;q=0", b"GZIP;q=0.5, identity;q=0"),
        (b"br", b"identity"),
        (b"*", b"identity"),
        (b"", b"identity"),
    ],
)
def test_the_engine_may_choose_only_what_we_can_read(accepted: bytes | None, asked: bytes | None) -> None:
    """Of the client's codings, those that we know are kept with their weights; if none is, we ask for `identity`."""
    assert readable_codings(accepted) == asked
