"""What can go wrong while documents are loaded, by who can act on it.

::

    EsRerankError
    └── IngestError
        ├── CorpusError        the source cannot be read, or holds no document: nothing was loaded
        ├── MappingError       the index body cannot be used: nothing was loaded
        └── LoadStoppedError   the engine stopped taking documents, or the source broke off: some may be loaded

A document that the engine refuses, or a line that is not a document, is never an error here: it is counted.
"""

from __future__ import annotations

from es_rerank.errors import EsRerankError


class IngestError(EsRerankError):
    """Root of the errors that ingest raises itself."""


class CorpusError(IngestError):
    """The source cannot be read or holds no document; the text names the file and what was expected."""


class MappingError(IngestError):
    """The index body cannot be used; the text has the file's or the engine's reason."""


class LoadStoppedError(IngestError):
    """The engine or the source stopped half-way; the text says how many documents are loaded and how to go on."""
