"""What Redis says where it does not serve: its errors by kind, its own words, and one log line for each of them.

Redis can be gone, or it can answer and refuse: full, read-only, loading, without permission. Both are errors of every
command, so each part that uses Redis tells an `Outage` how its last command went.
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, RedisError, ResponseError

if TYPE_CHECKING:
    from es_rerank.reasons import Gap

LOG = logging.getLogger(__name__)

REDIS_ERRORS = (RedisError, OperationalError, OSError)
"""The errors that Redis's own client and Celery's raise where Redis can't be reached, or refuses."""

REFUSALS = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
# redis-py puts the command before the words of an error in a pipeline; it may hold what must not be logged.
PIPELINE = "of pipeline caused error: "
# Words that hold a changing detail must not fill the log.
MAX_WORDS = 20


def refuses(error: BaseException) -> bool:
    """Whether Redis can be reached, and answered with an error."""
    return isinstance(_cause(error), REFUSALS)


def reason_of(error: BaseException) -> Gap:
    """The word for scores that are missing because of this error of Redis."""
    return "redis_refuses" if refuses(error) else "no_redis"


def words_of(error: BaseException) -> str:
    """What Redis said, its error code first; for a Redis that can't be reached, what the client or system said."""
    cause = _cause(error)
    words = str(cause).rpartition(PIPELINE)[2] or type(cause).__name__
    # redis-py takes the code off the words of errors that it knows.
    code = getattr(cause, "status_code", None)
    return f"{code} {words}" if code and code != "ERR" and not words.startswith(code) else words


class Outage:
    """Which uses of Redis fail now. It logs each new words once, and once that all is well again. Safe for threads.

    A use is named by what fails, such as "reading the queue".
    """

    def __init__(self) -> None:
        self._failing: dict[str, BaseException] = {}
        self._logged: set[str] = set()
        self._lock = Lock()

    def failed(self, use: str, error: BaseException) -> None:
        """Note that a use of Redis failed."""
        words = words_of(error)
        with self._lock:
            self._failing[use] = error
            new = words not in self._logged and len(self._logged) < MAX_WORDS
            if new:
                self._logged.add(words)
        if new:
            LOG.warning("Redis %s: %s fails: %s", "refuses" if refuses(error) else "can't be reached", use, words)

    def well(self, use: str) -> None:
        """Note that a use of Redis went well."""
        if use not in self._failing:
            return
        with self._lock:
            self._failing.pop(use, None)
            ended = not self._failing
            if ended:
                self._logged.clear()
        if ended:
            LOG.info("Redis serves again")

    def error(self, use: str) -> BaseException | None:
        """The error of a use that fails now, else None."""
        return self._failing.get(use)


def _cause(error: BaseException) -> BaseException:
    """Celery's errors hide Redis's own as their cause."""
    return error.__cause__ if isinstance(error, OperationalError) and error.__cause__ is not None else error
