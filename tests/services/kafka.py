"""A real Kafka broker: KRaft, one node, a plain listener and one with SASL_SSL, and rights for who logs in there."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.services.child import Child, free_port
from tests.services.maven import classpath, program

VERSION = os.environ.get("LEMO_KAFKA_VERSION") or "4.1.0"
ARTIFACTS = (
    "org.apache.kafka:kafka_2.13:{}", "org.apache.kafka:kafka-tools:{}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)  # fmt: skip
CLUSTER = "TGVtb1Rlc3RDbHVzdGVyMA"
SECRET = "p@ss/word:1"  # a URL must be able to carry it
KEYS_SECRET = "keys-secret"
READY = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # ApiVersions: answered as soon as the broker takes requests

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password={keys}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:lemo
log.dirs={folder}/data
log.retention.ms=-1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


class KafkaBroker(Child):
    """On three free ports, with its data in `folder`. `url` needs no login and may do everything, as may user `lemo` at
    `secure_url`; user `guest` may do nothing. Topics that are asked for come into being by themselves, with one
    partition and the senders' time, as brokers do unless told otherwise. Nothing is lost by age: `forget` is its
    retention."""

    def __init__(self, folder: Path, version: str = VERSION) -> None:
        super().__init__(folder)
        secure, controller = free_port(), free_port()
        self.url = f"kafka://127.0.0.1:{self.port}"
        self.secure_url, self.guest_url = (
            f"kafka://{user}:{quote(SECRET, safe='')}@127.0.0.1:{secure}"
            f"?security=sasl_ssl&mechanism=SCRAM-SHA-256&ca={folder / 'ca.pem'}"
            for user in ("lemo", "guest")
        )
        self._path = classpath(f"kafka-{version}", [a.format(version) for a in ARTIFACTS])
        self._settings = folder / "server.properties"
        values = {"plain": self.port, "secure": secure, "controller": controller, "folder": folder, "keys": KEYS_SECRET}
        self._settings.write_text(PROPERTIES.format(**values))
        _make_keys(folder)
        users = [["--add-scram", f"SCRAM-SHA-256=[name={user},password={SECRET}]"] for user in ("lemo", "guest")]
        run(
            [*self._java("kafka.tools.StorageTool"), "format", "-t", CLUSTER, "-c", str(self._settings), *chain(*users)]
        )

    def command(self) -> Sequence[str]:
        return [*self._java("kafka.Kafka"), str(self._settings)]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as s:
                s.sendall(READY)
                return bool(s.recv(4))
        except OSError:
            return False

    async def forget(self, topic: str, before: Sequence[int]) -> None:
        """What retention does: entries below these positions, one for each partition, are gone."""
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{self.port}")
        await admin.start()
        await admin.delete_records({TopicPartition(topic, p): RecordsToDelete(at) for p, at in enumerate(before)})
        await admin.close()

    def tool(self, main: str, *arguments: str) -> str:
        """What one of Kafka's own commands prints, e.g. org.apache.kafka.tools.consumer.group.ConsumerGroupCommand."""
        return run([*self._java(main), "--bootstrap-server", f"127.0.0.1:{self.port}", *arguments])

    def _java(self, main: str) -> list[str]:
        return [program("java"), "-Xmx256m", "-XX:+UseSerialGC", "-cp", self._path, main]


def _make_keys(folder: Path) -> None:
    store = ["-alias", "broker", "-keystore", str(folder / "broker.p12"), "-storepass", KEYS_SECRET]
    made = ["-storetype", "PKCS12", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1"]
    run([program("keytool"), "-genkeypair", *store, *made, "-validity", "2"])
    run([program("keytool"), "-exportcert", "-rfc", *store, "-file", str(folder / "ca.pem")])


def run(line: Sequence[str]) -> str:
    """What it prints. Raises RuntimeError when it fails."""
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
