"""Where HTTP/1.1 messages may end, what a head that can't be parsed still says, and what the parser must not see. Pure.

The parser (httptools) does not say where in its data a message ended. So it is given pieces that end where a message
may end: every head, and every body in chunks, ends with an empty line. tests/proxy/http/test_framing.py tests that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from es_rerank.records import Request

if TYPE_CHECKING:
    from es_rerank.records import Headers

END = b"\r\n\r\n"
LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r\n")
# A letter is right wherever a target may have one of these bytes.
ASCII_ONLY = bytes(byte if byte < 0x80 else ord("z") for byte in range(256))


def find_end(tail: bytes, data: bytes, start: int) -> int:
    """The place in `data` behind the first empty line from `start` on; the length of `data` where there is none.

    `tail` holds the last bytes, three at most, of the same message that came before `data`.
    """
    if tail and not start:
        place = (tail + data[: len(END) - 1]).find(END)
        if place >= 0:
            return place + len(END) - len(tail)
    place = data.find(END, start)
    return len(data) if place < 0 else place + len(END)


def ascii_target(head: bytes) -> bytes:
    """The head, or its beginning, with a letter for each byte above 0x7F in its request line, at the same place.

    RFC 3986 forbids such bytes in a target, and the parser refuses them. People type them, and engines read them.
    """
    end = head.find(b"\n")
    end = len(head) if end < 0 else end
    return head[:end].translate(ASCII_ONLY) + head[end:]


def read_partly(head: bytes) -> Request:
    """A request that can't be parsed, or is not whole: its method, if any, and those header lines that are right."""
    lines = head.split(b"\n")
    headers: Headers = tuple(
        (found[1].lower(), found[2]) for line in lines[1:] if (found := LINE.fullmatch(line + b"\n")) is not None
    )
    method = lines[0].partition(b" ")[0]
    return Request(method=method.decode("latin-1"), target=b"", headers=headers)
