"""What a worker does at its start on real engines: it sees how its model answers, and agrees with other workers."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis as sync_redis

from es_rerank.scorers.transformers import TransformersSettings
from es_rerank.scorers.vllm import VllmSettings
from tests.conftest import COMMAND, Engine
from tests.llm.rig import LoopThread, judge
from tests.llm.tiny import make_writing_qwen3
from workers.agreement import PREFIX
from workers.errors import WorkerStartError
from workers.scorers.factory import make_scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from es_rerank.scorers.llm import LlmSettings
    from tests.conftest import System
    from workers.scorers.erank.scorer import Erank

LIMITS: dict[str, Any] = {
    "dtype": "float32",
    "max_query_tokens": 128,
    "max_document_tokens": 512,
    "max_think_tokens": 32,
}
START_LIMIT_S = 240.0
RULE = """
[scorers.s]
kind = "transformers"
model = "{model}"
device = "cpu"
max_query_tokens = 128
max_document_tokens = 512
max_think_tokens = 32
[[rules]]
name = "films"
indices = ["films*"]
fields = ["text"]
scorer = "s"
budget_tokens = 8
deadline_s = 10.0
"""


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    """The one loop of the engines of this module."""
    loop = LoopThread()
    yield loop
    loop.close()


def settings_of(kind: str, model: Path, **more: Any) -> LlmSettings:
    """The settings of a scorer on an engine, on the CPU."""
    if kind == "transformers":
        return TransformersSettings(kind="transformers", model=str(model), device="cpu", **LIMITS, **more)
    small = {"max_num_seqs": 16, "max_batched_tokens": 2048, "compile": False, "cpu_kv_cache_gib": 1}
    return VllmSettings(kind="vllm", model=str(model), **LIMITS, **small, **more)


@pytest.mark.parametrize(
    ("kind", "writes", "before"),
    [
        ("transformers", "hm</think><answer>7</answer>", "<answer>"),
        ("transformers", "hm</think>\n<answer>(7)</answer>", "\n<answer>("),
        ("transformers", "hm</think>\n\nAnswer: 7", "\n\nAnswer: "),
        ("vllm", "hm</think>\n\nAnswer: 7", "\n\nAnswer: "),
    ],
)
def test_a_model_is_read_where_it_writes_its_answer(
    loop: LoopThread, tmp_path: Path, kind: str, writes: str, before: str
) -> None:
    """The answer that the model writes by itself is the one that has nearly all probability where it is read."""
    make_writing_qwen3(tmp_path, writes)
    scorer = cast("Erank", make_scorer(settings_of(kind, tmp_path)))  # type: ignore[arg-type]
    loop.run(scorer.start())
    try:
        assert json.loads(scorer.identity)["answer"].startswith(f"</think>{before}0")
        for budget_tokens in (0, 8):
            [one] = loop.run(judge(scorer, ["The ship sails."], budget_tokens=budget_tokens))
            assert one.judgment.distribution[7] == pytest.approx(1, abs=0.01)
            assert one.reasoning == ("hm" if budget_tokens else "")
    finally:
        loop.run(scorer.close())


def test_an_untrained_model_does_not_serve_unless_it_is_told_to(loop: LoopThread, tiny_qwen3: Path) -> None:
    """What it wrote is told; with check_answer = false it is read behind the tag that the prompt names."""
    with pytest.raises(WorkerStartError, match="check_answer = false"):
        loop.run(make_scorer(settings_of("transformers", tiny_qwen3)).start())  # type: ignore[arg-type]
    scorer = make_scorer(settings_of("transformers", tiny_qwen3, check_answer=False))  # type: ignore[arg-type]
    loop.run(scorer.start())
    assert json.loads(scorer.identity)["answer"].startswith("</think><answer>0")
    loop.run(scorer.close())


def test_workers_of_one_fingerprint_never_fill_one_cache_from_two_models(
    osmem_url: str, run_system: Callable[..., System], tmp_path: Path, own_redis_url: str
) -> None:
    """A worker whose folder holds other files does not start; one whose note was replaced ends with its next query."""
    folder = tmp_path / "model"
    make_writing_qwen3(folder, "hm</think><answer>7</answer>")
    Engine("osmem", osmem_url).load("films", {"1": {"text": "film about a ship"}})
    extra = RULE.format(model=folder)
    system = run_system(osmem_url, redis=own_redis_url, extra=extra)
    worker = system.start_worker(limit_s=START_LIMIT_S)

    def search(text: str) -> Any:
        body = {"query": {"match": {"text": f"film {text}"}}}
        return system.search("films", body, include=["status", "scores"])

    assert search("of one")["_es_rerank"]["status"] == "full"
    with sync_redis.Redis.from_url(own_redis_url) as client:
        [key] = client.keys(PREFIX + "*")
        note = client.get(key)

        # Other files under the same path, as on a machine that has another snapshot.
        folder.rename(tmp_path / "before")
        make_writing_qwen3(folder, "hm</think>\n<answer>7</answer>")
        config = tmp_path / "c.toml"
        config.write_text(f'[upstream]\nurls = ["{osmem_url}"]\n[redis]\nurl = "{own_redis_url}"\n{extra}')
        ended = subprocess.run(
            [*COMMAND, "worker", "--config", str(config)],
            env={**os.environ},
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
        )
        assert ended.returncode == 1, ended.stderr
        assert "set revision for this scorer" in ended.stderr
        assert search("of two")["_es_rerank"]["status"] == "full"
        assert client.get(key) == note

        client.set(key, b"gpu-2 something else")
    answer = search("of three")
    assert answer["_es_rerank"]["status"] == "failed"
    assert len(answer["hits"]["hits"]) == 1
    assert worker.process.wait(START_LIMIT_S) == 1
