"""Whether a worker is there for every scorer in use: exit code 0 or 1. The health check of the worker's image.

Asks Redis, as the proxy does: a worker counts once its model is loaded, until its connection is gone.
"""  # noqa: INP001  a script, not a package

from __future__ import annotations

import os
import sys
from pathlib import Path

from redis import Redis

from es_rerank import wire
from es_rerank.settings import load_settings

LIMIT_S = 5


def main(config: Path) -> int:
    """The exit code for the workers of a configuration. Raises SettingsError, redis.RedisError."""
    settings = load_settings(config, os.environ)
    channels = [wire.presence_channel(scorer.fingerprint()) for scorer in settings.used_scorers().values()]
    url = settings.redis.url.get_secret_value()
    with Redis.from_url(url, socket_timeout=LIMIT_S, socket_connect_timeout=LIMIT_S) as redis:
        counts = [count for _, count in redis.pubsub_numsub(*channels)]
    return 0 if all(counts) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
