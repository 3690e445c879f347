"""A server that speaks Milvus: that of milvus-lite, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import grpc

from tests.services.child import Child


class MilvusServer(Child):
    """One worker: with more, writers that write at once lose acknowledged rows. After a `start` its collections are not
    loaded."""

    def command(self) -> Sequence[str]:
        program = Path(sys.executable).parent / "milvus-lite"
        where = ["--data-dir", str(self.folder / "data"), "--host", "127.0.0.1", "--port", str(self.port)]
        return [str(program), "server", *where, "--max-workers", "1"]

    def answers(self) -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
            except grpc.FutureTimeoutError:
                return False
            return True
