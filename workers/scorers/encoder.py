"""A network of BERT's form as a function from texts to unit vectors, on CPUs and without torch.

Owns the network's layout for ctranslate2, tokenization and pooling. Knows nothing of jobs, scores or asyncio, nor
where the weights come from. Its imports come with the scorer's extra, so it is imported only when a scorer starts.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import ctranslate2
import numpy as np
from ctranslate2.specs.common_spec import Activation, EmbeddingsMerge, LayerNormSpec, LinearSpec
from ctranslate2.specs.transformer_spec import TransformerEncoderModelSpec, TransformerEncoderSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Vector = NDArray[np.float16]
    States = NDArray[np.float32]
    Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of BERT's form, and its tokenizer.

    `weights` have the names of BERT's checkpoints. `replacements` has the new text of each code point that has to be
    replaced before the tokenizer reads a text.
    """

    weights: Weights
    tokenizer: Tokenizer
    head_count: int
    layer_norm_epsilon: float
    replacements: Mapping[int, str] = field(default_factory=dict)


class Encoder:
    """A loaded network that reads the first `max_tokens` tokens of a text. Two threads must not call it at once.

    A call uses `thread_count` threads. Raises OSError when the temporary directory has no room for the converted
    weights (only while loading), ValueError when this CPU cannot compute in `compute_type`.
    """

    def __init__(
        self, network: Network, *, max_tokens: int, compute_type: Literal["float32", "int8"], thread_count: int
    ) -> None:
        self._tokenizer = network.tokenizer
        self._tokenizer.enable_truncation(max_tokens)
        self._replacements = network.replacements
        self._size = network.weights["embeddings.LayerNorm.bias"].size
        spec = _build_spec(network)
        if compute_type == "int8":
            spec.optimize(quantization="int8")
        with tempfile.TemporaryDirectory(prefix="es-rerank-") as converted_dir:
            spec.save(converted_dir)
            self._model = ctranslate2.Encoder(
                converted_dir, device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=thread_count
            )

    def encode(self, texts: Sequence[str], *, prefix: str = "") -> list[Vector | None]:
        """Embed the first `max_tokens` tokens of each text, with `prefix` before it, as one batch.

        The result is parallel to `texts`, which are valid Unicode. A vector has 384 values and length 1 before it is
        rounded to float16; None stands where a text has no token of its own. In float32 a vector does not depend on
        its neighbours in the batch; in int8 it does a little, because they change how numbers are rounded.
        """
        empty, *token_ids = self._tokenize([prefix, *(prefix + text for text in texts)])
        filled = [ids for ids in token_ids if len(ids) > len(empty)]
        vectors: Iterator[Vector] = iter(self._embed(filled) if filled else ())
        return [next(vectors) if len(ids) > len(empty) else None for ids in token_ids]

    def vector_of(self, data: bytes) -> Vector | None:
        """The vector that has these bytes, None if none of this network has."""
        vector: Vector = np.frombuffer(data, np.float16) if len(data) == 2 * self._size else np.full(1, np.nan)
        return vector if np.isfinite(vector).all() and vector.any() else None

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if self._replacements:
            texts = [" ".join(text.translate(self._replacements).split()) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]

    def _embed(self, token_ids: list[list[int]]) -> Vector:
        states = np.asarray(self._model.forward_batch(token_ids).last_hidden_state)
        lengths = np.array([len(ids) for ids in token_ids])
        is_token = np.arange(states.shape[1]) < lengths[:, None]
        # The mean over the tokens is their sum except for a factor, which the division by the length takes out again.
        vectors: States = np.einsum("btd,bt->bd", states, is_token.astype(np.float32))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float16)


def _build_spec(network: Network) -> TransformerEncoderModelSpec:
    tokenizer = network.tokenizer
    # Quantising changes arrays in place, and those that were read from a file may be read-only.
    weights = {name: np.require(weight, requirements="W") for name, weight in network.weights.items()}
    layer_count = sum(name.endswith(".attention.self.query.bias") for name in weights)
    encoder = TransformerEncoderSpec(
        layer_count,
        network.head_count,
        pre_norm=False,
        activation=Activation.GELU,
        num_source_embeddings=2,
        embeddings_merge=EmbeddingsMerge.ADD,
        layernorm_embedding=True,
    )
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = weights["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = weights["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = weights["embeddings.position_embeddings.weight"]
    _set_norm(encoder.layernorm_embedding, weights, "embeddings.LayerNorm")
    for number, layer in enumerate(encoder.layer):
        name = f"encoder.layer.{number}"
        attention = layer.self_attention
        parts = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        _set_linear(attention.linear[0], weights, *parts)
        _set_linear(attention.linear[1], weights, f"{name}.attention.output.dense")
        _set_norm(attention.layer_norm, weights, f"{name}.attention.output.LayerNorm")
        _set_linear(layer.ffn.linear_0, weights, f"{name}.intermediate.dense")
        _set_linear(layer.ffn.linear_1, weights, f"{name}.output.dense")
        _set_norm(layer.ffn.layer_norm, weights, f"{name}.output.LayerNorm")
    spec = TransformerEncoderModelSpec(encoder)
    spec.config.layer_norm_epsilon = network.layer_norm_epsilon
    spec.register_vocabulary([tokenizer.id_to_token(token_id) for token_id in range(tokenizer.get_vocab_size())])
    spec.validate()
    return spec


def _set_linear(spec: LinearSpec, weights: Weights, *names: str) -> None:
    spec.weight = np.concatenate([weights[f"{name}.weight"] for name in names])
    spec.bias = np.concatenate([weights[f"{name}.bias"] for name in names])


def _set_norm(spec: LayerNormSpec, weights: Weights, name: str) -> None:
    spec.gamma = weights[f"{name}.weight"]
    spec.beta = weights[f"{name}.bias"]
