"""The internals of other packages that we use: a new version may remove them without notice.

Where one of these tests fails after an update, the code named beside it has to be looked at.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from tomllib import loads

import aiohttp
import pytest
import uvicorn
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from celery.app import defaults
from celery.app.amqp import AMQP
from celery.concurrency.thread import TaskPool
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from kombu.connection import Connection
from kombu.transport import redis, virtual
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.mark.parametrize("package", ["aiohttp", "celery", "httptools", "kombu", "uvicorn"])
def test_their_versions_are_bounded_above(package: str) -> None:
    """A package whose internals we use has a bounded version, so that no version is installed untested."""
    required = loads(PYPROJECT.read_text())["project"]["dependencies"]
    [bounds] = [line.removeprefix(package) for line in required if re.match(rf"{package}[<>=]", line)]
    assert re.fullmatch(r">=[0-9.]+,<0\.[0-9]+|>=[0-9.]+,<[0-9]+\.[0-9]+", bounds), bounds


async def test_aiohttp_for_the_pool() -> None:
    """es_rerank/pool.py: a connection's hooks and state, and how the pool gives one out and takes it back."""
    handler = ResponseHandler(asyncio.get_running_loop())
    assert isinstance(ResponseHandler.should_close, property)
    assert handler._skip_payload is False
    assert list(inspect.signature(handler.feed_data).parameters) == ["data", "size"]
    assert all(callable(getattr(handler, name)) for name in ("abort", "force_close", "data_received"))
    connector = aiohttp.TCPConnector()
    assert isinstance(connector._factory(), ResponseHandler)
    assert list(inspect.signature(connector._release).parameters) == ["key", "protocol", "should_close"]
    assert list(inspect.signature(connector.connect).parameters) == ["req", "traces", "timeout"]
    assert list(inspect.signature(connector._get).parameters) == ["key", "traces"]
    assert list(inspect.signature(connector._release_waiter).parameters) == []
    assert "socket_factory" in inspect.signature(aiohttp.TCPConnector).parameters
    await connector.close()


async def test_aiohttp_for_the_upstream() -> None:
    """es_rerank/upstream.py: how a connection learns of a request, and how its answer is awaited and read."""
    handler = ResponseHandler(asyncio.get_running_loop())
    expected = {
        "skip_payload",
        "read_until_eof",
        "auto_decompress",
        "read_timeout",
        "read_bufsize",
        "max_line_size",
        "max_field_size",
        "max_headers",
    }
    assert expected <= set(inspect.signature(handler.set_response_params).parameters)
    assert all(inspect.iscoroutinefunction(one) for one in (handler.read, handler._drain_helper))
    assert all(callable(one) for one in (handler.start_timeout, handler.set_exception))
    assert {"code", "raw_headers", "headers", "chunked"} <= set(dir(RawResponseMessage))


def test_uvicorn_for_the_protocol() -> None:
    """es_rerank/proxy/http/protocol.py: the hooks, what is known of the request in work, and how its answer begins."""
    hooks = (
        "connection_lost",
        "connection_made",
        "data_received",
        "on_body",
        "on_header",
        "on_headers_complete",
        "on_message_complete",
        "on_response_complete",
        "resume_writing",
        "shutdown",
    )
    assert all(inspect.isfunction(getattr(HttpToolsProtocol, name)) for name in hooks)
    source = inspect.getsource(HttpToolsProtocol.on_message_begin)
    for state in ("url", "headers", "scope", "expect_100_continue"):
        assert f"self.{state} = " in source
    assert list(inspect.signature(HttpToolsProtocol._start_asgi_task).parameters) == ["self", "cycle", "app"]
    assert set(inspect.signature(httptools_impl.RequestResponseCycle.__init__).parameters) == {
        "self",
        "scope",
        "transport",
        "flow",
        "logger",
        "access_logger",
        "access_log",
        "default_headers",
        "message_event",
        "expect_100_continue",
        "keep_alive",
        "on_response",
    }
    source = inspect.getsource(httptools_impl.RequestResponseCycle)
    for state in (
        "disconnected",
        "response_started",
        "response_complete",
        "waiting_for_100_continue",
        "message_event",
        "chunked_encoding",
        "expected_content_length",
    ):
        assert f"self.{state}" in source
    assert source.index("self.response_complete = True") < source.index("self.on_response()")
    assert "if self.chunked_encoding is None and " in source
    assert "if self.expected_content_length != 0:" in source
    assert httptools_impl.STATUS_LINE[400] == b"HTTP/1.1 400 Bad Request\r\n"


def test_uvicorn_for_the_flow_of_bytes() -> None:
    """es_rerank/proxy/http/protocol.py: how reading is paused, and how room to write is awaited."""
    assert all(callable(getattr(FlowControl, name)) for name in ("pause_reading", "resume_reading", "pause_writing"))
    assert inspect.iscoroutinefunction(FlowControl.drain)
    assert all(f"self.{state} = " in inspect.getsource(FlowControl) for state in ("read_paused", "write_paused"))
    assert "self.flow.resume_writing()" in inspect.getsource(HttpToolsProtocol.connection_lost)


def test_uvicorn_for_the_server() -> None:
    """es_rerank/proxy/http/server.py: ten ticks a second, a stop that can be accompanied, and the connections."""
    assert all(inspect.iscoroutinefunction(one) for one in (uvicorn.Server.on_tick, uvicorn.Server.shutdown))
    source = inspect.getsource(uvicorn.Server)
    assert "await asyncio.sleep(0.1)" in inspect.getsource(uvicorn.Server.main_loop)
    assert "config.http_protocol_class(" in source
    assert "connection.shutdown()" in source
    assert ServerState().connections == set()


def test_httptools_for_the_protocol() -> None:
    """es_rerank/proxy/http/protocol.py: how the parser tells of an offered upgrade, and of an error that we raised."""

    class Listener:
        def on_header(self, name: bytes, value: bytes) -> None:
            if name == b"wrong":
                raise KeyError(value)

    parser = HttpRequestParser(Listener())
    head = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    with pytest.raises(HttpParserUpgrade) as caught:
        parser.feed_data(head)
    assert caught.value.args[0] == len(head)
    assert (parser.should_upgrade(), parser.get_http_version()) == (True, "1.1")
    with pytest.raises(HttpParserError) as failed:
        HttpRequestParser(Listener()).feed_data(b"GET / HTTP/1.1\r\nwrong: x\r\n\r\n")
    assert isinstance(failed.value.__context__, KeyError)


def test_kombu_for_the_queue() -> None:
    """es_rerank/transport.py: what a channel writes and reads, where it counts what is delivered, who connects."""
    hooks = {"_put": ["queue", "message"], "_size": ["queue"], "_queue_bind": ["exchange"], "_brpop_read": []}
    for name, parameters in hooks.items():
        assert list(inspect.signature(getattr(redis.Channel, name)).parameters)[1:][: len(parameters)] == parameters
    assert {"ack_emulation", "health_check_interval"} <= set(redis.Channel.from_transport_options)
    assert "brpop" in inspect.getsource(redis.Channel._brpop_start).lower()
    assert "self._delivered = OrderedDict()" in inspect.getsource(virtual.QoS.__init__)
    assert redis.Channel.do_restore is True
    assert {"errback", "max_retries", "interval_start", "interval_step", "interval_max"} <= set(
        inspect.signature(Connection._ensure_connection).parameters
    )
    assert AMQP.Connection is Connection


def test_celery_for_the_worker() -> None:
    """es_rerank/broker.py and workers/pool.py: tasks are not fetched ahead, and a pool's result holds its future."""
    assert "disable_prefetch" in defaults.NAMESPACES["worker"]
    assert ".executor.submit(" in inspect.getsource(TaskPool.on_apply)
    assert "ApplyResult(f)" in inspect.getsource(TaskPool.on_apply)
