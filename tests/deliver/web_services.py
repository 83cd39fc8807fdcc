"""A DICOMweb service on loopback that answers STOW-RS with what a test says, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread

from dicom_node.settings import WebDestination


@dataclass(frozen=True)
class Answer:
    """What the service says. body: None closes the connection without an answer. headers: more of them."""

    status: int = 200
    body: bytes | None = b""
    media_type: str = "application/dicom+json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Service:
    """A running service. received: the instances, as they were parsed. headers: of each request."""

    url: str
    received: list[Dataset] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)


def listing(dataset: Dataset, *, failure: int | None = None, warning: int | None = None) -> bytes:
    """The Store Instances Response Module (PS3.18 annex I) for one instance."""
    item: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": [dataset.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [dataset.SOPInstanceUID]},
    }
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    if failure is not None:
        item["00081197"] = {"vr": "US", "Value": [failure]}
    tag = "00081199" if failure is None else "00081198"
    return json.dumps({tag: {"vr": "SQ", "Value": [item]}}).encode()


def stored(dataset: Dataset) -> Answer:
    return Answer(200, listing(dataset))


@contextmanager
def web_service(answer: Callable[[Dataset], Answer] = stored, *, path: str = "/dicom-web") -> Iterator[Service]:
    service = Service("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            boundary = self.headers.get_param("boundary") or ""
            part = body.split(f"--{boundary}".encode())[1].split(b"\r\n\r\n", 1)[1]
            dataset = dcmread(BytesIO(part))
            service.received.append(dataset)
            service.headers.append(self.headers)
            self._say(answer(dataset) if self.path == f"{path}/studies" else Answer(404))

        def do_GET(self) -> None:
            service.headers.append(self.headers)
            self._say(answer(Dataset()))

        def _say(self, said: Answer) -> None:
            if said.body is None:
                self.close_connection = True
                return
            self.send_response(said.status)
            for name, value in (("Content-Type", said.media_type), *said.headers):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}{path}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def web_destination(url: str, name: str = "pacs", **options: Any) -> WebDestination:
    return WebDestination(**{"name": name, "url": url, "timeout_seconds": 5, "first_retry_seconds": 10, **options})
