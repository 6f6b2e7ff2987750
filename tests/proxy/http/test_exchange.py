"""What no request may say about its body."""

from __future__ import annotations

import pytest

from es_rerank.errors import CallerError
from es_rerank.proxy.http.exchange import check_head


@pytest.mark.parametrize(
    ("headers", "ambiguous"),
    [
        ((), False),
        (((b"content-length", b"3"),), False),
        (((b"transfer-encoding", b"chunked"),), False),
        (((b"content-length", b"3"), (b"content-length", b"3")), True),
        (((b"transfer-encoding", b"chunked"), (b"content-length", b"3")), True),
    ],
)
def test_ambiguous_lengths_are_seen_whatever_the_parser(
    headers: tuple[tuple[bytes, bytes], ...], *, ambiguous: bool
) -> None:
    """Two lengths, or a length beside chunks, are refused even if the server's parser lets them through."""
    if not ambiguous:
        check_head(headers)
        return
    with pytest.raises(CallerError, match="Content-Length") as refusal:
        check_head(headers)
    assert refusal.value.status == 400


@pytest.mark.parametrize("values", [(), (b"100-continue",), (b"100-Continue",)])
def test_an_expectation_that_is_met_is_let_through(values: tuple[bytes, ...]) -> None:
    """A single `100-continue`, in upper or lower case, is let through: the server answers it."""
    check_head(tuple((b"expect", value) for value in values))


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((b"something",), "something"),
        ((b"100-continue, x",), "100-continue, x"),
        ((b"100-continue", b"100-continue"), "100-continue, 100-continue"),
        ((b"",), ""),
        ((b"x" * 200,), "x" * 80),
        ((b"caf\xe9",), "caf\xe9"),
    ],
)
def test_any_other_expectation_is_refused(values: tuple[bytes, ...], shown: str) -> None:
    """Any other expectation is answered with 417, and the answer shows at most 80 characters of it."""
    with pytest.raises(CallerError) as refusal:
        check_head(tuple((b"expect", value) for value in values))
    assert str(refusal.value) == f"header [Expect] must be [100-continue], once, was [{shown}]"
    assert refusal.value.status == 417
