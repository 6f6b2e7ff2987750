"""The transformers engine against the same model called plainly."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from workers.errors import WorkerStartError
from workers.scorers.erank.engine import EngineDeadError, RefusedError
from workers.scorers.erank.transformers_engine import TransformersEngine, _Seats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

LABELS = [1, 20, 300]
FORCED = 9
LENGTHS = [3, 50, 120, 7, 300, 64, 33, 90]
# Ten times what the slowest machine needs.
LIMIT_S = 10.0


def make_prompt(length: int) -> list[int]:
    """Random tokens, the same ones each time."""
    numbers = random.Random(length)
    return [numbers.randrange(10, 250) for _ in range(length)]


def make_engine(folder: Path, **changes: Any) -> TransformersEngine:
    """An engine that is not started."""
    chosen: dict[str, Any] = {
        "dtype": "float32",
        "device": "cpu",
        "max_model_tokens": 1024,
        "max_num_seqs": 8,
    } | changes
    return TransformersEngine(folder, **chosen)


@pytest.fixture
async def engine(tiny_qwen3: Path) -> AsyncIterator[TransformersEngine]:
    """A started engine with the tiny model."""
    started = make_engine(tiny_qwen3)
    await started.start()
    yield started
    await started.close()


def load_plain(folder: Path) -> Any:
    """The model as transformers loads it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


@pytest.fixture(scope="session")
def plain(tiny_qwen3: Path) -> Any:
    """The tiny model as transformers loads it, which nothing of ours has touched."""
    return load_plain(tiny_qwen3)


def read_plainly(model: Any, prompt: Sequence[int]) -> list[float]:
    """What `read` should give, by one forward pass."""
    import torch

    with torch.no_grad():
        log_probs = model(torch.tensor([[*prompt, FORCED]])).logits[0].float().log_softmax(-1)
    return [float(log_probs[place, label]) for place in (-2, -1) for label in LABELS]


def continue_plainly(model: Any, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What `think` should give, by transformers' own generate."""
    import torch

    ids = torch.tensor([[*prompt]])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens)
    return [int(token) for token in made[0, len(prompt) :]]


async def think(
    engine: TransformersEngine, prompt: Sequence[int], max_tokens: int, *, stop_ids: Sequence[int] = ()
) -> list[int]:
    """Every token of a thinking."""
    token_ids: list[int] = []
    async for delta in engine.think(prompt, max_tokens=max_tokens, stop_ids=stop_ids, priority=0):
        token_ids += delta.token_ids
    return token_ids


async def read(engine: TransformersEngine, prompt: Sequence[int]) -> list[float]:
    """Both places of a reading, one after the other."""
    reading = await engine.read(prompt, forced_id=FORCED, label_ids=LABELS, priority=0)
    return [*reading.first, *reading.second]


def scheduler_of(engine: TransformersEngine) -> Any:
    """The library's scheduler, which knows every request."""
    assert engine._network is not None
    return engine._network.manager.batch_processor.scheduler


def go_on(engine: TransformersEngine) -> None:
    """Let no thinking end by itself, whatever the weights are."""
    assert engine._network is not None
    engine._network.end_ids = ()


async def wait_until_empty(engine: TransformersEngine) -> None:
    """Return once the manager knows of no request."""
    async with asyncio.timeout(LIMIT_S):
        while scheduler_of(engine).has_pending_requests():  # noqa: ASYNC110  another thread knows
            await asyncio.sleep(0.01)


async def test_a_lone_reading_is_exact(engine: TransformersEngine, plain: Any) -> None:
    """A reading gives the log-probabilities of a plain forward pass."""
    prompt = make_prompt(50)
    assert await read(engine, prompt) == pytest.approx(read_plainly(plain, prompt), abs=1e-4)


async def test_readings_of_other_lengths_change_nothing(engine: TransformersEngine, plain: Any) -> None:
    """Each of eight readings at once gives what it gives alone, though they share padded forward passes."""
    prompts = [make_prompt(length) for length in LENGTHS]
    for found, prompt in zip(await asyncio.gather(*(read(engine, p) for p in prompts)), prompts, strict=True):
        assert found == pytest.approx(read_plainly(plain, prompt), abs=1e-4)


async def test_readings_that_wait_together_share_passes(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight short readings at once are one forward pass, and the most urgent is in front."""
    network = engine._network
    assert network is not None
    batches: list[list[int]] = []
    read_batch = network.read

    def spy(batch: Any) -> Any:
        batches.append([len(text.token_ids) for text in batch])
        return read_batch(batch)

    monkeypatch.setattr(network, "read", spy)
    asked = [engine.read(make_prompt(n), forced_id=FORCED, label_ids=LABELS, priority=-n) for n in range(1, 9)]
    await asyncio.gather(*asked)
    assert batches == [[9, 8, 7, 6, 5, 4, 3, 2]]


async def test_a_trained_model_reads_and_thinks_as_it_does_plainly(smollm2: Path) -> None:
    """A model of another architecture, with trained weights, gives the same tokens and probabilities."""
    engine = make_engine(smollm2)
    await engine.start()
    try:
        model = await asyncio.to_thread(load_plain, smollm2)
        prompts = [make_prompt(length) for length in (5, 40)]
        thoughts = await asyncio.gather(*(think(engine, prompt, 12) for prompt in prompts))
        readings = await asyncio.gather(*(read(engine, prompt) for prompt in prompts))
    finally:
        await engine.close()
    for prompt, thought, reading in zip(prompts, thoughts, readings, strict=True):
        assert thought == continue_plainly(model, prompt, 12)
        assert reading == pytest.approx(read_plainly(model, prompt), abs=1e-3)


async def test_thinking_is_greedy_generation(engine: TransformersEngine, plain: Any) -> None:
    """Eight thinkings at once give what generate gives for each prompt, token for token."""
    prompts = [make_prompt(length) for length in LENGTHS]
    for found, prompt in zip(await asyncio.gather(*(think(engine, p, 40) for p in prompts)), prompts, strict=True):
        assert found == continue_plainly(plain, prompt, 40)


async def test_reading_and_thinking_at_once_change_nothing(engine: TransformersEngine, plain: Any) -> None:
    """Thinkings and readings that run at the same time give what they give alone."""
    prompts = [make_prompt(length) for length in (20, 70)]
    thoughts, readings = await asyncio.gather(
        asyncio.gather(*(think(engine, prompt, 60) for prompt in prompts)),
        asyncio.gather(*(read(engine, prompt) for prompt in prompts * 10)),
    )
    assert thoughts == [continue_plainly(plain, prompt, 60) for prompt in prompts]
    for found, prompt in zip(readings, prompts * 10, strict=True):
        assert found == pytest.approx(read_plainly(plain, prompt), abs=1e-4)


async def test_a_stop_id_ends_a_thinking(engine: TransformersEngine) -> None:
    """A thinking ends with the first stop id, which is given."""
    go_on(engine)
    prompt = make_prompt(30)
    everything = await think(engine, prompt, 30)
    stop = everything[8]
    assert await think(engine, prompt, 30, stop_ids=[stop]) == everything[: everything.index(stop) + 1]


async def test_the_first_token_comes_at_once(engine: TransformersEngine) -> None:
    """Tokens are given as they are made: the first long before the last could be there."""
    go_on(engine)
    thinking = engine.think(make_prompt(30), max_tokens=900, stop_ids=[], priority=0)
    assert len((await anext(thinking)).token_ids) < 10
    await thinking.aclose()


async def test_a_closed_thinking_leaves_nothing(engine: TransformersEngine) -> None:
    """A thinking closed early, or cancelled, is soon gone from the manager and from the engine."""
    go_on(engine)
    thinking = engine.think(make_prompt(30), max_tokens=900, stop_ids=[], priority=0)
    await anext(thinking)
    await thinking.aclose()
    await wait_until_empty(engine)

    task = asyncio.create_task(think(engine, make_prompt(31), 900))
    async with asyncio.timeout(LIMIT_S):
        while not scheduler_of(engine).has_pending_requests():  # noqa: ASYNC110  another thread knows
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until_empty(engine)
    assert not engine._thoughts
    assert len(await think(engine, make_prompt(32), 3)) == 3


async def test_two_thinkings_share_a_step(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thinkings at once are computed in the same forward passes."""
    go_on(engine)
    scheduler = scheduler_of(engine)
    schedule = scheduler.schedule_batch
    sizes: list[int] = []

    def spy(*budgets: Any) -> Any:
        scheduled = schedule(*budgets)
        sizes.append(len(scheduled[0] or []))
        return scheduled

    monkeypatch.setattr(scheduler, "schedule_batch", spy)
    await asyncio.gather(think(engine, make_prompt(20), 50), think(engine, make_prompt(21), 50))
    assert sizes.count(2) > 10


async def test_a_full_cache_makes_thinkings_wait(tiny_qwen3: Path, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory has room for one thinking at full length, several still end, with the same tokens."""
    monkeypatch.setattr(
        "workers.scorers.erank.transformers_engine._count_blocks",
        lambda *_, max_model_tokens, **__: max_model_tokens // 32,
    )
    engine = make_engine(tiny_qwen3, max_model_tokens=128)
    await engine.start()
    try:
        prompts = [make_prompt(length) for length in (50, 51, 52, 53)]
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(think(engine, prompt, 70) for prompt in prompts))
    finally:
        await engine.close()
    assert found == [continue_plainly(plain, prompt, 70) for prompt in prompts]


async def test_seats_go_by_priority() -> None:
    """Of the calls that wait, the lowest priority goes first, then the first to come; a cancelled call gets no seat."""
    seats = _Seats(1)
    await seats.take(0)
    order: list[str] = []

    async def sit(name: str, priority: int) -> None:
        await seats.take(priority)
        order.append(name)
        seats.give()

    tasks = [asyncio.create_task(sit(name, priority)) for name, priority in (("c", 2), ("a", 1), ("x", 0), ("b", 1))]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.sleep(0)
    seats.give()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "b", "c"]


@pytest.mark.parametrize(("prompt", "max_tokens"), [([], 5), ([1, 10**9], 5), ([1, -1], 5), ([1] * 1020, 5), ([1], 0)])
async def test_what_cannot_be_done_is_refused_alone(
    engine: TransformersEngine, prompt: list[int], max_tokens: int
) -> None:
    """A prompt that is empty, too long or of unknown tokens is refused, and the next one is served."""
    with pytest.raises(RefusedError):
        await think(engine, prompt, max_tokens)
    if len(prompt) < 1000 and max_tokens:
        with pytest.raises(RefusedError):
            await read(engine, prompt)
    assert await think(engine, [10, 11], 2)


async def test_a_close_leaves_no_thread(tiny_qwen3: Path) -> None:
    """After a close no thread is left, what ran has ended with an error, and nothing more is done."""
    before = set(threading.enumerate())
    engine = make_engine(tiny_qwen3)
    await engine.start()
    go_on(engine)
    task = asyncio.create_task(think(engine, make_prompt(30), 900))
    await read(engine, make_prompt(10))
    began = time.monotonic()
    await engine.close()
    assert time.monotonic() - began < LIMIT_S
    assert set(threading.enumerate()) <= before
    with pytest.raises(EngineDeadError):
        await task
    with pytest.raises(EngineDeadError):
        await read(engine, make_prompt(10))
    await engine.close()


async def test_a_dead_manager_is_noticed(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the manager fails, the thinkings end, `broken` gives the reason and no work is taken."""
    go_on(engine)
    broken = asyncio.create_task(engine.broken())

    def fail(*_: Any) -> None:
        raise RuntimeError("the device is gone")

    thinking = engine.think(make_prompt(30), max_tokens=900, stop_ids=[], priority=0)
    await anext(thinking)
    assert not broken.done()
    monkeypatch.setattr(scheduler_of(engine), "schedule_batch", fail)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(EngineDeadError, match="the device is gone"):
            async for _ in thinking:
                pass
        assert "the device is gone" in await broken
    with pytest.raises(EngineDeadError, match="the device is gone"):
        await think(engine, make_prompt(3), 2)


async def test_a_thread_that_ends_silently_is_noticed(engine: TransformersEngine) -> None:
    """`broken` comes back, too, when the manager's thread ends without an error."""
    assert engine._network is not None
    engine._network.manager.background_thread_status.request_stop(2, 0)
    async with asyncio.timeout(LIMIT_S):
        assert "ended" in await engine.broken()


async def test_failed_reading_is_death(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass that fails for another reason than its text ends the engine."""

    def fail(_: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine._network, "read", fail)
    with pytest.raises(EngineDeadError, match="the device is gone"):
        await read(engine, make_prompt(3))
    async with asyncio.timeout(LIMIT_S):
        assert "the device is gone" in await engine.broken()


async def expect_no_start(folder: Path, match: str, **changes: Any) -> None:
    """Check that a start fails with a text that matches."""
    engine = make_engine(folder, **changes)
    try:
        with pytest.raises(WorkerStartError, match=match):
            await engine.start()
    finally:
        await engine.close()


async def test_a_start_without_a_gpu_says_so(tiny_qwen3: Path) -> None:
    """A start that was asked for a GPU where there is none says what to do."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    await expect_no_start(tiny_qwen3, "finds no GPU.*device = ", device="cuda")


async def test_a_start_on_a_damaged_folder_says_so(tiny_qwen3: Path, tmp_path: Path) -> None:
    """A folder without a config, with a cut weight file or without weights stops the start."""
    await expect_no_start(tmp_path / "none", "no config.json")
    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen3, folder)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    await expect_no_start(folder, "cannot be loaded.*download it again")
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    await expect_no_start(folder, "cannot be loaded")


async def test_a_start_with_missing_tensors_says_so(tiny_qwen3: Path, tmp_path: Path) -> None:
    """Weights that lack a tensor stop the start; transformers would fill it with random numbers."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen3, folder)
    [file] = folder.glob("*.safetensors")
    tensors = load_file(file)
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    await expect_no_start(folder, "not complete.*q_proj")


async def test_a_start_with_too_little_memory_says_so(tiny_qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that has no room for one text of full length says what to lower."""
    monkeypatch.setattr("workers.scorers.erank.transformers_engine._free_bytes", lambda *_: 1 << 20)
    await expect_no_start(tiny_qwen3, "does not fit.*lower max_query_tokens")


async def test_a_start_without_the_packages_says_so(tiny_qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start without the extra's packages says how to install them."""
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    await expect_no_start(tiny_qwen3, r"pip install '\.\[transformers\]'")
