"""Opens the recorder of a proxy's searches, as the configuration wants it."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from es_rerank.proxy.events.buffer import EventBuffer
from es_rerank.proxy.events.recorder import EventRecorder
from es_rerank.store.engine import login_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.settings import Settings

LOG = logging.getLogger(__name__)


@asynccontextmanager
async def open_recorder(settings: Settings) -> AsyncIterator[EventRecorder | None]:
    """The recorder, which writes once it is opened; None where events are off. Connects to nothing yet."""
    if settings.store is None or not settings.events.sample_rate:
        why = "there is no table [store]" if settings.store is None else "events.sample_rate is 0"
        LOG.info("no events are written: %s", why)
        yield None
        return
    # A proxy without events needs no official client.
    from es_rerank.proxy.events.bulk import BulkSender  # noqa: PLC0415
    from es_rerank.proxy.events.writer import EventWriter  # noqa: PLC0415

    upstream, events = settings.upstream, settings.events
    sender = BulkSender(
        upstream.urls,
        login=login_of(settings.store),
        ca_file=upstream.ca_file,
        verify_tls=upstream.verify_tls,
    )
    buffer = EventBuffer(events.max_waiting)
    writer = EventWriter(buffer, sender, flush_s=events.flush_s)
    recorder = EventRecorder(events, buffer, writer, proxy=f"{socket.gethostname()}:{os.getpid()}")
    writer.start()
    try:
        yield recorder
    finally:
        await recorder.stop()
