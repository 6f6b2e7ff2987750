"""A scorer's fingerprint: short, of all its parts, and of nothing else."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from es_rerank.scorers.fingerprint import fingerprint_of

NAMES = st.sampled_from(["model", "dtype", "chunks", "prompt"])
PARTS = st.dictionaries(NAMES, st.sampled_from(["", "1", "a", "b"]) | st.sampled_from([1, 2]))


@given(PARTS, PARTS, st.integers(1, 3), st.integers(1, 3))
def test_equal_parts_and_method_are_equal_prints(
    parts: dict[str, str | float], others: dict[str, str | float], method: int, other_method: int
) -> None:
    """Kind, method and each part by its name count, in whatever order they are given; `1` is not `"1"`."""
    same = (parts, method) == (others, other_method)
    print_of = fingerprint_of("k", method=method, **parts)
    assert (print_of == fingerprint_of("k", method=other_method, **others)) is same
    assert print_of == fingerprint_of("k", method=method, **dict(reversed(parts.items())))
    assert print_of.removeprefix("k-") != fingerprint_of("other", method=method, **parts).removeprefix("other-")


def test_a_fingerprint_is_short_and_begins_with_the_kind() -> None:
    """People read fingerprints in names of queues and in logs, so they are short and begin with the kind."""
    assert re.fullmatch(r"minilm-[0-9a-f]{16}", fingerprint_of("minilm", method=1, weights="x" * 1000))
