"""Finds a model's folder and reads from it what must be known before an engine starts.

Everything that can be wrong with a model is reported here, as a WorkerStartError that says what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.errors import WorkerStartError
from workers.scorers.erank.prompt import (
    FRAME_TOKENS,
    MAX_INSTRUCTION_TOKENS,
    PLACE,
    ErankPrompt,
    UnfitTokenizerError,
)

NEEDED_FILES = ("config.json", "tokenizer.json")
WANTED_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt")
BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model's folder, and what its files say of it.

    `context_tokens` is the longest sequence that the model was made for, `weight_bytes` the size of all weight files.
    `kv_values_per_token` is how many numbers the cache of keys and values holds for one token.
    """

    folder: Path
    context_tokens: int
    weight_bytes: int
    stored_dtype: str
    kv_values_per_token: int


def find_model(name: str, revision: str) -> Model:
    """The folder with this path, or the hub's model with this name: from this machine's cache, else downloaded.

    Raises WorkerStartError when there is none, or when it lacks a file.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith(("/", ".", "~")) or name.count("/") != 1:
            raise WorkerStartError(
                f"model = {name!r}: there is no such folder, and it is not the name of a hub's model (owner/name)."
            )
        folder = _from_hub(name, revision)
    missing = [file for file in NEEDED_FILES if not (folder / file).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        lacks = ", ".join(missing) or "*.safetensors"
        raise WorkerStartError(f"model = {name!r}: {folder} lacks {lacks}: a folder in transformers' form is needed.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    return Model(
        folder=folder,
        context_tokens=int(config["max_position_embeddings"]),
        weight_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        stored_dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
        kv_values_per_token=2 * int(config["num_hidden_layers"]) * heads * width,
    )


def load_prompt(
    model: Model, *, max_query_tokens: int, max_document_tokens: int, max_think_tokens: int, max_chunks: int
) -> tuple[ErankPrompt, int]:
    """The prompt in this model's tokens and chat frame, and how many tokens it can have with its thinking.

    Raises WorkerStartError where tokenizer, template or context don't allow it.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415  an extra, and slow to import

    longest = MAX_INSTRUCTION_TOKENS + max_query_tokens + max_document_tokens + max_think_tokens + FRAME_TOKENS
    if longest > model.context_tokens:
        raise WorkerStartError(
            f"The model reads {model.context_tokens} tokens at most, and a prompt with its thinking may take {longest} "
            f"(max_query_tokens {max_query_tokens}, max_document_tokens {max_document_tokens}, max_think_tokens "
            f"{max_think_tokens}, and {MAX_INSTRUCTION_TOKENS + FRAME_TOKENS} for instruction and template): lower one."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
        frame = tokenizer.apply_chat_template(
            [{"role": "user", "content": PLACE}], tokenize=False, add_generation_prompt=True
        )
        prompt = ErankPrompt(
            (model.folder / "tokenizer.json").read_text(encoding="utf-8"),
            frame,
            max_query_tokens=max_query_tokens,
            max_document_tokens=max_document_tokens,
            max_chunks=max_chunks,
        )
    except UnfitTokenizerError as error:
        raise WorkerStartError(f"The model in {model.folder} cannot be asked this way: {error}.") from error
    except (ValueError, OSError) as error:
        raise WorkerStartError(f"The tokenizer in {model.folder} cannot be used: {error}") from error
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
