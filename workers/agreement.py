"""What all workers of one fingerprint must have loaded alike, where the fingerprint can't say it.

A fingerprint comes from the settings, so a proxy can make cache keys before any worker has started. But settings name a
branch of the hub or a folder, and these change; and a worker sees only at its start how its model writes an answer. The
first worker of a fingerprint notes what it has in Redis, and another one that has something else does not serve.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

from workers.errors import WorkerStartError

if TYPE_CHECKING:
    from redis import Redis

    from workers.scorers.protocol import Scorer

PREFIX = "es-rerank:identity:"


class DisagreementError(WorkerStartError):
    """Another worker of the same fingerprint has loaded something else."""


class Agreement:
    """One worker's part in it: what its scorer is and, once it has started, what it has loaded.

    A scorer without an identity agrees with all and asks nothing. The note in Redis never expires, because it has to
    outlive every score that was made under it.
    """

    def __init__(self, redis: Redis, scorer: Scorer) -> None:
        self._redis = redis
        self._scorer = scorer
        self._machine = socket.gethostname()

    def confirm(self) -> None:
        """Compare with the note, and write it where there is none, also where Redis has lost it.

        Raises DisagreementError, with what each machine has and what to do, and what Redis's client raises.
        """
        if not self._scorer.identity:
            return
        key = PREFIX + self._scorer.fingerprint
        own = f"{self._machine} {self._scorer.identity}".encode()
        noted = cast("bytes | None", self._redis.get(key))
        if noted is None:
            self._redis.set(key, own, nx=True)
            noted = cast("bytes | None", self._redis.get(key)) or own
        machine, _, identity = noted.decode("utf-8", "replace").partition(" ")
        if identity != self._scorer.identity:
            raise DisagreementError(
                f"Scores of {self._scorer.fingerprint} come from a model that the machine {machine} has loaded as "
                f"{identity}, and this machine, {self._machine}, has loaded it as {self._scorer.identity}. Both would "
                "fill one cache. Where commits or files differ, set revision for this scorer in the configuration of "
                "all proxies and workers: to the hub's commit, or for a local folder to a new word; that begins an "
                "empty cache. Where only the answers differ, set check_answer alike for all workers. To give up all "
                f"scores of the other model instead, stop its workers and empty this database of Redis, note {key} "
                "included."
            )
