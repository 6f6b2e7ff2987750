"""Messages between proxy and worker: what was written can be read, and anything else is a WireError."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from es_rerank import wire
from es_rerank.judgment import Cut, Judgment
from es_rerank.wire import Arrival, Claim, End, Outcome, WireError

texts = st.text(max_size=20)
claims = st.integers(0, 5).flatmap(
    lambda count: st.builds(
        Claim,
        query=texts,
        instruction=texts,
        texts=st.lists(texts, min_size=count, max_size=count),
        keys=st.lists(texts, min_size=count, max_size=count),
        budget_tokens=st.integers(0, 4096),
        keep_reasoning=st.booleans(),
        lifetime_ms=st.integers(1, 10**6),
    )
)
judgments = st.builds(Judgment, rank_score=st.floats(0, 10)) | st.builds(
    Judgment,
    distribution=st.lists(st.floats(0, 1), min_size=11, max_size=11)
    .filter(lambda shares: sum(shares) > 0)
    .map(lambda shares: tuple(share / max(1.0, sum(shares)) for share in shares))
    .filter(lambda shares: sum(shares) > 0),
    think_tokens=st.integers(0, 4096),
    cut=st.sampled_from(get_args(Cut)),
    truncated=st.booleans(),
)
outcomes = st.builds(Outcome, index=st.integers(0, 10_000), judgment=st.none() | judgments)
arrivals = st.builds(
    Arrival,
    query_id=texts,
    outcomes=st.lists(outcomes, max_size=5),
    end=st.sampled_from(get_args(End)),
    reason=texts,
)

CLAIM = Claim(
    fingerprint="f", query="question", instruction="task", texts=["one", "two"], keys=["k1", "k2"], lifetime_ms=5
)
ARRIVAL = Arrival(query_id="id", outcomes=[Outcome(index=0, judgment=Judgment(rank_score=4.5))])
DEEP = b"\x91" * 100_000 + b"\xc0"
"""A list in a list in a list: deeper than can be read."""


def packed(*members: Any) -> bytes:
    """A claim's bytes with these members, right or wrong."""
    return zstandard.compress(msgspec.msgpack.encode(members))


@given(claims)
def test_a_claim_is_read_as_it_was_written(claim: Claim) -> None:
    """Encoding and decoding a claim gives the claim."""
    assert wire.decode_claim(wire.encode_claim(claim)) == claim


@given(arrivals)
def test_an_arrival_is_read_as_it_was_written(arrival: Arrival) -> None:
    """Encoding and decoding an arrival gives the arrival, each score to its last bit."""
    assert wire.decode_arrival(wire.encode_arrival(arrival)) == arrival


def test_half_an_emoji_becomes_a_question_mark() -> None:
    """A lone surrogate, which UTF-8 can't hold, becomes a question mark, so that the rest of its text is scored."""
    broken = Claim(
        fingerprint="f",
        query="q\ud83d",
        instruction="i\udc80",
        texts=["ok", "a\ud83db"],
        keys=["k1", "k2"],
        lifetime_ms=5,
    )
    read = wire.decode_claim(wire.encode_claim(broken))
    assert (read.query, read.instruction, read.texts, read.keys) == ("q?", "i?", ["ok", "a?b"], ["k1", "k2"])


def test_a_claim_is_much_smaller_than_its_texts() -> None:
    """Claims are kept in Redis, so they are compressed."""
    claim = Claim(
        fingerprint="f",
        query="q",
        instruction="i",
        texts=["a train leaves at noon. " * 300] * 100,
        keys=["k"] * 100,
        lifetime_ms=5,
    )
    assert len(wire.encode_claim(claim)) < sum(map(len, claim.texts)) / 4


@pytest.mark.parametrize("version", [0, wire.VERSION + 1])
def test_another_version_is_named(version: int) -> None:
    """A message of another version is refused, and the text says which of them this side speaks."""
    expected = f"version {version}: this side speaks {wire.VERSION}"
    with pytest.raises(WireError, match=expected):
        wire.decode_claim(packed(version, "q", "i", [], []))
    with pytest.raises(WireError, match=expected):
        wire.decode_arrival(msgspec.msgpack.encode(msgspec.structs.replace(ARRIVAL, version=version)))


def test_a_newer_version_with_more_members_is_still_called_a_version() -> None:
    """A message of a newer version with more members is refused for its version, not for its members."""
    with pytest.raises(WireError, match="message version"):
        wire.decode_claim(packed(wire.VERSION + 1, "q", "i", [], [], "new"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no frame",
        msgspec.msgpack.encode([wire.VERSION, "q", "i", [], []]),
        zstandard.compress(b""),
        zstandard.compress(b"text"),
        zstandard.compress(DEEP),
        zstandard.compress(b"\x99" + msgspec.msgpack.encode([wire.VERSION, "q", "i", [], [], 0, False, 5])[1:] + DEEP),
        zstandard.compress(b"\x98\x02\xa1\xff\xa1i\x90\x90\x00\xc2\x05"),
        packed(),
        packed(wire.VERSION, "q", "i", []),
        packed(wire.VERSION, "q", "i", [1], ["k"]),
        packed("1", "q", "i", [], []),
        wire.encode_claim(CLAIM)[:-5],
        zstandard.compress(wire.encode_arrival(ARRIVAL)),
    ],
    ids=[
        "empty", "no-frame", "uncompressed", "empty-frame", "text", "deep", "deep-behind", "no-utf8", "no-members",
        "too-few", "number-as-text", "text-as-version", "cut", "an-arrival",
    ],
)  # fmt: skip
def test_what_is_no_claim_is_a_wire_error(data: bytes) -> None:
    """Bytes that are not a claim give a WireError, and no other error."""
    with pytest.raises(WireError):
        wire.decode_claim(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        DEEP,
        b"\x96" + wire.encode_arrival(ARRIVAL)[1:] + DEEP,
        b"\x95\x02\xa1\xff\x90\xa0\xa0",
        msgspec.msgpack.encode([wire.VERSION]),
        msgspec.msgpack.encode([wire.VERSION, "id", [], "finished"]),
        msgspec.msgpack.encode([wire.VERSION, "id", [["0", {"rank_score": 4.5}]]]),
        msgspec.msgpack.encode([wire.VERSION, "id", [[0, {"rank_score": float("nan")}]]]),
        msgspec.msgpack.encode([wire.VERSION, "id", [[0, {"rank_score": float("inf")}]]]),
        msgspec.msgpack.encode([wire.VERSION, "id", [[0, {"rank_score": 10.5}]]]),
        msgspec.msgpack.encode([wire.VERSION, "id", [[0, {"rank_score": -0.5}]]]),
        wire.encode_arrival(ARRIVAL)[:-1],
        wire.encode_claim(CLAIM),
    ],
    ids=[
        "empty", "text", "deep", "deep-behind", "no-utf8", "too-few", "unknown-end", "index-as-text", "nan",
        "infinite", "high", "low", "cut", "a-claim",
    ],
)  # fmt: skip
def test_what_is_no_arrival_is_a_wire_error(data: bytes) -> None:
    """Bytes that are not an arrival give a WireError; so does an invalid score, which would spoil every fused score."""
    with pytest.raises(WireError):
        wire.decode_arrival(data)


@given(st.binary())
def test_random_bytes_are_a_wire_error(data: bytes) -> None:
    """Noise, compressed or not, is neither a claim nor an arrival."""
    for read, message in ((wire.decode_claim, data), (wire.decode_claim, zstandard.compress(data))):
        with pytest.raises(WireError):
            read(message)
    with pytest.raises(WireError):
        wire.decode_arrival(data)


def frame_of(size: int, blocks: bytes) -> bytes:
    """A zstd frame (RFC 8878) whose header says that it inflates to `size` bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + blocks


def zeros(count: int) -> bytes:
    """Blocks of zstd that inflate to this many zero bytes, each block of four bytes to 128 KiB."""
    sizes = [131_072] * (count // 131_072) + [count % 131_072]
    last = len(sizes) - 1
    headers = [(size << 3 | 1 << 1 | (place == last)).to_bytes(3, "little") for place, size in enumerate(sizes)]
    return b"".join(header + b"\0" for header in headers)


def test_the_frames_of_this_test_are_zstd() -> None:
    """The bomb below is refused for its size, not for being misbuilt."""
    assert zstandard.decompress(frame_of(300_000, zeros(300_000))) == bytes(300_000)


@pytest.mark.parametrize("size", [wire.MAX_CLAIM_BYTES + 1, 2**40, 2**62])
def test_a_zip_bomb_is_refused_before_it_goes_off(size: int) -> None:
    """A frame whose header says that it holds more than a claim may is refused without allocating memory for it."""
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match=str(wire.MAX_CLAIM_BYTES)):
            wire.decode_claim(frame_of(size, zeros(300_000)))
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_frame_that_hides_its_size_is_refused() -> None:
    """A frame that does not say its size is refused: our own frames say it, and another could be a bomb."""
    compressor = zstandard.ZstdCompressor().compressobj()
    with pytest.raises(WireError):
        wire.decode_claim(compressor.compress(bytes(1000)) + compressor.flush())


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    """A frame that inflates to more bytes than its header says is refused."""
    with pytest.raises(WireError):
        wire.decode_claim(frame_of(300, zeros(300_000)))


def test_names_in_redis_are_told_apart() -> None:
    """Queue, claim, stream and channel of the same word are different keys, and each key contains the word."""
    names = [wire.queue_name("x1"), wire.claim_key("x1"), wire.reply_key("x1"), wire.presence_channel("x1")]
    assert len(set(names)) == len(names)
    assert all("x1" in name and name.startswith("es-rerank") for name in names)


def test_workers_of_another_version_are_not_asked() -> None:
    """The queue's and the channel's names have the version of the messages in them."""
    assert f".{wire.VERSION}." in wire.queue_name("x1")
    assert f":{wire.VERSION}:" in wire.presence_channel("x1")
