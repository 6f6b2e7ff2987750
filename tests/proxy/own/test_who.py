"""Who asks: named for the record, and never with a secret."""

from __future__ import annotations

import base64

import pytest

from es_rerank.proxy.own.who import who_asks
from es_rerank.records import Request


def coded(text: str) -> bytes:
    """A login as headers carry it."""
    return base64.b64encode(text.encode())


LOGIN = (b"Authorization", b"Basic " + coded("ann:hush:hush"))


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ([], "unknown"),
        ([LOGIN], "ann"),
        ([(b"authorization", b"basic  " + coded("åsa:hush"))], "åsa"),
        ([(b"authorization", b"ApiKey " + coded("VuaCfGcB:hush"))], "VuaCfGcB"),
        ([(b"authorization", b"ApiKey hush")], "unknown"),
        ([(b"authorization", b"Basic " + coded("hush"))], "unknown"),
        ([(b"authorization", b"Basic " + coded("a\nb:hush"))], "unknown"),
        ([(b"authorization", b"Basic " + coded(":hush"))], "unknown"),
        ([(b"authorization", b"Bearer hush")], "unknown"),
        ([(b"authorization", b"")], "unknown"),
        ([LOGIN, (b"es-security-runas-user", b"ben")], "ben (run as by ann)"),
        ([(b"es-security-runas-user", b"ben")], "ben (run as by unknown)"),
        ([(b"authorization", b"Basic " + coded("a" * 1000 + ":hush"))], "a" * 256),
    ],
)  # fmt: skip
def test_a_request_says_who_asks(headers: list[tuple[bytes, bytes]], who: str) -> None:
    """The user's name or the key's id; `unknown` for whatever could be a secret or can't be read."""
    found = who_asks(Request(method="PUT", target=b"/", headers=tuple(headers)))
    assert found == who
    assert "hush" not in found
