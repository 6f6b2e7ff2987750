"""Where messages may end, and what a head still says that can't be parsed."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.http.framing import ascii_target, find_end, read_partly

if TYPE_CHECKING:
    from collections.abc import Iterator


class Listener:
    """Counts what the parser tells."""

    def __init__(self) -> None:
        self.begun = 0
        self.complete = 0
        self.url = b""
        self.body = b""

    def on_message_begin(self) -> None:
        """See httptools."""
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self.url += url

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self.body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        self.complete += 1


def parser_for(listener: Listener) -> httptools.HttpRequestParser:
    """The parser as the server uses it."""
    parser = httptools.HttpRequestParser(listener)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def portions(raw: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in portions of these sizes, again and again."""
    for size in itertools.cycle(sizes):
        if not raw:
            return
        yield raw[:size]
        raw = raw[size:]


# Everything of which a head or a body in chunks is made, and what looks like an end of it.
FRAGMENTS = st.sampled_from(
    [
        b"GET /a HTTP/1.1\r\n", b"POST /a HTTP/1.0\r\n", b"GET /a\r\n", b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"transfer-encoding: chunked\r\n", b"host: x\r\n",
        b"connection: close\r\n", b"x-a: 1\r\n", b"x-a: 1\n", b"x-a: \r\n", b"x-a:\r\n b\r\n", b" ",
        b"\r\n", b"\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r\n", b"0\r\n", b"0\n", b"0;a=b\r\n",
        b"2\r\n", b"2;a=b\r\n", b"ab", b"ab\r\n", b"4\r\n\r\n\r\n\r\n", b"0\r\n\r\n",
    ]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=30).map(b"".join), st.lists(st.integers(1, 40), min_size=1))
def test_no_piece_holds_the_end_of_a_message_and_more(raw: bytes, sizes: list[int]) -> None:
    """Whatever bytes come in whatever portions: where a piece completes a message, it ends there.

    The parser says nothing of places. So a piece with more behind the end would make two requests of one piece.
    """
    listener = Listener()
    parser = parser_for(listener)
    tail = b""
    with suppress(httptools.HttpParserError):
        for data in portions(raw, sizes):
            start = 0
            while start < len(data):
                end = find_end(tail, data, start)
                assert start < end <= len(data)
                tail = (tail + data[start:end])[-3:]
                before = listener.begun, listener.complete
                parser.feed_data(data[start:end])
                if listener.complete > before[1]:
                    assert listener.complete == before[1] + 1
                    assert listener.begun <= max(before[0], listener.complete)
                    tail = b""
                start = end


IN_CHUNKS = b"POST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
MESSAGES = st.lists(
    st.sampled_from(
        [
            b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n",
            b"\r\nGET /d HTTP/1.1\r\n\r\n",
            IN_CHUNKS + b"0\r\n\r\n",
            IN_CHUNKS + b"4\r\n\r\n\r\n\r\n2;a=b\r\nab\r\n0\r\nx-a: 1\r\n\r\n",
        ]
    ),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 60), min_size=1))
def test_every_message_ends_with_a_piece(messages: list[bytes], sizes: list[int]) -> None:
    """When all bytes of right messages came, all are complete, each in a piece of its own."""
    listener = Listener()
    parser = parser_for(listener)
    tail, completing = b"", 0
    for data in portions(b"".join(messages), sizes):
        start = 0
        while start < len(data):
            end = find_end(tail, data, start)
            before = listener.complete
            parser.feed_data(data[start:end])
            tail = (tail + data[start:end])[-3:] if listener.complete == before else b""
            completing += listener.complete > before
            start = end
    assert listener.complete == completing == len(messages)


@pytest.mark.parametrize(
    ("tail", "data", "start", "end"),
    [
        (b"", b"a\r\n\r\nb", 0, 5),
        (b"", b"a\r\n\r\nb\r\n\r\n", 5, 10),
        (b"", b"a\r\n\r", 0, 4),
        (b"\r\n\r", b"\nb", 0, 1),
        (b"a\r\n", b"\r\nb", 0, 2),
        (b"\r", b"\n\r\nb\r\n\r\n", 0, 3),
        (b"\r\n\r", b"\nb\r\n\r\n", 2, 6),
        (b"\r\n\r", b"x", 0, 1),
    ],
)
def test_the_end_is_found_across_portions(tail: bytes, data: bytes, start: int, end: int) -> None:
    """An empty line counts where it begins in what came before; behind the start of a piece the tail says nothing."""
    assert find_end(tail, data, start) == end


@given(st.binary(max_size=60).filter(lambda raw: b"\n" not in raw), st.binary(max_size=20))
def test_only_the_request_line_is_changed_and_stays_as_long(line: bytes, rest: bytes) -> None:
    """Each byte above 0x7F of the request line becomes a letter at its place, and nothing else changes."""
    changed = ascii_target(line + b"\n" + rest)
    assert changed[len(line) :] == b"\n" + rest
    assert changed.isascii() or not rest.isascii()
    assert [one if one < 0x80 else ord("z") for one in line] == list(changed[: len(line)])


def test_a_head_says_what_it_can() -> None:
    """Of a head that is wrong or not whole, the method and the right lines are read; a line without its end is not."""
    request = read_partly(b"HEAD /a HTTP/1.1\r\nX-Opaque-Id: me \r\nx y: z\r\naccept:a/b\r\nx-nul: \x00\r\nx-cut: o")
    assert request.method == "HEAD"
    assert request.headers == ((b"x-opaque-id", b"me"), (b"accept", b"a/b"))


@given(st.binary())
def test_whatever_a_head_is_it_can_be_read_partly(head: bytes) -> None:
    """Nothing raises, and no value can end its header line."""
    for name, value in read_partly(head).headers:
        assert not {*name, *value} & {0, 10, 13}
