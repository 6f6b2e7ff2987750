"""The engine that does as it is told, as in the tests of `ingest`."""

from __future__ import annotations

from tests.ingest.conftest import certificate_file, fake_engine, fake_tls_engine

__all__ = ["certificate_file", "fake_engine", "fake_tls_engine"]
