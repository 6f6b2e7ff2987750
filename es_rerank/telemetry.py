"""What is written to standard error: one JSON object a line, never a secret, a query or a document."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import select
import sys
import threading
import time
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.tables import LogSettings

SEARCH_LOG = logging.getLogger("es_rerank.search")
FIELDS = "es_rerank_fields"
# How many lines may wait to be written: they must not fill the memory when standard error takes none.
WAITING_LINES = 10_000
STANDARD_ERROR = 2
# How long a process that ends waits until its last lines are written.
LAST_LINES_S = 5.0
QUIET = ("aiohttp", "asyncio", "celery.app.trace", "celery.worker.strategy", "uvicorn.error")
"""Loggers of libraries that say at `info` what only their developers want to know."""
SILENT = ("elastic_transport", "opensearch", "urllib3")
"""Loggers of the engines' clients: what fails there, we say ourselves, and once; at `debug` they log documents."""


class JsonLines(logging.Formatter):
    """A record as one line of JSON: `time` (UTC), `level`, `logger`, `message`, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{now}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class LineQueue(QueueHandler):
    """Hands records to a thread that writes them, so that no request waits for standard error.

    Where too many wait, records are dropped, and the next line says how many were.
    """

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self._dropped_count = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as it is: it stays in this process, and the formatter needs its exception."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """See `logging.handlers.QueueHandler`."""
        try:
            if self._dropped_count:
                said = {"msg": f"{self._dropped_count} log lines were dropped: standard error is too slow"}
                self.queue.put_nowait(logging.makeLogRecord({**said, "name": __name__, "levelno": logging.WARNING}))
                self._dropped_count = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped_count += 1


class LineWriter:
    """The thread that writes the waiting records: as JSON lines, by `write`.

    It is no handler, whose lock a standard error that is stuck would keep from those who end the process.
    """

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None], write: Callable[[bytes], object]) -> None:
        self._waiting = waiting
        self._write = write
        self._lines = JsonLines()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, and end; don't wait long for a standard error that is stuck."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=LAST_LINES_S)
            self._thread.join(LAST_LINES_S)

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            # A line that can't be made, or that nobody reads any more, must not end the thread.
            with contextlib.suppress(Exception):
                self._write(self._lines.format(record).encode() + b"\n")


def write_to_standard_error(line: bytes) -> None:
    """Write a line, past Python's own buffer and its lock. Waits while there is no room. Raises OSError."""
    while line:
        try:
            line = line[os.write(STANDARD_ERROR, line) :]
        except BlockingIOError:
            select.select([], [STANDARD_ERROR], [])


def start_logging(settings: LogSettings, *, queued: bool = False) -> None:
    """Send every logger's records to standard error as JSON lines. Called once, by a command.

    With `queued` a thread writes them, until the process ends.
    """
    handler: logging.Handler
    if queued:
        waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING_LINES)
        writer = LineWriter(waiting, write_to_standard_error)
        handler = LineQueue(waiting)
        writer.start()
        atexit.register(writer.stop)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def log_event(logger: logging.Logger, level: int, message: str, **fields: Any) -> None:
    """Log one record with fields of its own."""
    logger.log(level, message, extra={FIELDS: fields})
