"""Celery's threads pool, which fetches the next task as soon as a thread is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop

if TYPE_CHECKING:
    from concurrent.futures import Future


class WakingPool(TaskPool):  # type: ignore[misc]
    """A pool of threads that wakes Celery's loop at the end of each task.

    A worker fetches no more tasks than it has threads. Celery's loop looks for a free one once a second, and when it is
    woken; the end of a task alone does not wake it.
    """

    def on_apply(self, *args: Any, **options: Any) -> Any:
        """See `TaskPool`."""
        result = super().on_apply(*args, **options)
        result.f.add_done_callback(_wake)
        return result


def _wake(_: Future[object]) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_nothing)  # type: ignore[no-untyped-call]


def _nothing() -> None:
    pass
