"""Small objects in the binary formats that engines read: texts of at most 32 letters, whole numbers from 0 to 15."""

from __future__ import annotations

from typing import Any

SMILE_HEAD = b":)\n\x00"
SMILE_END = b"\xff"


def cbor(value: Any) -> bytes:
    """The value in CBOR (RFC 8949), every length in the head."""
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, str):
        return _head(3, len(value)) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    return _head(5, len(value)) + b"".join(cbor(key) + cbor(inner) for key, inner in value.items())


def _head(major: int, number: int) -> bytes:
    return bytes([major << 5 | number]) if number < 24 else bytes([major << 5 | 24, number])


def smile(value: Any) -> bytes:
    """The value in SMILE, without shared names."""
    return SMILE_HEAD + _smiled(value)


def _smiled(value: Any) -> bytes:
    if isinstance(value, int):
        return bytes([0xC0 + 2 * value])
    if isinstance(value, str):
        return bytes([0x40 + len(value) - 1]) + value.encode()
    if isinstance(value, list):
        return b"\xf8" + b"".join(map(_smiled, value)) + b"\xf9"
    members = [bytes([0x80 + len(key) - 1]) + key.encode() + _smiled(inner) for key, inner in value.items()]
    return b"\xfa" + b"".join(members) + b"\xfb"
