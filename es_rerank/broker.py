"""Redis and Celery as proxy and worker use them: one place for time-outs, retries and features that are turned off.

Nothing here connects; that happens with the first use.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from celery import Celery
from redis import Redis as SyncRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry as SyncRetry

from es_rerank.transport import Amqp, Transport

if TYPE_CHECKING:
    from es_rerank.outage import Outage
    from es_rerank.tables import RedisSettings

# A command that finds all connections in use waits for one, as long as a command may take.
MAX_CONNECTIONS = 128
# A consumer whose Redis says nothing for so long connects anew.
SILENCE_S = 5


def make_redis(settings: RedisSettings, *, longest_block_s: float = 0.0) -> Redis:
    """A client for bytes whose every command ends within `timeout_s`, plus what a blocking command may block.

    A command is retried once, without a pause, where the connection was lost (Redis restarted); never after a time-out.
    """
    timeout_s = settings.timeout_s
    pool = BlockingConnectionPool.from_url(
        settings.url.get_secret_value(),
        max_connections=MAX_CONNECTIONS,
        timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s + longest_block_s,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


def make_sync_redis(settings: RedisSettings) -> SyncRedis:
    """A client for bytes that blocks its thread, at most `timeout_s` a command, for threads without an event loop.

    It retries as `make_redis` does. Any number of threads may share it.
    """
    return SyncRedis.from_url(
        settings.url.get_secret_value(),
        socket_connect_timeout=settings.timeout_s,
        socket_timeout=settings.timeout_s,
        retry=SyncRetry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


def make_celery(settings: RedisSettings, outage: Outage | None = None) -> Celery:
    """The Celery application, for sending and for serving. A consumer tells the outage how Redis is.

    A message that can't be sent at once raises one of `REDIS_ERRORS`, and is not sent later.
    """
    url = settings.url.get_secret_value()
    app = Celery("es_rerank", broker=url, amqp=Amqp, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport=Transport,
        broker_transport_options={
            "health_check_interval": SILENCE_S,
            "max_retries": 0,
            "outage": outage,
            "socket_connect_timeout": settings.timeout_s,
            "socket_timeout": settings.timeout_s,
        },
        # Celery would not check the server's certificate. What the URL's query says about that goes first.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss:") else None,
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        # For tasks that are acknowledged late, which ours are not; without it, a lost connection logs a deprecation.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # A task is fetched when it can be served at once, so that none waits here while another worker is idle.
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app
