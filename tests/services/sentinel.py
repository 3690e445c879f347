"""A Redis master, its replica, and the Sentinel that puts one in the other's place: real programs on free ports."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import redis

from tests.services.child import Child
from tests.services.redis import DEBIAN, DURABLE, RedisPeer, program

MASTER = "mymaster"
REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


class SentinelPeer(Child):
    """It keeps what it knows in its own settings file. `password`: of the servers and of itself; "" for none."""

    def __init__(self, folder: Path, which: str, master: int, down_after_s: float, password: str) -> None:
        super().__init__(folder)
        self._program, self._password = program(which), password
        lines = [
            f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", f"sentinel monitor {MASTER} 127.0.0.1 {master} 1",
            f"sentinel down-after-milliseconds {MASTER} {int(down_after_s * 1000)}",
            f"sentinel failover-timeout {MASTER} 3000",
        ]  # fmt: skip
        if password:
            lines += [f'sentinel auth-pass {MASTER} "{password}"', f'requirepass "{password}"']
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str]:
        return [self._program, str(self.folder / "sentinel.conf"), "--sentinel"]

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, socket_timeout=1, password=self._password or None)

    def master(self) -> int:
        """The port of whom it names."""
        with self.client() as client:
            return int(client.sentinel_master(MASTER)["port"])

    def replicas_that_could_follow(self) -> int:
        """How many it could put in the master's place, as far as it has heard."""
        with self.client() as client:
            return sum(one["master-link-status"] == "ok" for one in client.sentinel_slaves(MASTER))


class SentinelSet:
    """`which` program runs all three. A master that is away for `down_after_s` is replaced by the replica."""

    def __init__(self, folder: Path, which: str = DEBIAN, down_after_s: float = 0.5, password: str = "") -> None:
        folders = [folder / name for name in ("first", "second", "sentinel")]
        for one in folders:
            one.mkdir(parents=True)
        login = ("--requirepass", password, "--masterauth", password) if password else ()
        options = (*DURABLE, *REPLICATION, *login)
        self.first = RedisPeer(folders[0], which, options)
        self.second = RedisPeer(folders[1], which, (*options, "--replicaof", "127.0.0.1", str(self.first.port)))
        self.sentinel = SentinelPeer(folders[2], which, self.first.port, down_after_s, password)
        self._password, coded = password, quote(password, safe="")
        user, query = (f":{coded}@", f"?sentinel_password={coded}") if password else ("", "")
        self.url = f"sentinel://{user}127.0.0.1:{self.sentinel.port}/{MASTER}/2{query}"

    def start(self) -> None:
        """Returns when the Sentinel knows a replica that follows. Does nothing for those that run."""
        for one in (self.first, self.second, self.sentinel):
            one.start()
        _until("the Sentinel knows a replica", lambda: self.sentinel.replicas_that_could_follow() == 1)

    def kill_replica(self) -> None:
        """Returns when the master knows that it has none."""
        self.second.kill()
        with redis.Redis(port=self.first.port, protocol=2, password=self._password or None) as master:
            _until("the master has no replica", lambda: not master.info("replication")["connected_slaves"])

    def kill(self) -> None:
        for one in (self.sentinel, self.second, self.first):
            one.kill()


def _until(what: str, true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {timeout_s} s it is not so that {what}")
        time.sleep(0.02)  # a poll of another process, not a race
