"""What is said of a Redis that does not serve: its own words, each once, and the end of it."""

from __future__ import annotations

import logging

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from es_rerank.outage import MAX_WORDS, Outage, reason_of, words_of


def of_celery(cause: Exception) -> OperationalError:
    """An error as Celery raises it."""
    error = OperationalError(str(cause))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words", "reason"),
    [
        (ResponseError("MISCONF Redis is out of disk"), "MISCONF Redis is out of disk", "redis_refuses"),
        (BusyLoadingError("it loads", status_code="LOADING"), "LOADING it loads", "redis_refuses"),
        (of_celery(ResponseError("OOM command not allowed")), "OOM command not allowed", "redis_refuses"),
        (
            ResponseError("Command # 1 (SET key secret) of pipeline caused error: OOM too much"),
            "OOM too much",
            "redis_refuses",
        ),
        (of_celery(RedisConnectionError("Error 111 connecting")), "Error 111 connecting", "no_redis"),
        (RedisTimeoutError(), "TimeoutError", "no_redis"),
        (OSError("broken pipe"), "broken pipe", "no_redis"),
    ],
)
def test_redis_is_quoted_and_a_refusal_is_told_from_an_absence(error: Exception, words: str, reason: str) -> None:
    """Its code goes first, whichever library took it off; a command, which may hold a document, is left out."""
    assert (words_of(error), reason_of(error)) == (words, reason)


def test_each_words_are_logged_once_and_so_is_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """However many uses fail and how often; after the end, the same words are news again."""
    caplog.set_level(logging.INFO, "es_rerank.outage")
    outage = Outage()
    for _ in range(100):
        outage.failed("reading", ResponseError("LOADING a"))
        outage.failed("writing", ResponseError("LOADING a"))
        outage.failed("writing", ResponseError("OOM b"))
    assert outage.error("reading") is not None
    outage.well("reading")
    assert outage.error("reading") is None
    outage.well("writing")
    outage.well("writing")
    outage.failed("reading", ResponseError("LOADING a"))
    assert [record.message for record in caplog.records] == [
        "Redis refuses: reading fails: LOADING a",
        "Redis refuses: writing fails: OOM b",
        "Redis serves again",
        "Redis refuses: reading fails: LOADING a",
    ]


def test_words_that_never_repeat_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Words with a changing detail are logged so many times and then no more."""
    outage = Outage()
    for number in range(1000):
        outage.failed("reading", ResponseError(f"MOVED {number}"))
    assert len(caplog.records) == MAX_WORDS
