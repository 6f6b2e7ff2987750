"""The `chunk_rescorer` divides long texts and takes the chunk that has most of the question."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.search.chunks import Chunking, read_chunking

FILLER = "Nothing is said of it here at all, and the day goes by."
FOX = "A red fox lives on the island with its young."


@pytest.mark.parametrize(
    "settings", [{"strategy": "sentence", "max_chunk_size": 20, "sentence_overlap": 0}, {"max_chunk_size": 20}]
)
def test_the_sentences_that_have_the_question_are_scored(settings: dict[str, Any]) -> None:
    """They are a chunk of whole sentences, of at most as many words."""
    chunking = read_chunking({"chunking_settings": settings})
    assert chunking.best(f"{FILLER} {FILLER} {FOX} {FILLER}", "Where is the red fox?") == FOX


def test_where_no_chunk_has_a_word_the_first_is_scored() -> None:
    """So it is in Elasticsearch."""
    chunking = Chunking(words=20)
    assert chunking.best(f"{FOX} {FILLER} {FILLER}", "zebra") == FOX


def test_a_short_text_stays_as_it_is() -> None:
    """Blanks and line ends too."""
    text = f"{FOX}\n\n{FILLER}"
    assert read_chunking({}).best(text, "fox") == text
    assert read_chunking({"size": 1, "chunking_settings": {"strategy": "none"}}).best(text * 99, "fox") == text * 99


@given(
    words=st.lists(st.sampled_from(["fox", "red.", "a", "b!", "c?"]), max_size=90),
    strategy=st.sampled_from(["word", "sentence"]),
    overlap=st.integers(0, 1),
)
def test_a_chunk_is_a_part_of_the_text_and_no_longer_than_asked(words: list[str], strategy: Any, overlap: int) -> None:
    """Whatever the text is."""
    best = Chunking(strategy=strategy, words=20, overlap=overlap).best(" ".join(words), "red fox")
    assert best in " ".join(words)
    assert len(best.split()) <= 20
    assert bool(best) == bool(words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "must be an object"),
        ({"sizes": 1}, "unknown field [sizes]"),
        ({"size": 0}, "size must be greater than 0, was: 0"),
        ({"size": "1"}, "size must be greater than 0"),
        ({"size": 3}, "does not do [size: 3]"),
        ({"chunking_settings": 3}, "[chunking_settings] must be an object"),
        ({"chunking_settings": {"strategy": "recursive"}}, "must be one of [sentence, word, none]"),
        ({"chunking_settings": {"strategy": []}}, "must be one of [sentence, word, none]"),
        ({"chunking_settings": {"max_chunk_size": 19}}, "must be a whole number from 20 up"),
        ({"chunking_settings": {"strategy": "word", "max_chunk_size": 9}}, "must be a whole number from 10 up"),
        ({"chunking_settings": {"strategy": "word", "max_chunk_size": 10, "overlap": 6}}, "from 0 to 5"),
        (
            {"chunking_settings": {"strategy": "sentence", "max_chunk_size": 20, "overlap": 1}},
            "unknown field [overlap]",
        ),
        ({"chunking_settings": {"strategy": "sentence", "max_chunk_size": 20, "sentence_overlap": 2}}, "from 0 to 1"),
    ],
)
def test_what_is_wrong_or_not_done_is_named(value: Any, words: str) -> None:
    """The error names the setting and what is allowed."""
    with pytest.raises(CallerError) as refused:
        read_chunking(value)
    assert words in str(refused.value)
