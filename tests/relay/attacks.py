"""Requests that no client should send: framings of all kinds, and bodies that look like requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.relay.recording import FAIR, UNFAIR, WITHHELD

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    # Framing headers, the bytes behind the head, and whether the body is cut off.
    Framed = tuple[list[bytes], bytes, bool]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\nx-caller: attacker\r\n\r\n"
# What lies behind a body, and so is a request.
PIPED = SMUGGLED.replace(b"/smuggled", b"/piped")
# More than the proxy holds before it asks the engine.
LARGE = SMUGGLED * 1200
CODING = b"transfer-encoding: chunked"
EXPECTATIONS = (
    b"100-continue", b"100-Continue", b"100-CONTINUE", b"100-continue \t", b"200-ok", b"", b"100-continue, x",
    b"x, 100-continue", b"100-continue\r\nexpect: 200-ok", b"200-ok\r\nexpect: 100-continue", b"100-continue;q=1",
    b"100-continue\r\nExpect: 100-continue", b"x\r\n y", b"\xff",
)  # fmt: skip
ODDITIES = (
    b"connection: x-caller", b"connection: content-length, transfer-encoding, host, x-script", b"connection: close",
    b"connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk", b"upgrade: websocket", b"host: y",
    b"connection: upgrade, expect\r\nupgrade: TLS/1.0", b"x-fold: a\r\n b", b"x-fold: a\r\n\tcontent-length: 0",
    b"x-bare: a\nx-more: b", b"x-nul: a\x00b", b"x-cr: a\rb", b"x y: z", b": x", b"te: trailers, chunked",
    b"trailer: x-trailer", b"keep-alive: timeout=1", b"proxy-connection: close", b"content-encoding: gzip",
    b"content_length: 0", b"transfer_encoding: chunked", b"content-type: application/json", b"x-large: " + b"x" * 9000,
)  # fmt: skip
LENGTHS = (
    b"%d ", b"\t%d", b"0%d", b"+%d", b"-%d", b"0x%x", b"%d.0", b"%d,%d", b"%d, 0", b"", b"%d x", b"\x0b%d", b"1e2",
    b"18446744073709551616", b"9223372036854775808", b"\xb2%d",
)  # fmt: skip
CODINGS = (
    b"Chunked", b"chunked ", b"chunked, chunked", b"identity, chunked", b"gzip, chunked", b"xchunked", b"chunkedx",
    b"chunked;q=1", b'"chunked"', b"identity", b"\x0bchunked", b"chunked, identity", b"", b",chunked", b"chunked,",
    b"chunked\r\ntransfer-encoding: chunked", b"chunked\r\ntransfer-encoding: identity",
    b"identity\r\ntransfer-encoding: chunked", b"\r\n chunked", b"chunked\x00", b"gzip",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attack:
    """Bytes in two parts. `withheld`: the second part is sent after the answer. `cut`: the body has no end."""

    name: bytes
    parts: tuple[bytes, bytes]
    withheld: bool = False
    cut: bool = False


def chunked(body: bytes, rng: random.Random, *, odd: bool) -> bytes:
    """The body in chunks of any sizes; a strict parser refuses `odd` ones."""
    raw = b""
    while body:
        size = rng.randint(1, len(body))
        line = rng.choice((b"%x", b"%X", b"00%x", b"%x;a=b", b'%x;a="b c"', b"%x;a"))
        if odd and rng.random() < 0.7:
            line = rng.choice((b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"%x\n", b"\n%x", b"%xg", b"%x;\n", b"f" * 17))
        end = rng.choice((b"", b"\n", b"\r", b"x\r\n")) if odd and rng.random() < 0.2 else b"\r\n"
        raw += (line % size if b"%" in line else line) + b"\r\n" + body[:size] + end
        body = body[size:]
    trailers = (b"", b"", b"x-trailer: 1\r\n", b"x-a: 1\r\nx-b: 2\r\n")
    return raw + rng.choice((b"0", b"000", b"0;a=b")) + b"\r\n" + rng.choice(trailers) + b"\r\n"


def _length(rng: random.Random, body: bytes) -> Framed:
    return [b"content-length: %d" % len(body)], body + rng.choice((b"", PIPED * 2)), False


def _chunks(rng: random.Random, body: bytes) -> Framed:
    return [CODING], chunked(body, rng, odd=False), False


def _odd_chunks(rng: random.Random, body: bytes) -> Framed:
    return [CODING], chunked(body, rng, odd=True), False


def _odd_length(rng: random.Random, body: bytes) -> Framed:
    value = rng.choice(LENGTHS).replace(b"%d", b"%d" % len(body)).replace(b"%x", b"%x" % len(body))
    return [b"content-length:" + value], body, False


def _odd_coding(rng: random.Random, body: bytes) -> Framed:
    sent = body if rng.random() < 0.5 else chunked(body, rng, odd=False)
    return [b"transfer-encoding:" + rng.choice(CODINGS)], sent, False


def _two_framings(rng: random.Random, body: bytes) -> Framed:
    first = b"content-length: %d" % len(body)
    second = rng.choice((first, b"content-length: 0", CODING, b"content-length : 5", b"\n" + CODING))
    sent = body if rng.random() < 0.5 else chunked(body, rng, odd=False)
    return rng.sample([first, second], 2), sent, False


def _no_body(rng: random.Random, body: bytes) -> Framed:
    return rng.choice(([], [b"content-length: 0"], [b"content-length: 00"])), PIPED * 3, False


def _cut_length(rng: random.Random, body: bytes) -> Framed:
    return [b"content-length: %d" % (len(body) + 1)], body, True


def _cut_chunks(rng: random.Random, body: bytes) -> Framed:
    raw = chunked(body, rng, odd=False)
    return [CODING], raw[: rng.randrange(len(raw) - 40)], True


FRAMINGS: tuple[Callable[[random.Random, bytes], Framed], ...] = (
    _length, _length, _chunks, _chunks, _odd_chunks, _odd_length, _odd_coding, _two_framings, _no_body, _cut_length,
    _cut_chunks,
)  # fmt: skip


def make_attack(rng: random.Random, name: bytes) -> Attack:
    """One request, or bytes that may be taken for several. If it has a body, SMUGGLED is in it."""
    body = rng.choice((SMUGGLED, SMUGGLED * 3, b"x" * 200 + SMUGGLED, b"\r\n" + SMUGGLED, LARGE))
    framing, behind, cut = rng.choice(FRAMINGS)(rng, body)
    lines = [b"host: x", b"x-caller: " + name, *framing]
    lines.append(b"x-script: " + rng.choice(sorted(FAIR | UNFAIR)).encode())
    lines += [rng.choice(ODDITIES) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    if rng.random() < 0.4:
        lines.append(b"expect: " + rng.choice(EXPECTATIONS))
    rng.shuffle(lines)
    method = rng.choice((b"POST", b"POST", b"PUT", b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
    target = rng.choice((b"/a", b"/a/_doc/1", b"/_bulk", b"/films/_search", b"/_es_rerank/health", b"http://x/a"))
    head = b"%s %s HTTP/%s\r\n" % (method, target, rng.choice((b"1.1",) * 9 + (b"1.0",)))
    at = rng.choice((0, len(behind), rng.randint(0, len(behind))))
    return Attack(name, (head + b"\r\n".join(lines) + b"\r\n\r\n" + behind[:at], behind[at:]), cut=cut)


def make_withheld(rng: random.Random, name: bytes) -> Attack:
    """A request whose body ends only after the answer. A body in chunks is streamed to the engine."""
    script = rng.choice(sorted(WITHHELD)).encode()
    head = b"POST /a HTTP/1.1\r\nhost: x\r\nx-caller: %s\r\nx-script: %s\r\n%s\r\n\r\n" % (name, script, CODING)
    return Attack(name, (head + b"5\r\nhello\r\n", chunked(SMUGGLED, rng, odd=False)), withheld=True)
