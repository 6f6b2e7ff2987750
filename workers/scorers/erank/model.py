"""Finds a model's folder and reads from it what must be known before an engine starts.

Everything that can be wrong with a model is reported here, as a WorkerStartError that says what to do.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_rerank.scorers.template import DEFAULT_TEMPLATE, PromptTemplate
from workers.errors import WorkerStartError
from workers.scorers.erank.prompt import (
    ANSWER_TOKENS,
    FRAME_TOKENS,
    MAX_INSTRUCTION_TOKENS,
    PLACE,
    ErankPrompt,
    UnfitTokenizerError,
)

NEEDED_FILES = ("config.json", "tokenizer.json")
WANTED_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt")
# What of a folder shapes an answer, beside the weights.
NAMED_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
# Weights are named by their size and so many blocks of them: to read gigabytes would delay each start.
WEIGHT_SAMPLES = 256
SAMPLE_BYTES = 4096
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
COMMIT = re.compile(r"[0-9a-f]{40}")
BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model's folder, and what its files say of it.

    `weights` names the files: the hub's commit, or a hash of a local folder. `context_tokens` is the longest sequence
    that the model was made for, `weight_bytes` the size of all weight files. `kv_values_per_token` is how many numbers
    the cache of keys and values holds for one token.
    """

    folder: Path
    weights: str
    context_tokens: int
    weight_bytes: int
    stored_dtype: str
    kv_values_per_token: int


def find_model(name: str, revision: str) -> Model:
    """The folder with this path, or the hub's model with this name: from this machine's cache, else downloaded.

    Raises WorkerStartError when there is none, when it lacks a file, or when its config.json lacks what is needed.
    """
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local:
        if name.startswith(("/", ".", "~")) or name.count("/") != 1:
            raise WorkerStartError(
                f"model = {name!r}: there is no such folder, and it is not the name of a hub's model (owner/name)."
            )
        folder = _from_hub(name, revision)
    missing = [file for file in NEEDED_FILES if not (folder / file).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        lacks = ", ".join(missing) or "*.safetensors"
        raise WorkerStartError(f"model = {name!r}: {folder} lacks {lacks}: a folder in transformers' form is needed.")
    config = _Config(folder / "config.json")
    heads = config.number("num_attention_heads")
    kv_heads = config.number("num_key_value_heads", "num_attention_heads")
    width = config.number("head_dim") if config.value("head_dim") else config.number("hidden_size") // heads
    stored = config.value("dtype") or config.value("torch_dtype") or "float32"
    commit = not local and COMMIT.fullmatch(folder.name)  # the hub's cache names a snapshot's folder by its commit
    return Model(
        folder=folder,
        weights=f"commit {folder.name}" if commit else f"files {_hash_files(folder)}",
        context_tokens=config.number("max_position_embeddings"),
        weight_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        stored_dtype=str(stored),
        kv_values_per_token=2 * config.number("num_hidden_layers") * kv_heads * width,
    )


class _Config:
    """What a config.json says of the part of the model that reads text.

    A model for pictures and text keeps that under `text_config`. Raises WorkerStartError where the file can't be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            whole = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WorkerStartError(f"{file} cannot be read: {error}. Download the model again.") from error
        if not isinstance(whole, dict):
            raise WorkerStartError(f"{file} is not a JSON object. Download the model again.")
        inner = whole.get("text_config")
        self._values: dict[str, Any] = {**whole, **(inner if isinstance(inner, dict) else {})}

    def value(self, key: str) -> Any:
        """What stands under the key, None where nothing does."""
        return self._values.get(key)

    def number(self, *keys: str) -> int:
        """The first of these keys that has a value, a whole number above 0. Raises WorkerStartError."""
        key, value = next(
            ((key, self._values[key]) for key in keys if self._values.get(key) is not None), (keys[-1], None)
        )
        if value is None:
            known = " or ".join(keys)
            raise WorkerStartError(
                f"{self._file} says nothing of {known}, at its top or under text_config: a causal language model is "
                "needed, in transformers' form."
            )
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise WorkerStartError(f"{self._file}: {key} is {value!r}, and a whole number above 0 is needed.")
        return value


def _hash_files(folder: Path) -> str:
    """A name for a folder's files: small ones as a whole, weights by header, size and samples."""
    found = hashlib.sha256()
    for name in NAMED_FILES:
        file = folder / name
        found.update(f"{name}\0".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"none")
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        found.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as weights:
            header_bytes = int.from_bytes(weights.read(8), "little")
            found.update(weights.read(min(header_bytes, MAX_HEADER_BYTES)))
            for sample in range(WEIGHT_SAMPLES):
                weights.seek(sample * size // WEIGHT_SAMPLES)
                found.update(weights.read(SAMPLE_BYTES))
    return found.hexdigest()[:40]


def load_prompt(
    model: Model,
    *,
    template: PromptTemplate = DEFAULT_TEMPLATE,
    max_query_tokens: int,
    max_document_tokens: int,
    max_think_tokens: int,
    max_chunks: int,
) -> tuple[ErankPrompt, int]:
    """The prompt in this model's tokens and chat frame, and how many tokens it can have with its thinking.

    Raises WorkerStartError where tokenizer, template or context don't allow it.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415  an extra, and slow to import

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
        frame = tokenizer.apply_chat_template(
            [{"role": "user", "content": PLACE}], tokenize=False, add_generation_prompt=True
        )
        prompt = ErankPrompt(
            (model.folder / "tokenizer.json").read_text(encoding="utf-8"),
            frame,
            template=template,
            max_query_tokens=max_query_tokens,
            max_document_tokens=max_document_tokens,
            max_chunks=max_chunks,
        )
    except UnfitTokenizerError as error:
        raise WorkerStartError(f"The model in {model.folder} cannot be asked this way: {error}.") from error
    except (ValueError, OSError) as error:
        raise WorkerStartError(f"The tokenizer in {model.folder} cannot be used: {error}") from error
    others = MAX_INSTRUCTION_TOKENS + max(FRAME_TOKENS, prompt.fixed_tokens + ANSWER_TOKENS)
    longest = others + max_query_tokens + max_document_tokens + max_think_tokens
    if longest > model.context_tokens:
        raise WorkerStartError(
            f"The model reads {model.context_tokens} tokens at most, and a prompt with its thinking may take {longest} "
            f"(max_query_tokens {max_query_tokens}, max_document_tokens {max_document_tokens}, max_think_tokens "
            f"{max_think_tokens}, and {others} for instruction and template): lower one."
        )
    return prompt, longest


def memory_problem(
    model: Model,
    *,
    dtype: str,
    fp8: bool,
    kv_bytes: int,
    cards: int,
    card_bytes: int,
    share: float,
    longest_tokens: int,
) -> str | None:
    """Why the model can't run on so many cards of this size, or None. Pure.

    Weights and the cache of one longest sequence must fit into the share that may be used of each card.
    """
    stored = BYTES_OF.get(model.stored_dtype, 2)
    used = stored if dtype == "auto" else BYTES_OF[dtype]
    weights = model.weight_bytes / stored * (1 if fp8 else used)
    cache = model.kv_values_per_token * kv_bytes * longest_tokens
    room = cards * card_bytes * share
    if weights + cache <= room:
        return None
    return (
        f"The weights take {weights / GIB:.1f} GiB and one document's thinking {cache / GIB:.1f} GiB, but "
        f"{cards} card(s) of {card_bytes / GIB:.1f} GiB leave {room / GIB:.1f} GiB (gpu_memory_share {share:g}). "
        "Use a smaller model, quantization = 'fp8_per_tensor', or more cards by tensor_parallel_size."
    )


def _from_hub(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  an extra
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    asked: dict[str, Any] = {"revision": revision or None, "allow_patterns": list(WANTED_FILES)}
    try:
        return Path(snapshot_download(name, local_files_only=True, **asked))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, **asked))
    except Exception as error:  # the hub's client raises its HTTP library's errors too
        raise WorkerStartError(
            f"model = {name!r}: it is not in this machine's cache, and could not be downloaded from the hub: {error}. "
            "On a machine without access to the hub, copy the model's folder here and set model to its path."
        ) from error
