"""The engine on Hugging Face transformers: thinks by its continuous batching, reads by plain forward passes.

Owns the loading, how much memory the cache of keys and values gets, the order of waiting work, and the two threads
that compute. Knows nothing of prompts and scores. torch and transformers are an extra, imported only by `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import importlib
import inspect
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

from workers.errors import WorkerStartError
from workers.scorers.erank.engine import Delta, EngineDeadError, Reading, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

# Tokens of one block of the cache. A prompt's beginning is shared in whole blocks, so small blocks share more.
PAGE_TOKENS = 32
# The most tokens that one step of thinking, and one batch of reads with its padding, compute on each device. A
# cancelled call waits for the end of a step: about a second at these sizes, for a model that suits the device.
STEP_TOKENS = {"cpu": 512, "cuda": 4096}
READ_TOKENS = {"cpu": 2048, "cuda": 16_384}
# Share of the memory free after loading that the cache and its working copies may take; the rest is for reading.
CACHE_SHARE = {"cpu": 0.25, "cuda": 0.6}
WATCH_INTERVAL_S = 0.25
CLOSE_LIMIT_S = 60.0


class TransformersEngine:
    """A causal language model from a local folder, on one GPU or the CPU. See `TokenEngine` for what it promises.

    `dtype` is "auto" (the checkpoint's own) or torch's name of a type; `device` is "auto", "cuda" or "cpu". A prompt
    and its continuation may have `max_model_tokens` together. Up to `max_num_seqs` calls of `think` run at once, and
    others wait.

    Calls of `think` go through the library's continuous batching, in its own thread. Calls of `read` that wait at the
    same moment share a forward pass in another thread. That pass uses a second module over the same weights, because
    continuous batching may change the attention of the first. The engine cannot tell what was in the cache, so
    `cached_tokens` is always 0.
    """

    def __init__(self, folder: Path, *, dtype: str, device: str, max_model_tokens: int, max_num_seqs: int) -> None:
        self._folder = folder
        self._dtype = dtype
        self._device = device
        self._max_model_tokens = max_model_tokens
        self._max_num_seqs = max_num_seqs
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transformers")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._network: _Network | None = None
        self._seats = _Seats(max_num_seqs)
        self._turn = count()
        self._thoughts: dict[str, _Thought] = {}
        self._questions: list[tuple[int, int, _Question]] = []
        self._answering: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._dead = asyncio.Event()
        self._end = ""  # why no work is done any more: death or close

    async def start(self) -> None:
        """Load the model and start its thread. See `TokenEngine.start`."""
        self._loop = asyncio.get_running_loop()
        network = await self._loop.run_in_executor(self._worker, self._load)
        # The library's router has one handler for each request, and keeps for ever what comes for a cancelled one.
        network.manager.output_router.deliver_batch = self._hand_over
        network.manager.output_router.deliver = lambda output: self._hand_over([output])
        network.manager.start()
        self._network = network
        self._watching = asyncio.create_task(self._watch(network))

    async def think(
        self, prompt_ids: Sequence[int], *, max_tokens: int, stop_ids: Sequence[int], priority: int
    ) -> AsyncGenerator[Delta, None]:
        """See `TokenEngine.think`. Raises RuntimeError before `start`."""
        network = self._usable()
        self._check(network, [prompt_ids], len(prompt_ids) + max_tokens)
        if max_tokens < 1:
            raise RefusedError(f"Thinking of {max_tokens} tokens was asked for; at least 1 is needed.")
        await self._seats.take(priority)
        request_id = f"think-{next(self._turn)}"
        thought = self._thoughts[request_id] = _Thought()
        running = False
        given = 0
        try:
            network = self._usable()
            taken = network.manager.add_request(
                list(prompt_ids),
                request_id=request_id,
                max_new_tokens=max_tokens,
                streaming=True,
                eos_token_id=[*network.end_ids, *stop_ids],
            )
            if taken is None:
                raise EngineDeadError(self._die(network.obituary()))
            running = True
            while running:
                output = await thought.next()
                if output is None:
                    raise EngineDeadError(self._end)
                running = not output.is_finished()
                if output.error is not None:
                    raise self._failure(network, output.error)
                # Each output of the library has all tokens from the first on.
                token_ids = tuple(output.generated_tokens[given:])
                if token_ids:
                    given += len(token_ids)
                    yield Delta(token_ids=token_ids, cached_tokens=0)
        finally:
            del self._thoughts[request_id]
            if running and not self._end:
                network.manager.cancel_request(request_id)
            self._seats.give()

    async def read(
        self, prompt_ids: Sequence[int], *, forced_id: int, label_ids: Sequence[int], priority: int
    ) -> Reading:
        """See `TokenEngine.read`. Raises RuntimeError before `start`."""
        network = self._usable()
        self._check(network, [prompt_ids, [forced_id], label_ids], len(prompt_ids) + 1)
        question = _Question(text=_Text(token_ids=(*prompt_ids, forced_id), label_ids=tuple(label_ids)))
        heappush(self._questions, (priority, next(self._turn), question))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer(network))
        return await question.reading

    async def broken(self) -> str:
        """See `TokenEngine.broken`. A close is not a death: a caller that waits here must cancel its wait."""
        await self._dead.wait()
        return self._end

    async def close(self) -> None:
        """Stop the threads and free the memory; running calls end with EngineDeadError. May be called twice.

        Waits a minute at most for a step that is being computed; a thread that takes longer ends after its step.
        """
        self._stop("The engine was closed.")
        tasks = [task for task in (self._watching, self._answering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        network, self._network = self._network, None
        with contextlib.suppress(RuntimeError):  # the worker of a closed engine takes no more jobs
            # Waits for the forward pass that is running, too: the worker does one thing after the other.
            freed = self._worker.submit(_free, network)
            await asyncio.wait([asyncio.wrap_future(freed)], timeout=CLOSE_LIMIT_S)
            self._worker.shutdown(wait=freed.done(), cancel_futures=True)

    def _load(self) -> _Network:
        return _load(
            self._folder,
            dtype=self._dtype,
            device=self._device,
            max_model_tokens=self._max_model_tokens,
            max_num_seqs=self._max_num_seqs,
        )

    def _usable(self) -> _Network:
        if self._end:
            raise EngineDeadError(self._end)
        if self._network is None:
            raise RuntimeError("TransformersEngine was asked for work before its start.")
        return self._network

    def _check(self, network: _Network, parts: Sequence[Sequence[int]], total_tokens: int) -> None:
        """Refuse work that does not fit. An unknown token id would kill the whole engine, not only its own call."""
        if not all(parts):
            raise RefusedError("The prompt or the list of labels is empty.")
        if total_tokens > self._max_model_tokens:
            raise RefusedError(
                f"{total_tokens} tokens, prompt and answer together, are more than the {self._max_model_tokens} "
                "that this engine was started for."
            )
        for ids in parts:
            if min(ids) < 0 or max(ids) >= network.vocabulary:
                raise RefusedError(f"There is a token id outside of the model's vocabulary, 0 to {network.vocabulary}.")

    def _hand_over(self, outputs: list[Any]) -> None:
        """Called in the manager's thread. Once the loop is gone nobody waits for outputs any more."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, outputs)

    def _deliver(self, outputs: list[Any]) -> None:
        for output in outputs:
            if output.request_id in self._thoughts:  # else it was cancelled
                self._thoughts[output.request_id].put(output)

    def _failure(self, network: _Network, error: str) -> EngineDeadError | RefusedError:
        """The error of one `think` call. A dying manager first fails all calls, and only then records why."""
        if network.accepts():
            return RefusedError(f"The model would not continue this prompt: {error}")
        return EngineDeadError(self._die(f"The thread of transformers failed: {error}"))

    async def _answer(self, network: _Network) -> None:
        """Answer the waiting questions, batch by batch, until there are none."""
        batch: list[_Question] = []
        try:
            while batch := self._next_batch(network.read_tokens):
                readings = await asyncio.get_running_loop().run_in_executor(
                    self._worker, network.read, [question.text for question in batch]
                )
                for question, reading in zip(batch, readings, strict=True):
                    question.put(reading)
        except Exception as error:  # noqa: BLE001  ids and lengths were checked, so the device or the weights failed
            self._die(f"Reading failed: {type(error).__name__}: {error}")
        finally:
            for question in batch:
                question.put(EngineDeadError(self._end))

    def _next_batch(self, limit: int) -> list[_Question]:
        """The next questions in order whose rows, padded to one width, stay within `limit` tokens; at least one."""
        batch: list[_Question] = []
        width = 0
        while self._questions:
            question = self._questions[0][-1]
            if not question.reading.done():  # else it was cancelled
                width = max(width, len(question.text.token_ids))
                if batch and width * (len(batch) + 1) > limit:
                    break
                batch.append(question)
            heappop(self._questions)
        return batch

    async def _watch(self, network: _Network) -> None:
        """Notice a dead manager: it does not wake callers whose requests it does not know."""
        while network.alive():  # noqa: ASYNC110  another thread's death sets no event
            await asyncio.sleep(WATCH_INTERVAL_S)
        self._die(network.obituary())

    def _die(self, reason: str) -> str:
        """Record a death, the first one only. Returns why no work is done any more."""
        if not self._end:
            self._stop(reason)
            self._dead.set()
        return self._end

    def _stop(self, reason: str) -> None:
        """Take no more work, and end the calls that wait."""
        self._end = self._end or reason
        self._seats.open()
        for thought in self._thoughts.values():
            thought.put(None)
        for _, _, question in self._questions:
            question.put(EngineDeadError(self._end))
        self._questions.clear()


class _Seats:
    """Permission to think, for at most `number` calls at once: lowest priority first, then the first to come."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._turn = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def take(self, priority: int) -> None:
        """Wait for a seat. Each seat that is taken must be given back."""
        if self._free > 0:
            self._free -= 1
            return
        seat = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (priority, next(self._turn), seat))
        try:
            await seat
        except asyncio.CancelledError:
            if not seat.cancelled():  # the seat came in the same moment
                self.give()
            raise

    def give(self) -> None:
        """Give a seat back; the next call that waits gets it."""
        while self._waiting:
            _, _, seat = heappop(self._waiting)
            if not seat.done():
                seat.set_result(None)
                return
        self._free += 1

    def open(self) -> None:
        """Let all waiting calls through, because there is nothing left to wait for."""
        for _ in range(len(self._waiting)):
            self.give()


class _Thought:
    """The newest output of one `think` call, which holds all earlier tokens; None once nothing more can come."""

    def __init__(self) -> None:
        self._output: Any = None
        self._news = asyncio.Event()

    def put(self, output: Any) -> None:
        # The engine's death does not replace an end that is there already.
        if output is not None or self._output is None or not self._output.is_finished():
            self._output = output
        self._news.set()

    async def next(self) -> Any:
        await self._news.wait()
        self._news.clear()
        return self._output


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """What one `read` call reads: the prompt with the forced token at its end."""

    token_ids: tuple[int, ...]
    label_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Question:
    """One `read` call that waits."""

    text: _Text
    reading: asyncio.Future[Reading] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def put(self, outcome: Reading | Exception) -> None:
        """Answer, if there is no answer yet and somebody waits for one."""
        if self.reading.done():
            return
        if isinstance(outcome, Exception):
            self.reading.set_exception(outcome)
        else:
            self.reading.set_result(outcome)


class _Network:
    """The loaded model. `manager` thinks in its own thread; `read` is for one other thread."""

    def __init__(self, torch: Any, reader: Any, manager: Any, *, end_ids: Sequence[int]) -> None:
        self.manager = manager
        self.end_ids = tuple(end_ids)
        self.vocabulary: int = reader.get_input_embeddings().num_embeddings
        self.read_tokens = READ_TOKENS[reader.device.type]
        self._torch = torch
        self._reader = reader
        # Every position's logits over 150,000 tokens would be gigabytes; nearly all models can leave them out.
        keeps = "logits_to_keep" in inspect.signature(reader.forward).parameters
        self._last_two = {"logits_to_keep": 2} if keeps else {}

    def alive(self) -> bool:
        """Whether the manager's thread runs and nothing fatal has happened in it."""
        return self.manager.background_thread_status.fatal_error is None and bool(self.manager.is_running())

    def accepts(self) -> bool:
        """Whether the manager takes requests. It stops taking them at the first moment of its death."""
        return self.alive() and self.manager.background_thread_status.can_accept_new_requests() is None

    def obituary(self) -> str:
        """Why the manager's thread ended."""
        error = self.manager.background_thread_status.fatal_error
        if error is None:
            return "The thread of transformers ended."
        return f"The thread of transformers failed: {type(error).__name__}: {error}"

    def read(self, batch: Sequence[_Text]) -> list[Reading | RefusedError]:
        """The readings, parallel to `batch`. A batch too large for the GPU's memory is read in parts."""
        try:
            return [*self._read(batch)]
        except self._torch.OutOfMemoryError as error:
            if len(batch) == 1:
                return [RefusedError(f"No GPU memory to read {len(batch[0].token_ids)} tokens: {error}")]
        half = len(batch) // 2
        return self.read(batch[:half]) + self.read(batch[half:])

    def _read(self, batch: Sequence[_Text]) -> list[Reading]:
        torch = self._torch
        width = max(len(text.token_ids) for text in batch)
        # Padded on the left, so that the two places are the last ones of every row.
        padding = [width - len(text.token_ids) for text in batch]
        rows = [[0] * pad + [*text.token_ids] for pad, text in zip(padding, batch, strict=True)]
        ids = torch.tensor(rows, device=self._reader.device)
        places = torch.arange(width, device=ids.device) - torch.tensor(padding, device=ids.device)[:, None]
        with torch.inference_mode():
            logits = self._reader(
                input_ids=ids,
                attention_mask=(places >= 0).long() if any(padding) else None,
                position_ids=places.clamp(min=0),
                use_cache=False,
                **self._last_two,
            ).logits[:, -2:]
            log_probs = logits.float().log_softmax(-1)
            readings = [log_probs[row][:, list(text.label_ids)].tolist() for row, text in enumerate(batch)]
        return [Reading(first=tuple(first), second=tuple(second), cached_tokens=0) for first, second in readings]

    def free(self) -> None:
        """Stop the manager's thread and let go of the weights."""
        self.manager.stop(block=True, timeout=CLOSE_LIMIT_S / 2, hard_stop=True)
        on_gpu = self._reader.device.type == "cuda"
        self.manager = self._reader = None
        gc.collect()
        if on_gpu:
            self._torch.cuda.empty_cache()


def _free(network: _Network | None) -> None:
    if network is not None:
        network.free()


def _load(folder: Path, *, dtype: str, device: str, max_model_tokens: int, max_num_seqs: int) -> _Network:
    """Read the weights, plan the memory and try one reading. Raises WorkerStartError."""
    try:
        # Large, and an extra that only this engine needs.
        import torch  # noqa: PLC0415
        from transformers import AutoModelForCausalLM, GenerationConfig  # noqa: PLC0415
        from transformers.generation.configuration_utils import ContinuousBatchingConfig  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

        importlib.import_module("psutil")  # without it the library's own planning finds 0 bytes of memory
    except ImportError as error:
        raise WorkerStartError(
            f"The transformers engine needs the package {error.name!r}, which cannot be imported here ({error}). "
            "Run `pip install '.[transformers]'`."
        ) from error
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise WorkerStartError(
            'The scorer has device = "cuda", and torch finds no GPU that it can use here. Check the driver with '
            "`nvidia-smi`, that the container was given the GPU, that torch is not a build for CPUs; or set device = "
            '"cpu" or "auto".'
        )
    disable_progress_bar()  # a bar starts a thread that never ends
    try:
        model, end_ids = _read_weights(AutoModelForCausalLM, folder, dtype)
        model = model.to(device).eval()
        # Weights and buffers are the same tensors in both; modules and config are not.
        reader = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
        manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=end_ids or -1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=_count_blocks(
                    model, _free_bytes(torch, device), max_model_tokens=max_model_tokens, max_num_seqs=max_num_seqs
                ),
                max_batch_tokens=max(STEP_TOKENS[device], max_num_seqs),
                max_requests_per_batch=max_num_seqs,
                use_async_batching=False,  # its last step could meet a request that was cancelled meanwhile
                use_cuda_graph=False,
                auto_switch_to_flash=False,  # could fetch a kernel from the hub
            ),
        )
        manager.warmup()  # makes the cache here, not in the manager's thread, where a failure would be a death
        network = _Network(torch, reader, manager, end_ids=end_ids)
        network.read([_Text(token_ids=(0, 0), label_ids=(0,))])
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise WorkerStartError(
            f"The model in {folder} does not fit into the memory of this machine's {device}: {error}. Stop other "
            "programs that use it, lower max_query_tokens, max_document_tokens, max_think_tokens or concurrency, or "
            "take a smaller model."
        ) from error
    return network


def _read_weights(auto_class: Any, folder: Path, dtype: str) -> tuple[Any, list[int]]:
    """The model on the CPU, and the ids that end its turn. Raises WorkerStartError, or MemoryError."""
    if not (folder / "config.json").is_file():
        raise WorkerStartError(f"{folder} is not a model folder: there is no config.json in it that can be read.")
    try:
        # safetensors alone: other weights are pickles, which can run code.
        model, info = auto_class.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, output_loading_info=True
        )
    except MemoryError:
        raise
    except Exception as error:  # a damaged folder fails in many ways
        raise WorkerStartError(
            f"The model in {folder} cannot be loaded: {type(error).__name__}: {error}. It has to hold config.json and "
            "the weights as *.safetensors of a causal language model that transformers knows; if it does, download it "
            "again."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise WorkerStartError(
            f"The weights in {folder} are not complete: {len(missing)} tensors are missing, such as {missing[0]}. "
            "Download the model again, and make sure that it is a causal language model, not an embedding model."
        )
    end_ids = model.generation_config.eos_token_id
    if end_ids is None:
        end_ids = model.config.get_text_config().eos_token_id
    if end_ids is None:
        return model, []
    return model, [end_ids] if isinstance(end_ids, int) else [*end_ids]


def _free_bytes(torch: Any, device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(importlib.import_module("psutil").virtual_memory().available)


def _count_blocks(model: Any, free_bytes: int, *, max_model_tokens: int, max_num_seqs: int) -> int:
    """How many blocks the cache gets: enough for all calls at full length, or fewer where memory is short.

    With fewer, the library makes some calls wait or begin again. Raises MemoryError when not even one would fit.
    """
    config = model.config.get_text_config()
    device = model.device.type
    heads: int = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    # What one token needs: keys and values in every layer; those of one layer, copied for each head, while that layer
    # is computed; and a column of the mask.
    numbers = 2 * config.num_hidden_layers * kv_heads * head_size + (2 * heads + kv_heads) * head_size
    numbers += max(STEP_TOKENS[device], max_num_seqs)
    block_bytes: int = PAGE_TOKENS * numbers * model.dtype.itemsize
    affordable = int(free_bytes * CACHE_SHARE[device]) // block_bytes
    blocks_each = math.ceil(max_model_tokens / PAGE_TOKENS)
    if affordable < blocks_each:
        raise MemoryError(
            f"one text of {max_model_tokens} tokens needs {blocks_each * block_bytes / 2**30:.1f} GiB to be read, and "
            f"{CACHE_SHARE[device]:.0%} of the {free_bytes / 2**30:.1f} GiB that are free may be used"
        )
    return min(affordable, blocks_each * max_num_seqs)
