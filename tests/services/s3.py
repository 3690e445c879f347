"""A server that speaks S3: that of moto, in a process of its own; what it holds is in its memory."""

from __future__ import annotations

import socket
import sys
import urllib.request
import uuid
from collections.abc import Sequence

from tests.services.child import Child


class S3Server(Child):
    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(b"GET /moto-api/ HTTP/1.0\r\n\r\n")
                return s.recv(64).startswith(b"HTTP/")
        except OSError:
            return False

    def make_bucket(self) -> str:
        """A new one; its name."""
        name = f"lemo-{uuid.uuid4().hex[:12]}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT"), timeout=10):
            return name
