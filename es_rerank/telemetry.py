"""What is written to standard error: one JSON object a line, never a secret, a query or a document."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from es_rerank.settings import LogSettings

SEARCH_LOG = logging.getLogger("es_rerank.search")
FIELDS = "es_rerank_fields"
QUIET = ("aiohttp", "asyncio", "celery.app.trace", "celery.worker.strategy", "uvicorn.error")
"""Loggers of libraries that say at `info` what only their developers want to know."""


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


def start_logging(settings: LogSettings) -> None:
    """Send every logger's records to standard error as JSON lines. Called once, by a command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def log_event(logger: logging.Logger, level: int, message: str, **fields: Any) -> None:
    """One record with fields of its own."""
    logger.log(level, message, extra={FIELDS: fields})
