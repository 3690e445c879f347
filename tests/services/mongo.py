"""A real peer for the document store: mongo-java-server in memory, which speaks MongoDB's own protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.services.child import Child
from tests.services.maven import classpath, compiled, program

ARTIFACT = "de.bwaldvogel:mongo-java-server-memory-backend:1.47.0"

# Its own main class announces a protocol too old for pymongo, and never returns after --help.
LAUNCHER = """
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

public class LemoMongo implements MongoVersion {
    public List<Integer> getVersionArray() { return List.of(5, 0, 0); }
    public int getWireVersion() { return 13; }

    public static void main(String[] arguments) throws Exception {
        MongoServer server = new MongoServer(new MemoryBackend().version(new LemoMongo()));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
        System.out.println("listens on port " + arguments[0]);
        Thread.currentThread().join();
    }
}
"""


class MongoServer(Child):
    """It comes back empty after `kill`: what it holds lies in its memory alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self._path = compiled("mongo", "LemoMongo", LAUNCHER, classpath("mongo", [ARTIFACT]))

    def command(self) -> Sequence[str]:
        java = [program("java"), "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += ["-Dio.netty.eventLoopThreads=1"]  # it locks nothing: with two, updates are not atomic
        return [*java, "-cp", self._path, "LemoMongo", str(self.port)]

    def answers(self) -> bool:
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        with MongoClient(self.url, serverSelectionTimeoutMS=1000) as client:  # type: ignore[var-annotated]
            try:
                return bool(client.admin.command("ping"))
            except PyMongoError:
                return False
