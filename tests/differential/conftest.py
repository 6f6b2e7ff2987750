"""One engine after the other, with the system before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.differential.pair import DRAWN_RULES, Pair, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System


@pytest.fixture(scope="module")
def pair(any_engine: Engine, run_system: Callable[..., System]) -> Iterator[Pair]:
    """Each engine, loaded, and a system whose window is shorter than what is found."""
    load(any_engine)
    system = run_system(any_engine.url, extra=DRAWN_RULES)
    if not system.workers():
        system.start_worker()
    pair = Pair(any_engine, system)
    yield pair
    pair.close()
