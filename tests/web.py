"""A web server in a thread of the test: pages by path, hostile ones too, and what was asked of it."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML, RSS, JSON = "text/html; charset=utf-8", "application/rss+xml", "application/json"


@dataclass(frozen=True)
class Answer:
    """`body`: bytes, or a function that writes them to the socket by itself, after the headers."""

    body: bytes | Callable[[BaseHTTPRequestHandler], None] = b""
    type: str = HTML
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Make = Callable[[BaseHTTPRequestHandler], Answer]


class Web:
    """`pages[path]` is an Answer or what makes one of the request; `asked`: (path, headers) of each request."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Answer | Make] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        """What was asked for, but robots.txt."""
        return [p for p, _ in self.asked if p != "/robots.txt"]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append((self.path, dict(self.headers)))
                found = web.pages.get(self.path, Answer(b"nothing here", status=404))
                with suppress(ConnectionError):
                    _send(self, found if isinstance(found, Answer) else found(self))

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def _send(to: BaseHTTPRequestHandler, answer: Answer) -> None:
    to.send_response(answer.status)
    for name, value in {"Content-Type": answer.type, **answer.headers}.items():
        to.send_header(name, value)
    if isinstance(answer.body, bytes):
        to.send_header("Content-Length", str(len(answer.body)))
    to.end_headers()
    if isinstance(answer.body, bytes):
        to.wfile.write(answer.body)
    else:
        answer.body(to)


def moved(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": to})


def zipped(body: bytes, type: str = HTML) -> Answer:
    return Answer(gzip.compress(body), type, headers={"Content-Encoding": "gzip"})


def endless(to: BaseHTTPRequestHandler) -> None:
    """Until the client goes."""
    while True:
        to.wfile.write(b"<p>and so on</p>" * 4096)
