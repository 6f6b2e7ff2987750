"""all-MiniLM-L6-v2 as a function from texts to unit vectors, on CPUs and without torch.

Owns the network's layout for ctranslate2, tokenization and pooling. Knows nothing of jobs, scores or asyncio, nor
where the weights come from. Its imports come with the `minilm` extra, so it is imported only when a scorer starts.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Literal

import ctranslate2
import numpy as np
from ctranslate2.specs.common_spec import Activation, EmbeddingsMerge, LayerNormSpec, LinearSpec
from ctranslate2.specs.transformer_spec import TransformerEncoderModelSpec, TransformerEncoderSpec
from safetensors.numpy import load_file
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]
    Weights = dict[str, NDArray[np.float32]]

LAYER_COUNT = 6
HEAD_COUNT = 12
LAYER_NORM_EPSILON = 1e-12
MAX_TOKENS = 256
SPECIAL_TOKENS = 2  # [CLS] and [SEP], which every text gets, an empty one too


class Encoder:
    """The loaded model. Two threads must not call it at once.

    `model_dir` holds model.safetensors and tokenizer.json. A call uses `thread_count` threads.
    Raises OSError when the temporary directory has no room for the converted weights (91 MB, only while loading),
    ValueError when this CPU cannot compute in `compute_type`.
    """

    def __init__(self, model_dir: Path, *, compute_type: Literal["float32", "int8"], thread_count: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        # The file itself asks for 128 pieces, all padded to 128.
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        spec = _build_spec(load_file(model_dir / "model.safetensors"), self._tokenizer)
        with tempfile.TemporaryDirectory(prefix="minilm-") as converted_dir:
            spec.save(converted_dir)
            self._model = ctranslate2.Encoder(
                converted_dir, device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=thread_count
            )

    def encode(self, texts: Sequence[str]) -> list[Vector | None]:
        """Embed each text's first 256 word pieces, as one batch.

        The result is parallel to `texts`, which are valid Unicode. A vector has 384 float32 values and length 1, and
        does not depend on its neighbours in the batch; None stands where a text has no word piece at all.
        """
        token_ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        filled = [ids for ids in token_ids if len(ids) > SPECIAL_TOKENS]
        vectors: Iterator[Vector] = iter(self._embed(filled) if filled else ())
        return [next(vectors) if len(ids) > SPECIAL_TOKENS else None for ids in token_ids]

    def _embed(self, token_ids: list[list[int]]) -> Vector:
        states = np.asarray(self._model.forward_batch(token_ids).last_hidden_state)
        lengths = np.array([len(ids) for ids in token_ids])
        is_token = np.arange(states.shape[1]) < lengths[:, None]
        # The mean over the tokens is their sum except for a factor, which the division by the length takes out again.
        vectors: Vector = np.einsum("btd,bt->bd", states, is_token.astype(np.float32))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def _build_spec(weights: Weights, tokenizer: Tokenizer) -> TransformerEncoderModelSpec:
    encoder = TransformerEncoderSpec(
        LAYER_COUNT,
        HEAD_COUNT,
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
    spec.config.layer_norm_epsilon = LAYER_NORM_EPSILON
    spec.register_vocabulary([tokenizer.id_to_token(token_id) for token_id in range(tokenizer.get_vocab_size())])
    spec.validate()
    return spec


def _set_linear(spec: LinearSpec, weights: Weights, *names: str) -> None:
    spec.weight = np.concatenate([weights[f"{name}.weight"] for name in names])
    spec.bias = np.concatenate([weights[f"{name}.bias"] for name in names])


def _set_norm(spec: LayerNormSpec, weights: Weights, name: str) -> None:
    spec.gamma = weights[f"{name}.weight"]
    spec.beta = weights[f"{name}.bias"]
