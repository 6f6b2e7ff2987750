"""Everything that can go wrong, by who can act on it.

::

    EsRerankError
    ├── CallerError       the request asks something of es-rerank that is not allowed: HTTP 4xx, 501 or 503
    ├── SettingsError     the configuration is wrong: the start stops
    ├── EngineError       an official client found no engine that we know, or it refuses us: the command ends
    └── UpstreamError     no answer came from the engine: HTTP 502, 504 or 508

An answer of the engine, whatever its status, is never an error here: it is relayed. Late or missing scores are not
errors either: they are gaps, with a reason.
"""

from __future__ import annotations


class EsRerankError(Exception):
    """Root of every error that es-rerank raises on purpose. Its text is written for people."""


class CallerError(EsRerankError):
    """The caller asked something of es-rerank that is not allowed; the text names the field and what is allowed.

    `status` is what our own answer carries: 400, 401 without a key, 404 for what does not exist, 408 for a body that
    did not come, 409 for a change that another one has overtaken, 413 for a body that is too long, 417 for an `Expect`
    that nobody meets, 429 where too much is asked at a time, 501 for what this installation can't do, or 503 for what
    can't be done now. `kind` is the engine's name for such an error, '' for the usual one of the status.
    """

    def __init__(self, message: str, *, status: int = 400, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class SettingsError(EsRerankError):
    """The configuration cannot be used; the text names the key, its value and what is allowed."""


class EngineError(EsRerankError):
    """No engine that we know takes the requests of an official client at the URL; the text says what to check."""


class UpstreamError(EsRerankError):
    """No answer came from any engine host.

    `status` is what our own answer carries: 502, 504 for a time-out, or 508 where the way leads back to this proxy.
    `detail` is for the log alone, since it may tell where the engine is.
    """

    def __init__(self, message: str, *, status: int = 502, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
