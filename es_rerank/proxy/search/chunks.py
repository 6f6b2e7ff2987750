"""The `chunk_rescorer` of a `text_similarity_reranker`: which part of a long text is scored. Pure.

Settings, defaults and bounds are Elasticsearch's. As there, the chunks of a text are ranked by BM25 among themselves,
and the best goes to the model. Where sentences and words end is told more simply than by Elasticsearch's ICU.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from es_rerank.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = "chunk_rescorer"
Strategy = Literal["sentence", "word", "none"]
# By strategy: the key of its overlap, and the smallest chunk, in words.
STRATEGIES: dict[Strategy, tuple[str, int]] = {
    "sentence": ("sentence_overlap", 20),
    "word": ("overlap", 10),
    "none": ("", 0),
}
DEFAULT_WORDS = 300
SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")
WORD = re.compile(r"\w+")
K1, B = 1.2, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How a text is divided: chunks of at most `words` words, each beginning with the last `overlap` of the one before.

    `overlap` counts sentences or words, as the strategy does.
    """

    strategy: Strategy = "sentence"
    words: int = DEFAULT_WORDS
    overlap: int = 0

    def best(self, text: str, question: str) -> str:
        """The chunk that has most of the question, the first of equals; a text of one chunk stays as it is."""
        if self.strategy == "none" or len(text.split()) <= self.words:
            return text
        divide = _by_words if self.strategy == "word" else _by_sentences
        chunks = divide(text, self.words, self.overlap)
        scores = _bm25([WORD.findall(chunk.casefold()) for chunk in chunks], WORD.findall(question.casefold()))
        return chunks[max(range(len(chunks)), key=scores.__getitem__)]


def read_chunking(value: Any) -> Chunking:
    """The chunking that a `chunk_rescorer` asks for. Raises CallerError for what Elasticsearch or we don't take."""
    if not isinstance(value, dict):
        raise _unfit("must be an object")
    unknown = [name for name in value if name not in ("size", "chunking_settings")]
    if unknown:
        raise _unfit(f"unknown field [{unknown[0]}]")
    size = value.get("size", 1)
    if type(size) is not int or size < 1:
        raise CallerError(f"size must be greater than 0, was: {size}")
    if size > 1:
        raise _unfit(f"es-rerank does not do [size: {size}]: it scores the best chunk, [size: 1]")
    settings = value.get("chunking_settings")
    if not settings:
        return Chunking()
    if not isinstance(settings, dict):
        raise _unfit("[chunking_settings] must be an object")
    strategy: Any = "sentence" if [*settings] == ["max_chunk_size"] else settings.get("strategy")
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise _unfit(f"[chunking_settings.strategy] must be one of [{', '.join(STRATEGIES)}] here")
    return _read_settings(settings, strategy)


def _read_settings(settings: dict[str, Any], strategy: Strategy) -> Chunking:
    overlap_key, least = STRATEGIES[strategy]
    if strategy == "none":
        return Chunking(strategy=strategy)
    unknown = [name for name in settings if name not in ("strategy", "max_chunk_size", overlap_key)]
    if unknown:
        raise _unfit(f"[chunking_settings] unknown field [{unknown[0]}] for the strategy [{strategy}]")
    words = settings.get("max_chunk_size")
    if type(words) is not int or words < least:
        raise _unfit(f"[chunking_settings.max_chunk_size] must be a whole number from {least} up")
    overlap = settings.get(overlap_key, 0)
    most = 1 if strategy == "sentence" else words // 2
    if type(overlap) is not int or not 0 <= overlap <= most:
        raise _unfit(f"[chunking_settings.{overlap_key}] must be a whole number from 0 to {most}")
    return Chunking(strategy=strategy, words=words, overlap=overlap)


def _by_words(text: str, most: int, overlap: int) -> list[str]:
    words = text.split()
    step = most - overlap
    starts = range(0, max(1, len(words) - overlap), step)
    return [" ".join(words[start : start + most]) for start in starts]


def _by_sentences(text: str, most: int, overlap: int) -> list[str]:
    """Whole sentences, but for one that is too long for a chunk. `overlap` is 0 or 1."""
    sentences = [part for one in SENTENCE_END.split(text) if one.strip() for part in _by_words(one, most, 0)]
    chunks: list[str] = []
    current: list[str] = []
    size = last = 0
    for sentence in sentences:
        length = len(sentence.split())
        if current and size + length > most:
            chunks.append(" ".join(current))
            current, size = (current[-1:], last) if overlap else ([], 0)
            if size + length > most:
                current, size = [], 0
        current.append(sentence)
        size += length
        last = length
    return [*chunks, " ".join(current)]


def _bm25(chunks: Sequence[Sequence[str]], question: Sequence[str]) -> list[float]:
    """The score of each chunk for the words of the question; the chunks of the text are all that there is."""
    wanted = frozenset(question)
    having: dict[str, list[tuple[int, int]]] = {}  # by word: the chunks that have it, and how often
    for place, chunk in enumerate(chunks):
        for word, times in Counter(word for word in chunk if word in wanted).items():
            having.setdefault(word, []).append((place, times))
    mean = sum(map(len, chunks)) / len(chunks) or 1.0
    scores = [0.0] * len(chunks)
    for word in sorted(having):  # sums of floats depend on the order
        weight = math.log(1 + (len(chunks) - len(having[word]) + 0.5) / (len(having[word]) + 0.5))
        for place, times in having[word]:
            scores[place] += weight * times / (times + K1 * (1 - B + B * len(chunks[place]) / mean))
    return scores


def _unfit(problem: str) -> CallerError:
    return CallerError(f"[{KEY}] {problem}")
