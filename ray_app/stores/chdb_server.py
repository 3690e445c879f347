"""chDB behind the HTTP interface of ClickHouse, so that clickhouse-connect works unchanged.

`python -m ray_app.stores.chdb_server --path DIR --port N`. It ends when the process that started it has ended.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

# What the client sends beside settings of the engine.
NOT_SETTINGS = {
    "query", "database", "query_id", "session_id", "session_timeout", "session_check", "compress", "decompress",
    "client_protocol_version", "user", "password", "default_format", "wait_end_of_query", "buffer_size", "role",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression",
    "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
INSERT = re.compile(rb"\s*(INSERT\s+INTO\s.*?)\s+FORMAT\s+(\w+)\s*?\n", re.IGNORECASE | re.DOTALL)
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Engine:
    """One handle per connection thread: a handle does one query at a time."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._first = chdb.connect(self._path)  # keeps the engine up between connections

    def handle(self) -> Any:
        return chdb.connect(self._path)


def run(handle: Any, body: bytes, params: dict[str, str]) -> bytes:
    """One request: settings, the statement, and the settings back to their defaults.

    Parameters go with the statement: set on the handle, the next statement would find them too.
    """
    known = {k: v for k, v in params.items() if k not in NOT_SETTINGS and WORD.fullmatch(k)}
    given = {k.removeprefix("param_"): v for k, v in known.items() if k.startswith("param_")}
    settings = {k: v for k, v in known.items() if not k.startswith("param_")}
    sql, data = _split(params.get("query", ""), body)
    for k, v in settings.items():
        handle.query(f"SET {k} = {_quote(v)}")
    try:
        if data is None:
            return _bytes(handle.query(sql, "TabSeparated", params=given))
        return _insert(handle, sql, data)
    finally:
        for k in settings:
            handle.query(f"SET {k} = DEFAULT")


def _split(query: str, body: bytes) -> tuple[str, bytes | None]:
    """(statement, rows to insert): the statement stands in the URL or before the data."""
    whole = query.encode() + b"\n" + body if query else body
    if found := INSERT.match(whole):
        return f"{found[1].decode()} FROM INFILE {{file}} FORMAT {found[2].decode()}", whole[found.end() :]
    return whole.decode().strip(), None


def _insert(handle: Any, sql: str, data: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(data)
        file.flush()
        return _bytes(handle.query(sql.replace("{file}", _quote(file.name)), "TabSeparated"))


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bytes(result: Any) -> bytes:
    return bytes(result.bytes()) if result is not None and result.bytes() is not None else b""


def _lz4(body: bytes) -> bytes:
    """Every frame: decoding the first alone loses most of a large insert."""
    out = []
    while body:
        decoder = lz4.frame.LZ4FrameDecompressor()
        out.append(decoder.decompress(body))
        body = decoder.unused_data or b""
    return b"".join(out)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is two writes: the second would wait for the other side's delayed ack
    engine: Engine

    def setup(self) -> None:
        super().setup()
        self._handle = self.engine.handle()
        self._database = "default"

    def finish(self) -> None:
        super().finish()
        self._handle.close()

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            return self._answer(200, b"Ok.\n")
        return self._query(b"")

    def do_POST(self) -> None:
        body = self._body()
        encoding = self.headers.get("Content-Encoding", "")
        if encoding not in ("", "lz4"):
            return self._answer(415, f"encoding {encoding!r} is unknown; allowed: lz4".encode())
        return self._query(_lz4(body) if encoding else body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _query(self, body: bytes) -> None:
        params = dict(parse_qsl(urlsplit(self.path).query, True))
        try:
            self._use(params.get("database") or "default")
            self._answer(200, run(self._handle, body, params))
        except Exception as e:  # the engine has one exception for all, and its text is the answer
            self._answer(500, str(e).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Server-Display-Name", "chdb")
        if status == 500:
            self.send_header("X-ClickHouse-Exception-Code", "1000")
        self.end_headers()
        self.wfile.write(body)

    def _use(self, database: str) -> None:
        if database != self._database:
            self._handle.query("USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`")
            self._database = database

    def log_message(self, format: str, *args: Any) -> None:
        """Errors are in the answers; a line for each request would only fill the disk."""


def follow_parent(parent: int) -> None:
    """End with the process that started us; PR_SET_PDEATHSIG would end us with its thread."""
    while os.getppid() == parent:
        time.sleep(0.5)  # nothing signals an orphan that its parent has gone
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    threading.Thread(target=follow_parent, args=(os.getppid(),), daemon=True).start()
    asked.path.mkdir(parents=True, exist_ok=True)
    Handler.engine = Engine(asked.path)
    server = ThreadingHTTPServer(("127.0.0.1", asked.port), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
