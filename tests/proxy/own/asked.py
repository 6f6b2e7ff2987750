"""A proxy with a store before an engine, asked over HTTP as a person in Dev Tools asks it."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conftest import Engine, System, send_json
from tests.proxy.own.system import await_store

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ENGINES = ("osmem", "opensearch", "elasticsearch")
LISTS = "/_es_rerank/judgments"
RULE = '[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'
LOGIN = base64.b64encode(b"ann:hush-hush").decode()


class Answer(NamedTuple):
    """An answer of the proxy: status, media type, and body as text."""

    status: int
    media_type: str
    text: str

    @property
    def value(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return str(self.value["error"]["reason"])


class Asked(NamedTuple):
    """A proxy with a store before an engine."""

    system: System
    engine: Engine

    def __call__(self, method: str, path: str, body: Any = None, *, authorization: str = f"Basic {LOGIN}") -> Answer:
        """What the proxy answers, to Ann unless it is said otherwise. A body that is no text is sent as JSON."""
        if body is not None and not isinstance(body, str):
            body = json.dumps(body)
        headers = {"content-type": "application/json", "authorization": authorization}
        data = None if body is None else body.encode()
        request = urllib.request.Request(f"{self.system.url}{path}", data, headers, method=method)
        try:
            reply = urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            text = reply.read()
            if reply.headers["content-encoding"] == "gzip":
                text = gzip.decompress(text)
            return Answer(reply.status, reply.headers["content-type"], text.decode())

    def keep(self, key: str, **fields: Any) -> None:
        """Index a document as somebody does in Dev Tools."""
        send_json(f"{self.engine.url}/es-rerank-judgments/_doc/{key}?refresh=true", fields, method="PUT")


def asked_on(name: str, request: pytest.FixtureRequest, run_system: Callable[..., System]) -> Asked:
    """A proxy with a store before the engine of this name."""
    url = request.getfixturevalue("osmem_url") if name == "osmem" else request.getfixturevalue(name).url
    system = run_system(url, extra=RULE, upstream="[store]\n")
    await_store(url)
    return Asked(system, Engine(name, url))
