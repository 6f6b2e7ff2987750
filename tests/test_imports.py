"""What is imported when: the base package needs none of the packages beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "es_rerank"
BESIDE = {"ingest", "workers"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_beside_is_imported_at_the_top(file: Path) -> None:
    """`ingest` and `workers` are imported by the commands that need them, when they run, and nowhere else."""
    imported: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
    assert not imported & BESIDE
