"""What is compared by value: records that never change, and nothing that does."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import es_rerank
import workers

MODULES = sorted(
    module.name
    for package in (es_rerank, workers)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_a_record_that_changes_is_compared_by_identity(name: str) -> None:
    """Two of them may happen to hold the same values, and removing one from a list must not remove the other."""
    for kind in vars(importlib.import_module(name)).values():
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and kind.__module__ == name:
            how = kind.__dataclass_params__  # type: ignore[attr-defined]
            assert how.frozen or not how.eq, f"{name}.{kind.__name__} changes, and needs eq=False"
