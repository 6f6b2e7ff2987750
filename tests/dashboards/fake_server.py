"""A tiny Kibana or OpenSearch Dashboards: the import of saved objects, with what each demands and says."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

# The newest versions that OpenSearch Dashboards 2.13 knows.
NEWEST = {"index-pattern": (7, 6, 0), "visualization": (7, 10, 0), "search": (7, 9, 3), "dashboard": (7, 9, 3)}
# The keys of its strict mappings, as it creates them; an index pattern's mapping is not strict.
KEYS = {
    "dashboard": {
        *("title", "description", "hits", "version", "timeRestore", "timeFrom", "timeTo", "refreshInterval"),
        *("optionsJSON", "panelsJSON", "kibanaSavedObjectMeta"),
    },
    "visualization": {
        *("title", "description", "version", "visState", "uiStateJSON", "savedSearchRefName", "kibanaSavedObjectMeta"),
    },
    "search": {"title", "description", "hits", "version", "columns", "sort", "kibanaSavedObjectMeta"},
    "index-pattern": {"title", "timeFieldName", "fields", "fieldFormatMap"},
}
XSRF = {"kibana": "kbn-xsrf", "opensearch": "osd-xsrf"}
PATH = re.compile(r"^/base(?:/s/(?P<space>[^/]+))?/api/saved_objects/_import$")


@dataclass(kw_only=True)
class FakeServer:
    """What it is, who may enter, and what was imported: by space or tenant, then by type and id."""

    product: Literal["kibana", "opensearch"]
    authorization: str | None = None
    forbids: bool = False
    has: dict[str, dict[tuple[str, str], Any]] = field(default_factory=dict)
    requests: int = 0
    url: str = ""

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to a POST."""
        self.requests += 1
        parts = urlsplit(path)
        found = PATH.match(parts.path)
        if found is None or (found["space"] and self.product == "opensearch"):
            return refused(404, "Not Found", "Not Found")
        if self.authorization and headers.get("authorization") != self.authorization:
            return refused(401, "Unauthorized", "Authentication required")
        if XSRF[self.product] not in headers:
            return refused(400, "Bad Request", f"Request must contain a {XSRF[self.product]} header.")
        if self.forbids:
            return refused(403, "Forbidden", "Unable to bulk_create dashboard")
        name, content = file_in(headers["content-type"], body)
        if not name.endswith(".ndjson"):
            return refused(400, "Bad Request", f"Invalid file extension .{name.rpartition('.')[2]}")
        place = self.has.setdefault(found["space"] or headers.get("securitytenant", "default"), {})
        overwrite = parse_qs(parts.query).get("overwrite") == ["true"]
        return self._take([json.loads(line) for line in content.splitlines()], place, overwrite=overwrite)

    def _take(self, objects: list[Any], place: dict[tuple[str, str], Any], *, overwrite: bool) -> tuple[int, Any]:
        for one in objects:
            version = one["migrationVersion"][one["type"]]
            newest = NEWEST[one["type"]]
            if tuple(map(int, version.split("."))) > newest:
                last = ".".join(map(str, newest))
                return refused(
                    422,
                    "Unprocessable Entity",
                    f'Document "{one["id"]}" has property "{one["type"]}" which belongs to a more recent version of '
                    f"OpenSearch Dashboards [{version}]. The last known version is [{last}]",
                )
        known = {(one["type"], one["id"]) for one in objects} | set(place)
        errors = [error for one in objects if (error := self._wrong(one, known, place, overwrite=overwrite))]
        if not errors:
            place.update({(one["type"], one["id"]): one for one in objects})
        return 200, {"success": not errors, "successCount": len(objects) - len(errors), "errors": errors}

    def _wrong(self, one: Any, known: Any, place: Any, *, overwrite: bool) -> dict[str, Any] | None:
        error: dict[str, Any] = {}
        missing = [there for there in one["references"] if (there["type"], there["id"]) not in known]
        if missing:
            error = {"type": "missing_references", "references": missing}
        elif (one["type"], one["id"]) in place and not overwrite:
            error = {"type": "conflict"}
        elif strange := set(one["attributes"]) - KEYS[one["type"]]:
            text = f"dynamic introduction of [{min(strange)}] within [{one['type']}] is not allowed"
            error = {"type": "unknown", "statusCode": 400, "message": f"mapping set to strict, {text}"}
        return {"id": one["id"], "type": one["type"], "error": error} if error else None


def refused(status: int, error: str, message: str) -> tuple[int, dict[str, Any]]:
    """An error as both servers write it."""
    return status, {"statusCode": status, "error": error, "message": message}


def file_in(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Name and content of the file in a form."""
    message = BytesParser(policy=HTTP).parsebytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body)
    [part] = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "file"
    name, content = part.get_filename(), part.get_payload(decode=True)
    assert name is not None
    assert isinstance(content, bytes)
    return name, content


@contextmanager
def serving(server: FakeServer, *, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    """The server on a port of this machine, at `server.url`, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, answer = server.answer(self.path, self.headers, body)
            self.say(status, json.dumps(answer).encode())

        def say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{http.server_port}/base"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
