"""ERank, pointwise: think about each document, then read the distribution over the answers 0 to 10.

There are two phases. First the model thinks, until it closes its tag, has used its budget or nears the deadline. Then,
whatever ended the thinking, the answer is read behind a closed tag. So thinking needs no log-probabilities, and an
answer can't be malformed. A budget of 0 is the read alone. Knows the engine only by its contract.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import msgspec

from es_rerank.judgment import Judgment
from workers.metrics import DECODE_TOKENS, note_prefill
from workers.scorers.erank.answer import read_distribution
from workers.scorers.erank.check import follow_model
from workers.scorers.erank.engine import RefusedError
from workers.scorers.erank.pace import Pace
from workers.scorers.erank.tasks import all_of, drop
from workers.scorers.protocol import DocumentScore, ScoreJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from es_rerank.judgment import Cut
    from workers.scorers.erank.engine import Reading, TokenEngine
    from workers.scorers.erank.prompt import DocumentPrompt, ErankPrompt

# Outcomes that come close together go out together.
FLUSH_S = 0.02
# Reads that take longer than this after the deadline are dropped: a second after it the engine has none of the query.
GRACE_S = 0.5
WARM_UP_TOKENS = 16
FIRST_TOKEN_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that can be used: its prompt, the engine that runs it (not started), and the name of its weights."""

    prompt: ErankPrompt
    engine: TokenEngine
    weights: str


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """One of the jobs that share the engine. Two with equal values are two."""

    due_s: float
    open_documents: int
    unread_tokens: int


class Erank:
    """Scores documents by a model that thinks, any number of jobs at a time in one batch of the engine.

    `load` finds the model and may take minutes; it is called in a thread by `start`. `seats` is how many documents the
    engine takes up at once; others wait until one has ended. `check_tokens` is how long the model may think when it is
    asked how it writes its answer, see `follow_model`; with None it is not asked, and answers are read as the prompt
    asks for them.
    """

    def __init__(
        self, *, fingerprint: str, load: Callable[[], Loaded], seats: int, check_tokens: int | None = None
    ) -> None:
        self._fingerprint = fingerprint
        self._load = load
        self._check_tokens = check_tokens
        self._loaded: Loaded | None = None
        self._pace = Pace(FIRST_TOKEN_S)
        self._identity = ""
        self._running: set[_Running] = set()
        self._reads = 0
        self._seats = seats
        self._thinking = 0

    @property
    def fingerprint(self) -> str:
        """Name of everything that changes a score, as the settings made it."""
        return self._fingerprint

    @property
    def identity(self) -> str:
        """The weights that were loaded, and the form in which the model answers. See `Scorer.identity`."""
        return self._identity

    async def start(self) -> None:
        """Load the model, see how it answers, then think and read a few times, since the first is slow.

        Raises WorkerStartError, also where the model's answer can't be recognised; then no engine is left.
        """
        loaded = await asyncio.to_thread(self._load)
        await loaded.engine.start()
        self._loaded = loaded
        try:
            if self._check_tokens is not None:
                prompt = await follow_model(loaded.prompt, loaded.engine, max_think_tokens=self._check_tokens)
                self._loaded = loaded = replace(loaded, prompt=prompt)
            await self._warm_up(loaded)
        except BaseException:
            await self.close()
            raise
        # Another way to write this needs another METHOD: workers of before and after it would not agree.
        self._identity = json.dumps({"weights": loaded.weights, "answer": loaded.prompt.answer}, ensure_ascii=False)

    async def score(self, job: ScoreJob) -> AsyncGenerator[Sequence[DocumentScore], None]:
        """Yield each document's outcome once, those that finish together in one batch.

        A document without text, or one that the engine refuses, fails alone. So does one
        that is not read half a second after the deadline. Raises EngineDeadError, and RuntimeError before `start`.
        """
        if self._loaded is None:
            raise RuntimeError("ERank was asked for scores before its start, or after its close.")
        loop = asyncio.get_running_loop()
        prompts = await asyncio.to_thread(
            self._loaded.prompt.build, instruction=job.instruction, query=job.query, texts=job.texts
        )
        place = _Running(
            due_s=job.due_s,
            open_documents=sum(len(prompt.chunks) for prompt in prompts),
            unread_tokens=sum(sum(prompt.tail_tokens) for prompt in prompts),
        )
        self._running.add(place)
        indexes = {
            asyncio.ensure_future(self._judge(index, prompt, job, place)): index for index, prompt in enumerate(prompts)
        }
        open_tasks = set(indexes)
        try:
            while open_tasks:
                left_s = job.due_s + GRACE_S - loop.time()
                done, open_tasks = await asyncio.wait(
                    open_tasks, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                if open_tasks:
                    more, open_tasks = await asyncio.wait(open_tasks, timeout=FLUSH_S)
                    done |= more
                yield [task.result() for task in done]
            late = [indexes[task] for task in open_tasks]
            await drop(open_tasks)
            if late:
                yield [_fail(index, "it was not judged by the deadline") for index in sorted(late)]
        finally:
            self._running.remove(place)
            await drop(indexes)

    async def broken(self) -> str:
        """Wait until the engine is dead, and return the reason."""
        if self._loaded is None:
            raise RuntimeError("ERank has no engine before its start.")
        return await self._loaded.engine.broken()

    async def close(self) -> None:
        """Free the hardware. Called once, when no call of `score` is running."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await loaded.engine.close()

    async def _warm_up(self, loaded: Loaded) -> None:
        loop = asyncio.get_running_loop()
        for text in ("A first document.", "Another document, read again. " * 8):
            job = ScoreJob(
                query="warm up",
                instruction="Warm up.",
                texts=(text,),
                due_s=loop.time() + 3600,
                budget_tokens=WARM_UP_TOKENS,
            )
            [prompt] = loaded.prompt.build(instruction=job.instruction, query=job.query, texts=job.texts)
            began_s = loop.time()
            await self._read((*prompt.chunks[0], *loaded.prompt.direct_ids), priority=0)
            self._pace = Pace((loop.time() - began_s) / len(prompt.chunks[0]))
            async for _ in self.score(job):
                pass

    async def _judge(self, index: int, prompt: DocumentPrompt, job: ScoreJob, place: _Running) -> DocumentScore:
        """One document's outcome: that of its chunk with the best expected answer."""
        if not prompt.chunks:
            return _fail(index, "the document has no text")
        try:
            chunks = await all_of(
                [
                    self._judge_chunk(index, ids, tail_tokens, prompt.truncated, job, place)
                    for ids, tail_tokens in zip(prompt.chunks, prompt.tail_tokens, strict=True)
                ]
            )
        except RefusedError as error:
            return _fail(index, str(error))
        judged = [chunk for chunk in chunks if chunk.judgment is not None]
        if not judged:
            return chunks[0]
        best = max(judged, key=lambda chunk: cast("Judgment", chunk.judgment).score("expected"))
        # A chunk that was cut short might have been the best, so the document counts as cut too.
        cut = any(cast("Judgment", chunk.judgment).cut == "deadline" for chunk in judged)
        return best if len(chunks) == 1 else _of_chunks(best, cut=cut)

    async def _judge_chunk(  # noqa: PLR0917
        self, index: int, ids: tuple[int, ...], tail_tokens: int, truncated: bool, job: ScoreJob, place: _Running
    ) -> DocumentScore:
        prompt = self._parts().prompt
        thought: tuple[int, ...] = ()
        cut: Cut = ""
        try:
            if job.budget_tokens:
                begun = job.thought.get(index, ())  # only of documents that are one chunk, see `_of_chunks`
                thought, cut = await self._think((*ids, *prompt.think_ids), begun, tail_tokens, job, place)
                reading = await self._read(
                    (*ids, *prompt.think_ids, *thought, *prompt.answer_ids), priority=_priority(job)
                )
            else:
                reading = await self._read((*ids, *prompt.direct_ids), priority=_priority(job))
        finally:
            place.open_documents -= 1
        distribution = read_distribution(reading)
        if distribution is None:
            return _fail(index, "the model gives no probability to any answer")
        judgment = Judgment(distribution=distribution, think_tokens=len(thought), cut=cut, truncated=truncated)
        reasoning = prompt.text(thought).strip()
        return DocumentScore(index=index, status="ok", judgment=judgment, thought=thought, reasoning=reasoning)

    async def _think(
        self, prompt_ids: tuple[int, ...], begun: tuple[int, ...], tail_tokens: int, job: ScoreJob, place: _Running
    ) -> tuple[tuple[int, ...], Cut]:
        """The thinking without its closing tag, and what cut it.

        A document that waits for a seat gives up thinking when the time left is only enough to read its whole prompt.
        For a document with a seat the engine reads the prompt already; to read it again would not give a score sooner.
        """
        prompt, engine = self._parts().prompt, self._parts().engine
        ids = list(begun[: job.budget_tokens])
        max_tokens = job.budget_tokens - len(ids)
        ended = prompt.end_of_thinking(ids)
        begins = True
        until_s = self._pace.stop_thinking_s(job.due_s, self._unread_until(job))
        if self._thinking >= self._seats:
            until_s = self._pace.last_start_s(job.due_s, place.unread_tokens)
        self._thinking += 1
        try:
            async with asyncio.timeout_at(until_s) as limit:
                if max_tokens and ended is None:
                    deltas = engine.think(
                        (*prompt_ids, *ids), max_tokens=max_tokens, stop_ids=prompt.stop_ids, priority=_priority(job)
                    )
                    async with aclosing(cast("AsyncGenerator[object, None]", deltas)):
                        async for delta in deltas:
                            if begins:
                                begins = False
                                place.unread_tokens -= tail_tokens
                                limit.reschedule(self._pace.stop_thinking_s(job.due_s, self._unread_until(job)))
                                note_prefill(
                                    "think",
                                    prompt_tokens=len(prompt_ids) + len(ids),
                                    cached_tokens=delta.cached_tokens,
                                )
                            seen = len(ids)
                            ids += delta.token_ids
                            DECODE_TOKENS.inc(len(delta.token_ids))
                            ended = prompt.end_of_thinking(ids, seen)
                            if ended is not None:
                                break
        except TimeoutError:
            ended = prompt.end_of_thinking(ids)
            return (tuple(ids), "deadline") if ended is None else (tuple(ids[:ended]), "")
        finally:
            self._thinking -= 1
        return (tuple(ids), "budget") if ended is None else (tuple(ids[:ended]), "")

    async def _read(self, prompt_ids: tuple[int, ...], *, priority: int) -> Reading:
        """Read the answer, and learn how long that takes."""
        loop = asyncio.get_running_loop()
        labels = self._parts().prompt.labels
        self._reads += 1
        began_s, at_once = loop.time(), self._reads
        try:
            reading = await self._parts().engine.read(
                prompt_ids, forced_id=labels.digits[1], label_ids=labels.all, priority=priority
            )
        finally:
            at_once = (at_once + self._reads) // 2
            self._reads -= 1
        note_prefill("read", prompt_tokens=len(prompt_ids), cached_tokens=reading.cached_tokens)
        computed = len(prompt_ids) - reading.cached_tokens
        self._pace.note(loop.time() - began_s, tokens=computed, at_once=at_once)
        return reading

    def _unread_until(self, job: ScoreJob) -> int:
        """How many documents may have to be read for the same deadline, including those of this job."""
        return sum(place.open_documents for place in self._running if abs(place.due_s - job.due_s) < 1)

    def _parts(self) -> Loaded:
        if self._loaded is None:
            raise RuntimeError("ERank was asked for scores before its start, or after its close.")
        return self._loaded


def _priority(job: ScoreJob) -> int:
    """Earliest deadline first, in milliseconds."""
    return int(job.due_s * 1000)


def _of_chunks(best: DocumentScore, *, cut: bool) -> DocumentScore:
    """The best chunk's outcome as that of the document. Its thinking is left out: other chunks can't go on from it."""
    judgment = cast("Judgment", best.judgment)
    if cut:
        judgment = msgspec.structs.replace(judgment, cut="deadline")
    return replace(best, judgment=judgment, thought=())


def _fail(index: int, reason: str) -> DocumentScore:
    return DocumentScore(index=index, status="failed", reason=reason)
