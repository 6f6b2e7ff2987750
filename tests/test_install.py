"""What an install brings: the base is small and has no torch."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

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
        except PackageNotFoundError:  # of another platform or Python
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
