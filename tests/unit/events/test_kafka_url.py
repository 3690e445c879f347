"""What may stand in events.kafka_url, and that its password stands nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.errors import InvalidSettings
from ray_app.events.kafka_url import Connection, parse


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("kafka://a:9092", Connection(("a:9092",))),
        ("a:9092", Connection(("a:9092",))),
        ("a:9092, b:9093", Connection(("a:9092", "b:9093"))),
        ("kafka://a:9092,b:9092/", Connection(("a:9092", "b:9092"))),
        ("kafka://[::1]:9092", Connection(("[::1]:9092",))),
        ("kafka://a:9092?security=ssl&ca=/x/ca.pem", Connection(("a:9092",), "ssl", ca="/x/ca.pem")),
        (
            "kafka://a:9092?security=SSL&cert=/x/c.pem&key=/x/k.pem",
            Connection(("a:9092",), "ssl", cert="/x/c.pem", key="/x/k.pem"),
        ),
        ("kafka://u:p@a:9092", Connection(("a:9092",), "sasl_ssl", "SCRAM-SHA-256", "u", "p")),
        ("u:p@a:9092,b:9092", Connection(("a:9092", "b:9092"), "sasl_ssl", "SCRAM-SHA-256", "u", "p")),
        (
            "kafka://u%40x:p%40%2F%3A%3F1@a:9092?security=sasl_plaintext&mechanism=plain",
            Connection(("a:9092",), "sasl_plaintext", "PLAIN", "u@x", "p@/:?1"),
        ),
    ],
)
def test_what_is_understood(url: str, wanted: Connection) -> None:
    assert parse(url) == wanted


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://a:9092", "begins with 'http'"),
        ("", "names the broker ''"),
        ("kafka://", "names the broker ''"),
        ("kafka://a", "names the broker 'a', which is not host:port"),
        ("kafka://a:9092,", "names the broker ''"),
        ("kafka://a:0", "names the broker 'a:0'"),
        ("kafka://a:99999", "names the broker 'a:99999'"),
        ("kafka://a:port", "names the broker 'a:port'"),
        ("kafka://a:9092?security=tls", "security=tls; known: plaintext, ssl, sasl_plaintext, sasl_ssl"),
        ("kafka://u:s3cret@a:9092?mechanism=GSSAPI", "mechanism=GSSAPI; known: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ("kafka://u:s3cret@a:9092?verify=no", "the option 'verify'; known: security, mechanism, ca, cert, key"),
        ("kafka://a:9092?security=sasl_ssl", "security=sasl_ssl and no user; it needs a user and a password"),
        ("kafka://u:s3cret@a:9092?security=ssl", "security=ssl and a user; it needs security=sasl_ssl"),
        ("kafka://u:s3cret/x@a:9092,b", "names the broker 'b'"),
    ],
)
def test_what_is_refused_and_why(url: str, why: str) -> None:
    with pytest.raises(InvalidSettings) as e:
        parse(url)
    assert why in e.value.message
    assert e.value.message.startswith("setting events.kafka_url ")
    assert "s3cret" not in e.value.message + str(e.value.metadata)


def test_the_password_is_not_shown() -> None:
    connection = parse("kafka://u:s3cret@a:9092,b:9092")
    assert connection.shown == "kafka://a:9092,b:9092"
    assert "s3cret" not in repr(connection)
    assert connection.arguments["sasl_plain_password"] == "s3cret"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        if content is not None:
            (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(InvalidSettings, match=r"ca\.pem, which cannot be read as PEM"):
            _ = parse(f"kafka://a:9092?security=ssl&ca={tmp_path / 'ca.pem'}").arguments
