"""The jobs of a process are known while they run, and end with it."""

from __future__ import annotations

import asyncio

from es_rerank.proxy.jobs import Jobs


async def test_a_job_is_known_while_it_runs() -> None:
    """By its kind and id; afterwards there is room again, whether it ended well or not."""
    jobs, ends = Jobs(), asyncio.Event()

    async def work() -> None:
        await ends.wait()

    jobs.start("replay", "a", work())
    jobs.start("sweep", "b", work())
    assert (jobs.count("replay"), jobs.count("sweep"), jobs.runs("replay", "a")) == (1, 1, True)
    assert not jobs.runs("sweep", "a")
    ends.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert (jobs.count("replay"), jobs.count("sweep"), jobs.runs("replay", "a")) == (0, 0, False)


async def test_a_process_that_stops_lets_its_jobs_say_so() -> None:
    """Each is cancelled, and may write how it ended before the process goes on to stop."""
    jobs = Jobs()
    said: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            said.append(name)
            raise

    for name in ("a", "b"):
        jobs.start("replay", name, work(name))
    await asyncio.sleep(0)
    await jobs.close()
    assert sorted(said) == ["a", "b"]
    assert jobs.count("replay") == 0


def test_each_process_has_a_name_of_its_own() -> None:
    """After a restart too, so that no document is taken for that of a job that runs."""
    assert Jobs().proxy != Jobs().proxy
