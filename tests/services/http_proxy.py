"""A proxy before an HTTP server that can fail at any request, before or after it is carried out."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        at: At which request, counted from 1.
        how: The connection is cut, there is no answer, or the answer is a page of this status.
        after: After the server has carried the request out; else it never sees it.
        onwards: At all later ones too.
    """

    at: int
    how: Literal["cut", "stall"] | int
    after: bool = False
    onwards: bool = False


@dataclass
class Proxy:
    """A proxy that runs.

    Attributes:
        upstream: The server behind it.
        fault: What goes wrong.
        seen: Requests since `break_at`: method, path and body.
        stalled: Set while a request waits for an answer that does not come.
    """

    upstream: str
    fault: Fault | None = None
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    _go_on: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: Any = None

    def __enter__(self) -> Proxy:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.break_at(None)
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def break_at(self, fault: Fault | None) -> None:
        """Counts from 1 again, with another fault or none; what stalls is cut."""
        self._go_on.set()
        with self._lock:
            self._go_on, self.stalled = threading.Event(), threading.Event()
            self.fault, self.seen = fault, []

    def count(self, method: str, path: str, body: bytes) -> Fault | None:
        """The fault of this request."""
        with self._lock:
            self.seen.append((method, path, body))
            fault, number = self.fault, len(self.seen)
        hit = fault is not None and (number == fault.at or (fault.onwards and number > fault.at))
        return fault if hit else None

    def stall(self) -> None:
        """Waits until the fault is another."""
        go_on = self._go_on
        self.stalled.set()
        go_on.wait()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.count(self.command, self.path, body)
            answer = None
            if fault is None or fault.after:
                answer = self.forward(body)
            if fault is not None and isinstance(fault.how, int):
                answer = (fault.how, [("Content-Type", "text/html")], b"<html>a page</html>")
            elif fault is not None:
                if fault.how == "stall":
                    proxy.stall()
                self.close_connection = True
                return
            assert answer is not None
            status, headers, content = answer
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(str(urlsplit(proxy.upstream).netloc))
            try:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                kept = [
                    (name, value)
                    for name, value in answer.getheaders()
                    if name.lower() not in ("content-length", "transfer-encoding", "connection")
                ]
                return answer.status, kept, answer.read()
            finally:
                connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    return Handler
