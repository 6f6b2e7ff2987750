"""The queue in Redis as Celery uses it: kombu's own transport, but last in, first out, and ended by nothing in Redis.

Newest first, because under more load than the workers can carry the oldest task is the one that comes too late. Tasks
are acknowledged as they are fetched: a lost one costs its query some scores, never a hit. So the queue is one list and
nothing else, with no table of bindings and no index of messages that are not acknowledged.
"""

from __future__ import annotations

import logging
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, ClassVar

from celery.app.amqp import AMQP as CeleryAMQP  # noqa: N811  the name is theirs
from kombu.connection import Connection as KombuConnection
from kombu.transport import redis
from kombu.utils.json import dumps
from redis.exceptions import RedisError, ResponseError

from es_rerank.outage import words_of

if TYPE_CHECKING:
    from es_rerank.outage import Outage

LOG = logging.getLogger(__name__)
READING = "reading the queue"
# The oldest tasks are dropped beyond this, and a queue that nobody has written to for so long. No deadline is longer
# than an hour, so nobody waits for what is dropped.
MAX_QUEUED = 10_000
QUEUE_TTL_S = 2 * 3600
# The pause after a refusal, and the longest one between two attempts to connect.
PAUSE_S = 0.5


class Channel(redis.Channel):
    """A list of tasks: written and read at the same end."""

    ack_emulation = False
    do_restore = False
    from_transport_options: ClassVar[tuple[str, ...]] = (*redis.Channel.from_transport_options, "outage")  # type: ignore[assignment,misc]
    outage: Outage | None = None

    def _put(self, queue: str, message: Any, **_: object) -> None:
        """Write a task to the end that is read, and drop the oldest beyond `MAX_QUEUED`."""
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
            pipeline.rpush(queue, dumps(message))  # type: ignore[no-untyped-call]
            pipeline.ltrim(queue, -MAX_QUEUED, -1)
            pipeline.expire(queue, QUEUE_TTL_S)
            pipeline.execute()

    def _size(self, queue: str) -> int:  # noqa: ARG002  kombu asks when it declares a queue; nobody uses the answer
        return 0

    def _queue_bind(self, *_: object) -> None:
        """Write no table: tasks go to their queue by its name."""

    def _brpop_read(self, **options: Any) -> Any:
        """Hand out one task. Whatever lies in the queue, or is said instead of a task, the consumer goes on."""
        known = set(self.qos._delivered)  # noqa: SLF001  see `_drop`
        try:
            handed_out = super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except Empty:
            self._note(None)
            raise
        except ResponseError as error:
            self._note(error)
            self._drop_other_types(error)
            time.sleep(PAUSE_S)
            raise Empty from error
        except (RedisError, OSError):
            raise  # the connection is lost: the consumer connects anew
        except Exception as error:
            LOG.warning("something in the queue is no task, and is dropped: %r", error)
            self._drop(known)
            raise Empty from error
        self._note(None)
        return handed_out

    def _drop(self, known: set[str]) -> None:
        """Acknowledge what was delivered just now, or it would count as running for ever."""
        for tag in set(self.qos._delivered) - known:  # noqa: SLF001  kombu has no other way to name it
            self.qos.ack(tag)

    def _drop_other_types(self, error: ResponseError) -> None:
        """Delete what lies under a queue's name and is not a list: no task could ever pass."""
        if not words_of(error).startswith("WRONGTYPE"):
            return
        for queue in self.active_queues:
            if self.client.type(queue) not in (b"list", b"none"):
                LOG.warning("the key %s of the queue is not a list, and is deleted", queue)
                self.client.delete(queue)

    def _note(self, error: Exception | None) -> None:
        if self.outage is None:
            return
        if error is None:
            self.outage.well(READING)
        else:
            self.outage.failed(READING, error)


class Transport(redis.Transport):
    """The transport of `Channel`. Every error of Redis is one after which it is tried again."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, RedisError)


class Connection(KombuConnection):
    """A connection that is tried again every half second, as long as it takes, and complains to the outage."""

    def ensure_connection(self, errback: Any = None, max_retries: int | None = None, **options: Any) -> Any:
        """See `kombu.Connection`."""
        outage: Outage | None = (self.transport_options or {}).get("outage")

        def note(error: Exception, interval_s: float) -> None:
            if outage is not None:
                outage.failed(READING, error)
            elif errback is not None:
                errback(error, interval_s)

        pauses = {"interval_start": PAUSE_S, "interval_step": 0, "interval_max": PAUSE_S}
        return super().ensure_connection(note, max_retries, **{**options, **pauses})  # type: ignore[no-untyped-call]


class Amqp(CeleryAMQP):  # type: ignore[misc]
    """Celery's messages over these connections."""

    Connection = Connection
