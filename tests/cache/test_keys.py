"""Cache keys: equal for equal scores, different for everything else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from hypothesis import assume, example, given
from hypothesis import strategies as st

from es_rerank.cache.keys import PREFIX, cut_key, reasoning_key, score_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

# All of Unicode, with the lone surrogates that a str may hold.
texts = st.text(st.characters(exclude_categories=()), max_size=8)


@dataclass(frozen=True)
class Scored:
    """What one score is of."""

    fingerprint: str
    instruction: str
    query: str
    text: str
    budget_tokens: int = 0


scored = st.builds(Scored, texts, texts, texts, texts, st.integers(0, 3))


def keys_of(one: Scored, texts: Sequence[str]) -> list[str]:
    """The keys of several texts under one scorer, instruction and query."""
    return score_keys(
        fingerprint=one.fingerprint,
        budget_tokens=one.budget_tokens,
        instruction=one.instruction,
        query=one.query,
        texts=texts,
    )


def key_of(one: Scored) -> str:
    """The key of one score."""
    return keys_of(one, [one.text])[0]


def test_the_key_is_a_hash_of_parts_behind_their_lengths() -> None:
    """Keys outlive a release: another derivation would empty every cache, so it may not change unnoticed."""
    parts = b"".join(
        len(part).to_bytes(8, "big") + part for part in (b"scorer", b"256", b"", "frage ü".encode(), b"text")
    )
    expected = PREFIX + blake2b(parts, digest_size=20).hexdigest()
    assert key_of(Scored("scorer", "", "frage ü", "text", 256)) == expected


@example(Scored("", "", "", "?"), Scored("", "", "", "\ud800"))
@example(Scored("", "", "", "\ud801"), Scored("", "", "", "\ud800"))
@given(scored, scored)
def test_different_scores_never_share_a_key(one: Scored, other: Scored) -> None:
    """Scorer, budget, instruction, query and text: if one of them differs, the key does."""
    assert (key_of(one) == key_of(other)) == (one == other)


@given(scored, st.sampled_from(["fingerprint", "instruction", "query", "text"]), texts)
def test_each_part_alone_changes_the_key(one: Scored, part: str, value: str) -> None:
    """Another value in any one of the four places is another score."""
    other = replace(one, **{part: value})  # type: ignore[arg-type]
    assume(other != one)
    assert key_of(other) != key_of(one)


@given(scored, st.permutations([0, 1, 2, 3]))
def test_parts_that_change_places_change_the_key(one: Scored, order: list[int]) -> None:
    """The same four strings in other places are another score."""
    parts = (one.fingerprint, one.instruction, one.query, one.text)
    first, second, third, fourth = (parts[place] for place in order)
    other = Scored(first, second, third, fourth, one.budget_tokens)
    assert (key_of(other) == key_of(one)) == (other == one)


@given(texts, st.lists(st.integers(0, 8), min_size=3, max_size=3), st.lists(st.integers(0, 8), min_size=3, max_size=3))
def test_moving_a_boundary_between_parts_changes_the_key(whole: str, cuts: list[int], other_cuts: list[int]) -> None:
    """One run of characters, cut into the four parts in two ways, makes two keys."""

    def cut(places: list[int]) -> Scored:
        first, second, third = sorted(places)
        return Scored(whole[:first], whole[first:second], whole[second:third], whole[third:])

    assert (key_of(cut(cuts)) == key_of(cut(other_cuts))) == (cut(cuts) == cut(other_cuts))


@given(scored, st.lists(texts))
def test_keys_are_parallel_to_the_texts(one: Scored, several: list[str]) -> None:
    """Each text's key is what it would be alone, whatever stands beside it."""
    assert keys_of(one, several) == [key_of(replace(one, text=text)) for text in several]


@given(scored)
def test_what_belongs_to_a_score_has_names_of_its_own(one: Scored) -> None:
    """A cut judgment and a reasoning never lie where a full judgment is looked for."""
    key = key_of(one)
    assert len({key, cut_key(key), reasoning_key(key)}) == 3
