"""Who may use the rerank API."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from es_rerank.proxy.rerank_api.keys import holds_key

KEYS = (SecretStr("the-first-long-key"), SecretStr("the-second-long-key"))


@pytest.mark.parametrize(
    "authorization", [b"Bearer the-first-long-key", b"bearer the-second-long-key", b"BEARER   the-second-long-key "]
)
def test_each_key_opens(authorization: bytes) -> None:
    """Any of the keys is enough, and the scheme is read without case."""
    assert holds_key(authorization, KEYS)


@pytest.mark.parametrize(
    "authorization",
    [
        None, b"", b"Bearer", b"Bearer ", b"the-first-long-key", b"Basic the-first-long-key",
        b"Bearer the-first-long-ke", b"Bearer the-first-long-keys", b"Bearer THE-FIRST-LONG-KEY", b"Bearer \xff\xfe",
        b"Bearer the-first-long-key the-second-long-key",
    ],
)  # fmt: skip
def test_nothing_else_opens(authorization: bytes | None) -> None:
    """No header, another scheme, a part of a key or more than one is no key."""
    assert not holds_key(authorization, KEYS)
