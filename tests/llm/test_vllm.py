"""The scorer on real vLLM (built for the CPU): does its design hold? Models are small, numbers exact."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from es_rerank.scorers.transformers import TransformersSettings
from es_rerank.scorers.vllm import VllmSettings
from tests.llm.rig import INSTRUCTION, LoopThread, PlainModel, await_true, judge, metric
from tests.workers.scripted import whole_ids
from workers.errors import WorkerStartError
from workers.scorers.erank.model import find_model, load_prompt
from workers.scorers.erank.prompt import PLACE
from workers.scorers.erank.vllm_engine import CPU_BLOCK_TOKENS, VllmEngine
from workers.scorers.factory import make_scorer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.scorers.erank.scorer import Erank

SMALL: dict[str, Any] = {
    "dtype": "float32",
    "max_query_tokens": 256,
    "max_document_tokens": 512,
    "max_think_tokens": 256,
    "check_answer": False,  # models that were not trained for the prompt write anything
}
VLLM: dict[str, Any] = {**SMALL, "kind": "vllm", "max_num_seqs": 64, "max_batched_tokens": 4096, "compile": False}
DOCUMENTS = [f"Document number {number}. " + "The ship sails over the sea at night. " * 5 for number in range(16)]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    """The one loop of the engines of this module."""
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def scorer(loop: LoopThread, smollm2: Path) -> Iterator[Erank]:
    """The scorer on vLLM with a small chat model."""
    scorer = make_scorer(VllmSettings(model=str(smollm2), cpu_kv_cache_gib=2, **VLLM))
    loop.run(scorer.start())
    yield scorer  # type: ignore[misc]
    loop.run(scorer.close())


@pytest.fixture(scope="module")
def plain(smollm2: Path) -> PlainModel:
    """The same model in transformers."""
    return PlainModel(smollm2)


def prompts_of(
    scorer: Erank, texts: list[str], suffix: tuple[int, ...], query: str = "a ship at sea"
) -> list[list[int]]:
    """The prompts of texts, with what is added to them before they are read."""
    built = scorer._parts().prompt.build(instruction=INSTRUCTION, query=query, texts=texts)
    return [[*prompt.chunks[0], *suffix] for prompt in built]


def test_a_read_is_the_models_own_forward_pass(loop: LoopThread, scorer: Erank, plain: PlainModel) -> None:
    """Distribution, paper score and expected score are those of a plain forward pass, thought about or not."""
    prompt = scorer._parts().prompt
    for budget_tokens in (0, 12):
        found = loop.run(judge(scorer, DOCUMENTS[:4], budget_tokens=budget_tokens))
        for one, ids in zip(found, prompts_of(scorer, DOCUMENTS[:4], ()), strict=True):
            between = (*prompt.think_ids, *one.thought, *prompt.answer_ids) if budget_tokens else prompt.direct_ids
            expected = plain.distribution([*ids, *between], prompt.labels.digits, prompt.labels.close)
            assert one.judgment.distribution == pytest.approx(expected, abs=TOLERANCE)
            mean = sum(answer * share for answer, share in enumerate(expected)) / sum(expected)
            assert one.judgment.score("expected") == pytest.approx(mean, abs=TOLERANCE * 10)
            answer = max(range(11), key=expected.__getitem__)
            assert one.judgment.score("paper") == pytest.approx(answer * expected[answer], abs=TOLERANCE * 10)


def test_thinking_is_the_models_own_greedy_continuation(loop: LoopThread, scorer: Erank, plain: PlainModel) -> None:
    """The tokens thought are those that the plain model gives one by one."""
    prompt = scorer._parts().prompt
    [one] = loop.run(judge(scorer, DOCUMENTS[:1], budget_tokens=8))
    [ids] = prompts_of(scorer, DOCUMENTS[:1], prompt.think_ids)
    for token in one.thought:
        assert int(plain.log_probabilities(ids).argmax()) == token
        ids.append(token)


def test_a_grammar_would_not_give_raw_probabilities(loop: LoopThread, scorer: Erank) -> None:
    """Why no structured output is used: vLLM renormalises under a grammar, so the mass would be lost."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import StructuredOutputsParams

    prompt = scorer._parts().prompt
    [ids] = prompts_of(scorer, DOCUMENTS[:1], prompt.direct_ids)
    parameters = SamplingParams(
        temperature=0,
        max_tokens=1,
        logprob_token_ids=list(prompt.labels.digits),
        structured_outputs=StructuredOutputsParams(choice=[str(score) for score in range(11)]),
    )

    async def ask() -> Any:
        async for output in scorer._parts().engine._engine.generate(  # type: ignore[attr-defined]
            tokens_input(ids), parameters, request_id="grammar"
        ):
            last = output
        return last

    import math

    first = loop.run(ask()).outputs[0].logprobs[0]
    under_grammar = sum(math.exp(first[digit].logprob) for digit in prompt.labels.digits)
    [one] = loop.run(judge(scorer, DOCUMENTS[:1]))
    assert under_grammar == pytest.approx(1, abs=0.01)
    assert one.judgment.mass < 0.5


def test_a_read_finds_its_thinking_in_the_prefix_cache(loop: LoopThread, scorer: Erank) -> None:
    """Reading computes the last block and the closing tags only; what was prompted and thought is there."""
    prompt = scorer._parts().prompt
    [one] = loop.run(judge(scorer, ["A document that was just thought about."], budget_tokens=48))
    [ids] = prompts_of(scorer, ["A document that was just thought about."], prompt.think_ids)
    whole = [*ids, *one.thought, *prompt.answer_ids]
    reading = loop.run(scorer._read(tuple(whole), priority=0))
    assert reading.cached_tokens >= len(whole) - CPU_BLOCK_TOKENS - len(prompt.answer_ids)


def test_the_documents_of_a_query_share_its_prefix(loop: LoopThread, scorer: Erank) -> None:
    """Instruction and query are computed once: fifteen of sixteen documents that come at once find them cached."""
    query = "what do the sixteen documents that nobody has asked about share?"
    prompt = scorer._parts().prompt
    first, second = prompts_of(scorer, DOCUMENTS[:2], (), query)
    shared = next(place for place, (one, two) in enumerate(zip(first, second, strict=False)) if one != two)
    before = metric("vllm:prefix_cache_hits")
    loop.run(judge(scorer, [f"{number}: {text}" for number, text in enumerate(DOCUMENTS)], query=query))
    blocks = shared // CPU_BLOCK_TOKENS * CPU_BLOCK_TOKENS
    assert metric("vllm:prefix_cache_hits") - before >= 15 * (blocks - CPU_BLOCK_TOKENS)
    assert prompt.labels.digits


def test_queries_share_one_batch(loop: LoopThread, scorer: Erank) -> None:
    """Three queries of sixteen documents, sent by three tasks, are one running batch: not three after another."""
    most = 0.0
    before = metric("vllm:iteration_tokens_total")

    async def three() -> None:
        nonlocal most
        asked = asyncio.gather(
            *(judge(scorer, DOCUMENTS, query=f"query {number}", budget_tokens=24) for number in range(3))
        )
        while not asked.done():
            most = max(most, metric("vllm:num_requests_running"))
            await asyncio.sleep(0.02)
        await asked

    loop.run(three())
    assert most == 48
    # One after another they would take three times 24 steps for thinking alone.
    assert metric("vllm:iteration_tokens_total") - before < 2 * 24


def test_a_cancelled_query_leaves_the_engine_empty(loop: LoopThread, scorer: Erank) -> None:
    """A cancelled query drops its work, and the engine has nothing left to do."""

    async def leave() -> None:
        asked = asyncio.ensure_future(judge(scorer, DOCUMENTS, query="who leaves?", budget_tokens=250))
        while metric("vllm:num_requests_running") < 16:  # noqa: ASYNC110  the engine has no event for it
            await asyncio.sleep(0.02)
        asked.cancel()
        await asyncio.wait([asked])

    loop.run(leave())
    engine = scorer._parts().engine._engine  # type: ignore[attr-defined]
    await_true(lambda: engine.get_num_unfinished_requests() == 0, limit_s=10)
    began = metric("vllm:generation_tokens")
    loop.run(asyncio.sleep(3))
    assert metric("vllm:generation_tokens") == began
    assert loop.run(judge(scorer, DOCUMENTS[:1]))[0].status == "ok"


def test_every_document_is_judged_by_the_deadline(loop: LoopThread, scorer: Erank) -> None:
    """A deadline in the middle of the thinking gives each document a judgment that says it was cut."""
    loop.run(judge(scorer, DOCUMENTS, query="a short deadline"))
    found = loop.run(judge(scorer, DOCUMENTS, query="a short deadline", within_s=4.0, budget_tokens=256))
    assert [one.status for one in found] == ["ok"] * 16
    assert {one.judgment.cut for one in found} <= {"deadline", ""}
    assert any(one.judgment.cut == "deadline" for one in found)
    resumed = loop.run(
        judge(
            scorer,
            DOCUMENTS,
            query="a short deadline",
            budget_tokens=32,
            thought={one.index: one.thought for one in found},
        )
    )
    whole = loop.run(judge(scorer, DOCUMENTS, query="a short deadline", budget_tokens=32))
    assert [one.thought for one in resumed] == [one.thought for one in whole]


def test_a_bad_document_touches_no_other(loop: LoopThread, scorer: Erank) -> None:
    """Empty, binary and huge documents beside good ones: the good ones get what they get alone."""
    alone = loop.run(judge(scorer, DOCUMENTS[:2]))
    beside = loop.run(judge(scorer, [*DOCUMENTS[:2], "", "\x00\xff\udcff" * 50, "x y z " * 170_000]))
    assert [one.status for one in beside] == ["ok", "ok", "failed", "ok", "ok"]
    for one, other in zip(alone, beside, strict=False):
        assert one.judgment.distribution == pytest.approx(other.judgment.distribution, abs=TOLERANCE)
    assert beside[4].judgment.truncated


def test_the_k_best_log_probabilities_are_never_asked_for(loop: LoopThread, scorer: Erank) -> None:
    """In one step with named ones vLLM's older runner loses them, so the engine refuses to send such a request."""
    from vllm import SamplingParams

    engine = scorer._parts().engine
    assert isinstance(engine, VllmEngine)

    async def ask() -> None:
        async for _ in engine._run([1, 2, 3], SamplingParams(logprobs=5), 0):
            pass

    with pytest.raises(AssertionError, match="k best"):
        loop.run(ask())


@pytest.mark.parametrize("folder", ["smollm2", "tiny_qwen3"])
def test_pieces_are_the_whole(folder: str, request: pytest.FixtureRequest) -> None:
    """Prompts put together of pieces are, token for token, the whole text tokenised at once."""
    from transformers import AutoTokenizer

    model = find_model(str(request.getfixturevalue(folder)), "")
    prompt, _ = load_prompt(model, max_query_tokens=256, max_document_tokens=512, max_think_tokens=256, max_chunks=1)
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    frame = tokenizer.apply_chat_template(
        [{"role": "user", "content": PLACE}], tokenize=False, add_generation_prompt=True
    )
    for document in (
        "One.",
        "Ends in a colon:",
        "two\n\nparagraphs…",
        "日本語。",
        "1 2 3 10",
        "(a)",
        "tab\tand 'quotes'",
    ):
        for query in ("which?", "10", "wo ist das?"):
            [built] = prompt.build(instruction=INSTRUCTION, query=query, texts=[document])
            whole = whole_ids(prompt, instruction=INSTRUCTION, query=query, document=document, frame=frame)
            assert list(built.chunks[0]) == whole


def test_transformers_and_vllm_give_the_same_scores(loop: LoopThread, tiny_qwen3: Path) -> None:
    """On ERank's own architecture both engines and a plain forward pass give the same numbers and thoughts."""
    found = {}
    for settings in (
        VllmSettings(model=str(tiny_qwen3), cpu_kv_cache_gib=1, **VLLM),
        TransformersSettings(model=str(tiny_qwen3), kind="transformers", device="cpu", **SMALL),
    ):
        scorer = cast("Erank", make_scorer(settings))
        loop.run(scorer.start())
        try:
            found[settings.kind] = [
                loop.run(judge(scorer, DOCUMENTS[:4], budget_tokens=budget_tokens)) for budget_tokens in (0, 10)
            ]
        finally:
            loop.run(scorer.close())
    plain = PlainModel(tiny_qwen3)
    prompt = scorer_prompt(tiny_qwen3)
    built = prompt.build(instruction=INSTRUCTION, query="a ship at sea", texts=DOCUMENTS[:4])
    for ours, theirs in zip(found["vllm"], found["transformers"], strict=True):
        assert [one.thought for one in ours] == [one.thought for one in theirs]
        for one, other, ids in zip(ours, theirs, built, strict=True):
            assert one.judgment.distribution == pytest.approx(other.judgment.distribution, abs=TOLERANCE)
            between = (*prompt.think_ids, *one.thought, *prompt.answer_ids) if one.thought else prompt.direct_ids
            expected = plain.distribution([*ids.chunks[0], *between], prompt.labels.digits, prompt.labels.close)
            assert one.judgment.distribution == pytest.approx(expected, abs=TOLERANCE)


def scorer_prompt(folder: Path) -> Any:
    """The prompt of a model's folder."""
    return load_prompt(
        find_model(str(folder), ""), max_query_tokens=256, max_document_tokens=512, max_think_tokens=256, max_chunks=1
    )[0]


def test_a_context_that_is_too_small_is_told(loop: LoopThread, tiny_qwen3: Path) -> None:
    """Settings whose longest prompt the model can't read are refused at the start, with what to lower."""
    settings = VllmSettings(model=str(tiny_qwen3), **{**VLLM, "max_think_tokens": 30_000})
    with pytest.raises(WorkerStartError, match="lower one"):
        loop.run(make_scorer(settings).start())
