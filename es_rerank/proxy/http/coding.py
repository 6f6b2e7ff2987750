"""Content codings: inflating what we read, with a limit, and encoding what we wrote.

Knows the codings that the engines use; anything else is unreadable, and passed on as it is.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from es_rerank.errors import EsRerankError

GZIP_WBITS = 31
GZIP_LEVEL = 3
# The most that deflate can make of a byte.
DEFLATE_RATIO = 1032


class UnreadableBodyError(EsRerankError):
    """A body in a coding that we don't know, broken, or larger than allowed once inflated.

    `head` is the beginning of a body that is too large, b"" for any other.
    """

    def __init__(self, message: str, *, head: bytes = b"") -> None:
        super().__init__(message)
        self.head = head


def decode_body(body: bytes, coding: bytes | None, *, max_bytes: int) -> bytes:
    """The body without its content coding. Raises UnreadableBodyError, before holding more than `max_bytes`."""
    name = (coding or b"identity").strip().lower()
    try:
        if name in (b"", b"identity"):
            decoded = body
        elif name in (b"gzip", b"x-gzip", b"deflate"):
            inflater = zlib.decompressobj(GZIP_WBITS if b"gzip" in name else zlib.MAX_WBITS)
            decoded = inflater.decompress(body, max_bytes + 1)
            if len(decoded) <= max_bytes and (not inflater.eof or inflater.unused_data):
                raise UnreadableBodyError("the compressed body ends early, or has more behind its end")
        else:
            raise UnreadableBodyError(f"content coding {name!r}")
    except zlib.error as error:
        raise UnreadableBodyError(str(error)) from error
    if len(decoded) > max_bytes:
        raise UnreadableBodyError(f"more than {max_bytes} bytes", head=decoded)
    return decoded


def inflated_bytes(body: bytes, coding: bytes | None) -> int:
    """How long the body may be without its content coding, 0 where it has none."""
    return 0 if coding is None else len(body) * DEFLATE_RATIO


class Packer(Protocol):
    """Encodes one body, part by part, as the objects of `zlib` do."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """What can be given of the body up to here."""
        ...

    def flush(self) -> bytes:
        """The rest."""
        ...


class _Identity:
    """No content coding."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """See `Packer`."""
        return bytes(data)

    def flush(self) -> bytes:
        """See `Packer`."""
        return b""


def packer_for(coding: bytes | None) -> Packer:
    """What encodes a body in a content coding that `readable_codings` let the engine choose."""
    name = (coding or b"identity").strip().lower()
    if b"gzip" in name:
        return zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
    return zlib.compressobj(GZIP_LEVEL) if name == b"deflate" else _Identity()


def readable_codings(accepted: bytes | None) -> bytes | None:
    """The part of a client's Accept-Encoding that we can read and write, or None where it sent none."""
    if accepted is None:
        return None
    known = (b"gzip", b"x-gzip", b"deflate", b"identity")
    kept = [item.strip() for item in accepted.split(b",") if item.partition(b";")[0].strip().lower() in known]
    return b", ".join(kept) or b"identity"
