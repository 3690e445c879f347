"""TLS to an address that was judged: the certificate must still be that of the name."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ray_app.content.failed import FetchFailed
from tests.unit.content.conftest import Open
from tests.web import Answer, Web


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of news.test, signed by itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "news.test")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("news.test")]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = tmp_path_factory.mktemp("tls") / "news.pem"
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[Web]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    web = Web(context)
    web.pages["/a"] = Answer(b"hello")
    yield web
    web.stop()


def url(web: Web, host: str) -> str:
    return f"https://{host}:{web.port}/a"


async def test_the_name_is_verified_though_the_address_is_connected_to(
    secure: Web, certificate: Path, open_fetcher: Open
) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate))
    fetcher = open_fetcher(verify=trusted, allow_hosts=("news.test", "other.test"))
    assert (await fetcher.get(url(secure, "news.test"))).body == b"hello"
    with pytest.raises(FetchFailed, match="Hostname mismatch") as failed:
        await fetcher.get(url(secure, "other.test"))
    assert not failed.value.again


async def test_a_certificate_that_nobody_vouches_for_is_refused(secure: Web, open_fetcher: Open) -> None:
    with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await open_fetcher().get(url(secure, "news.test"))
    assert secure.asked == []
