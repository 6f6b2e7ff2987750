"""The worker process: Celery in a threads pool around one scorer.

Celery fetches tasks and throws expired ones away; the scorer makes the batches. A bootstep loads the model before the
first task is fetched. The process ends when that start fails, and when the scorer breaks for good. Nothing that Redis
says or holds ends it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.worker import state

from es_rerank import wire
from es_rerank.broker import make_celery, make_sync_redis
from es_rerank.errors import SettingsError
from es_rerank.outage import REDIS_ERRORS, Outage
from workers.agreement import Agreement, DisagreementError
from workers.errors import WorkerStartError
from workers.host import Host
from workers.job import Task
from workers.metrics import start_exporter
from workers.pool import WakingPool
from workers.scorers.factory import make_scorer

if TYPE_CHECKING:
    from celery import Celery

    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.settings import Settings

LOG = logging.getLogger(__name__)
BROKEN_EXIT = 1
# How long an orderly end may take after the engine's death. Every query has failed by then, so none is waited for.
BROKEN_LIMIT_S = 30.0
RETRY_S = 1.0


def run_worker(settings: Settings, scorer_name: str | None) -> int:
    """Serve one scorer until SIGTERM or SIGINT, then finish running queries. Returns 0, or 1 where it can't serve.

    Without a name it serves the one scorer in use. Raises SettingsError where the configuration doesn't use exactly
    one, WorkerStartError where the scorer's packages are missing or the metrics' port is taken.
    """
    name, scorer_settings = choose_scorer(settings, scorer_name)
    outage = Outage()
    scorer = make_scorer(scorer_settings, settings)
    host = Host(
        scorer,
        settings,
        outage,
        start_timeout_s=scorer_settings.start_timeout_s,
        on_broken=_end_broken,
    )
    celery = make_celery(settings.redis, outage)
    queue = wire.queue_name(scorer_settings.fingerprint())
    agreement = Agreement(make_sync_redis(settings.redis), scorer)
    _add_task(celery, host, agreement)
    celery.steps["worker"].add(_loading_step(host, agreement))
    port = start_exporter(settings.metrics)
    if port is not None:
        LOG.info("metrics are served on %s:%d", settings.metrics.host, port)

    # Celery would put handlers of its own on the root logger.
    signals.setup_logging.connect(_keep_logging, weak=False)
    signals.worker_ready.connect(lambda **_: _announce(host, name, queue), weak=False)
    signals.worker_shutting_down.connect(lambda **_: host.retire(), weak=False)
    signals.worker_shutdown.connect(lambda **_: host.close(), weak=False)
    worker = celery.Worker(
        pool=WakingPool,
        concurrency=scorer_settings.concurrency,
        queues=[queue],
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def choose_scorer(settings: Settings, name: str | None) -> tuple[str, ScorerSettings]:
    """The scorer to serve, by name, or the only one in use. Raises SettingsError that lists the choices."""
    if name is not None:
        known = settings.known_scorers()
        if name not in known:
            raise SettingsError(f"--scorer {name}: no such scorer; configured are {', '.join(known)}")
        return name, known[name]
    used = settings.used_scorers()
    if len(used) != 1:
        raise SettingsError(
            f"the configuration uses {len(used)} scorers: say which by --scorer, one of {', '.join(used)}"
        )
    return next(iter(used.items()))


def _add_task(celery: Celery, host: Host, agreement: Agreement) -> None:
    @celery.task(name=wire.TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def score_query(*, query_id: str, proxy_id: str) -> None:
        try:
            agreement.confirm()  # again for each query, because Redis may have lost what was agreed
        except DisagreementError as error:
            _end_broken(str(error))
            return
        host.score(Task(query_id=query_id, proxy_id=proxy_id))


def _loading_step(host: Host, agreement: Agreement) -> type[bootsteps.StartStopStep]:
    class LoadScorer(bootsteps.StartStopStep):  # type: ignore[misc]
        """Loads the model before anything is fetched: an error here ends the worker, one in a signal doesn't."""

        requires = ("celery.worker.components:Hub",)

        def start(self, parent: Any) -> None:  # noqa: ARG002  Celery passes it
            try:
                host.start()
                _await_agreement(agreement)
            except WorkerStartError as error:
                LOG.critical("%s", error)
                raise

    return LoadScorer


def _await_agreement(agreement: Agreement) -> None:
    """Agree with the other workers of the fingerprint, waiting for Redis as long as Celery would, which is for ever."""
    silent = False
    while True:
        try:
            agreement.confirm()
        except REDIS_ERRORS as error:
            if not silent:
                LOG.warning("Redis is needed to agree with other workers, and is asked again each second: %s", error)
            silent = True
        else:
            return
        time.sleep(RETRY_S)
        state.maybe_shutdown()


def _end_broken(reason: str) -> None:
    """End the process with an exit code, so that a supervisor starts another: an engine that died stays dead."""
    LOG.critical("%s; the worker ends, so that its supervisor starts another", reason)
    state.should_stop = BROKEN_EXIT
    hard_end = threading.Timer(BROKEN_LIMIT_S, os._exit, [BROKEN_EXIT])
    hard_end.daemon = True
    hard_end.start()


def _announce(host: Host, name: str, queue: str) -> None:
    host.announce()
    LOG.info("scorer %s is served on queue %s", name, queue)


def _keep_logging(**_: object) -> None:
    pass
