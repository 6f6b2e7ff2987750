"""A way to an engine that can be shut and opened again, as if the engine were stopped and started."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

BLOCK_BYTES = 1 << 16


class Gate:
    """Forwards connections to a port of this machine, while it is open, as it is at first."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._wires: list[socket.socket] = []
        self._listener = self._listen(0)
        self._is_open = True
        self.port: int = self._listener.getsockname()[1]

    def set(self, *, is_open: bool) -> None:
        """Take connections on the port; or break all that there are, and refuse new ones."""
        if is_open and not self._is_open:
            self._listener = self._listen(self.port)
        elif self._is_open and not is_open:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # or a thread that waits for callers takes one more
            self._listener.close()
            for wire in self._wires:
                with suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)
            self._wires = []
        self._is_open = is_open

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            engine = socket.create_connection(("127.0.0.1", self._to))
            for wire in (caller, engine):
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wires += [caller, engine]
            for source, sink in ((caller, engine), (engine, caller)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket) -> None:
        with source, suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                sink.sendall(block)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
